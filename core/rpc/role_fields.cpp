#include "core/rpc/role_fields.hpp"

namespace banger::rpc {

namespace {
constexpr std::string_view unit_words[] = {"none", "bytes", "items"};
constexpr std::string_view level_words[] = {"debug", "info", "warning", "error"};

template <class Enum, std::size_t count>
std::optional<Enum> find_word(const std::string_view (&words)[count], std::string_view word) {
    for (std::size_t i = 0; i < count; ++i)
        if (words[i] == word) return static_cast<Enum>(i);
    return std::nullopt;
}
}  // namespace

std::string_view EnumText<Progress::Unit>::to_text(Progress::Unit unit) {
    return unit_words[static_cast<std::size_t>(unit)];
}
std::optional<Progress::Unit> EnumText<Progress::Unit>::parse(std::string_view word) {
    return find_word<Progress::Unit>(unit_words, word);
}

std::string_view EnumText<LogLevel>::to_text(LogLevel level) {
    return level_words[static_cast<std::size_t>(level)];
}
std::optional<LogLevel> EnumText<LogLevel>::parse(std::string_view word) {
    return find_word<LogLevel>(level_words, word);
}

Json Codec<SettingValue>::encode(const SettingValue& value) {
    return std::visit([](const auto& each) { return rpc::encode(each); }, value);
}

Result<SettingValue> Codec<SettingValue>::decode(const Json& json, const Place& place) {
    if (const bool* value = json.if_bool()) return SettingValue(*value);
    if (const std::int64_t* value = json.if_integer()) return SettingValue(*value);
    if (const std::string* value = json.if_text()) return SettingValue(*value);
    if (json.if_list() != nullptr)
        return SettingValue(BANGER_TRY(Codec<std::vector<std::string>>::decode(json, place)));
    return place.refuse_kind("true, false, an integer, a text or a list of texts", json);
}

}  // namespace banger::rpc

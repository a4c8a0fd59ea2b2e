#include "core/config/toml_place.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "core/base/names.hpp"

namespace banger::config {

namespace {

struct Unit {
    char letter;
    std::int64_t seconds;
};
constexpr Unit units[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
constexpr std::int64_t longest_seconds = 3650 * std::int64_t{86400};

/// Units from large to small, each at most once: "1h30m". Nothing for anything else.
std::optional<std::int64_t> parse_duration(std::string_view text) {
    std::int64_t total = 0;
    std::size_t next_unit = 0;
    while (!text.empty()) {
        std::int64_t count = 0;
        const auto [stop, status] = std::from_chars(text.data(), text.data() + text.size(), count);
        const auto digits = static_cast<std::size_t>(stop - text.data());
        if (status != std::errc() || text.front() == '-' || digits == text.size())
            return std::nullopt;
        while (next_unit < std::size(units) && units[next_unit].letter != *stop)
            ++next_unit;
        if (next_unit == std::size(units) || count > longest_seconds / units[next_unit].seconds)
            return std::nullopt;
        total += count * units[next_unit++].seconds;
        text.remove_prefix(digits + 1);
    }
    if (total <= 0 || total > longest_seconds) return std::nullopt;
    return total;
}

std::string_view type_name(const toml::node& node) {
    switch (node.type()) {
        case toml::node_type::table:
            return "a table";
        case toml::node_type::array:
            return "a list";
        case toml::node_type::string:
            return "text";
        case toml::node_type::integer:
            return "a whole number";
        case toml::node_type::floating_point:
            return "a number with a fraction";
        case toml::node_type::boolean:
            return "true or false";
        default:
            return "a date or time";
    }
}

}  // namespace

Source Place::source() const { return {Source::Kind::file, file, node.source().begin.line}; }

Error Place::refuse(std::string_view complaint, std::string remedy) const {
    return {Errc::invalid_argument, source().text() + ": `" + key + "` " + std::string(complaint),
            std::move(remedy)};
}

Error Place::refuse(const Error& error) const {
    return {Errc::invalid_argument, source().text() + ": `" + key + "`: " + error.message,
            error.remedy};
}

Place Place::part(const toml::node& inner, std::string_view suffix) const {
    return {inner, key + std::string(suffix), file, context};
}

Result<std::string> text_of(const Place& place) {
    if (const toml::value<std::string>* text = place.node.as_string()) return text->get();
    return place.refuse("is " + std::string(type_name(place.node)) + " and should be text",
                        "Put the value in quotes: " + place.key + " = \"…\".");
}

Result<std::int64_t> integer_of(const Place& place, std::int64_t least, std::int64_t most) {
    const std::string range =
        "Use a whole number from " + std::to_string(least) + " to " + std::to_string(most) + ".";
    const toml::value<std::int64_t>* const number = place.node.as_integer();
    if (!number)
        return place.refuse(
            "is " + std::string(type_name(place.node)) + " and should be a whole number", range);
    if (number->get() < least || number->get() > most)
        return place.refuse("is " + std::to_string(number->get()), range);
    return number->get();
}

Result<ByteCount> size_of(const Place& place) {
    if (!place.node.is_integer()) return parsed<ByteCount>(place);
    constexpr std::int64_t most_mib = (std::int64_t{1} << 43) - 1;  // still under 2^63 bytes
    const std::int64_t mib = BANGER_TRY(integer_of(place, 1, most_mib));
    return ByteCount::mib(static_cast<std::uint64_t>(mib));
}

Result<std::chrono::seconds> duration_of(const Place& place) {
    const std::string text = BANGER_TRY(text_of(place));
    if (const std::optional<std::int64_t> seconds = parse_duration(text))
        return std::chrono::seconds(*seconds);
    return place.refuse(banger::quoted(text) + " is not a duration",
                        "Write a time such as \"10s\", \"5m\", \"1h30m\" or \"2d\".");
}

std::string duration_text(std::chrono::seconds duration) {
    std::int64_t left = duration.count();
    std::string text;
    for (const Unit& unit : units) {
        if (left >= unit.seconds) text += std::to_string(left / unit.seconds) + unit.letter;
        left %= unit.seconds;
    }
    return text;
}

Result<std::string> path_of(const Place& place) {
    const std::string text = BANGER_TRY(text_of(place));
    const auto is_control = [](char c) {
        return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    };
    if (std::ranges::any_of(text, is_control))
        return place.refuse(banger::quoted(text) + " has control characters",
                            "Write a plain path.");
    std::string path = text;
    if (text.starts_with("~/")) path = place.context.home + text.substr(1);
    if (!path.starts_with('/') || path.ends_with('/'))
        return place.refuse(banger::quoted(text) + " is not the absolute path of a file",
                            "Write a path that begins with / or ~/.");
    return std::filesystem::path(path).lexically_normal().string();
}

Result<std::string> plugin_name_of(const Place& place) {
    const PluginName name = BANGER_TRY(parsed<PluginName>(place));
    return name.str();
}

Result<std::vector<std::string>> plugin_names_of(const Place& place) {
    const toml::array* const list = place.node.as_array();
    if (!list || list->empty())
        return place.refuse(
            list ? "is empty" : "is not a list",
            "Write a list of plugin names: [\"catalog\", \"image-debian\", \"image-oci\"].");
    std::vector<std::string> names;
    for (const toml::node& element : *list) {
        const Place part = place.part(element, "[" + std::to_string(names.size()) + "]");
        std::string name = BANGER_TRY(plugin_name_of(part));
        if (std::ranges::find(names, name) != names.end())
            return part.refuse("names " + banger::quoted(name) + " again",
                               "Name every plugin once.");
        names.push_back(std::move(name));
    }
    return names;
}

Result<SettingValue> setting_of(const Place& place) {
    if (const toml::value<bool>* truth = place.node.as_boolean()) return SettingValue(truth->get());
    if (const toml::value<std::int64_t>* number = place.node.as_integer())
        return SettingValue(number->get());
    if (place.node.is_string()) return SettingValue(BANGER_TRY(text_of(place)));
    const toml::array* const list = place.node.as_array();
    if (!list)
        return place.refuse("is " + std::string(type_name(place.node)),
                            "A plugin's setting is true or false, a whole number, text, or a list "
                            "of text.");
    std::vector<std::string> words;
    for (const toml::node& element : *list)
        words.push_back(
            BANGER_TRY(text_of(place.part(element, "[" + std::to_string(words.size()) + "]"))));
    return SettingValue(std::move(words));
}

Error unknown_key(const Place& place, std::string_view key, const std::vector<std::string>& valid) {
    std::string remedy;
    if (const std::optional<std::string> nearest = nearest_word(key, valid)) {
        remedy = "Did you mean `" + *nearest + "`?";
    } else {
        remedy = "Use one of";
        for (const std::string& word : valid)
            remedy += (&word == &valid.front() ? " `" : ", `") + word + "`";
        remedy += ".";
    }
    // The key is foreign text: shown in the way of a value.
    return {Errc::invalid_argument,
            place.source().text() + ": there is no key " + banger::quoted(place.key),
            std::move(remedy)};
}

}  // namespace banger::config

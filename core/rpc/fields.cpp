#include "core/rpc/fields.hpp"

#include <cmath>

#include "core/base/names.hpp"

namespace banger::rpc {

std::string Place::path() const {
    std::string path;
    if (above_ != nullptr) path = above_->path();
    if (index_ != no_index) return path + "[" + std::to_string(index_) + "]";
    if (above_ != nullptr) path += '.';
    // A name in a map is foreign: bounded and without control characters.
    const std::string shown = quoted(name_);
    return path.append(shown, 1, shown.size() - 2);
}

Error Place::refuse(std::string_view why, std::string remedy) const {
    const std::string where = path();
    if (failed_at_ != nullptr) *failed_at_ = where;
    return {Errc::invalid_argument, (where + ": ").append(why), std::move(remedy)};
}

Error Place::refuse_kind(std::string_view wanted, const Json& got) const {
    return refuse(std::string(wanted).append(" is wanted, this is ").append(got.kind()));
}

namespace detail {

Error at(const Place& place, const Error& error) {
    return place.refuse(error.message, error.remedy);
}

Error unknown_word(const Place& place, std::string_view got,
                   const std::vector<std::string>& words) {
    std::string remedy = "Use one of:";
    for (const std::string& word : words)
        remedy += (&word == words.data() ? " " : ", ") + word;
    return place.refuse(quoted(got) + " is not known here", remedy + ".");
}

Error unknown_field(const Place& place, std::string_view name) {
    return place.field(name).refuse("there is no such field");
}

Error missing_field(const Place& place, std::string_view name) {
    return place.field(name).refuse("it is missing");
}

Result<std::int64_t> decode_signed(const Json& json, const Place& place, std::int64_t least,
                                   std::int64_t most) {
    if (json.if_integer() == nullptr && json.if_large() == nullptr)
        return place.refuse_kind("an integer", json);
    const std::int64_t* value = json.if_integer();
    if (value == nullptr || *value < least || *value > most)
        return place.refuse(json.text() + " is not between " + std::to_string(least) + " and " +
                            std::to_string(most));
    return *value;
}

Result<std::uint64_t> decode_unsigned(const Json& json, const Place& place, std::uint64_t most) {
    std::optional<std::uint64_t> value;
    if (const std::int64_t* integer = json.if_integer()) {
        if (*integer >= 0) value = static_cast<std::uint64_t>(*integer);
    } else if (const std::uint64_t* large = json.if_large()) {
        value = *large;
    } else {
        return place.refuse_kind("an integer", json);
    }
    if (!value || *value > most)
        return place.refuse(json.text() + " is not between 0 and " + std::to_string(most));
    return *value;
}

Result<bool> decode_bool(const Json& json, const Place& place) {
    if (const bool* value = json.if_bool()) return *value;
    return place.refuse_kind("true or false", json);
}

Result<double> decode_double(const Json& json, const Place& place) {
    if (const double* value = json.if_number()) return *value;
    if (const std::int64_t* value = json.if_integer()) return static_cast<double>(*value);
    if (const std::uint64_t* value = json.if_large()) return static_cast<double>(*value);
    return place.refuse_kind("a number", json);
}

Result<std::string> decode_text_value(const Json& json, const Place& place) {
    if (const std::string* value = json.if_text()) return *value;
    return place.refuse_kind("a text", json);
}

}  // namespace detail

}  // namespace banger::rpc

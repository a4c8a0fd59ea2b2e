#include "core/guest/json_reader.hpp"

#include <cmath>

namespace banger::guest {

using nlohmann::json;

namespace {

bool is_nested_deeper(std::string_view text, int max_depth) {
    int depth = 0;
    bool in_string = false;
    for (std::size_t at = 0; at < text.size(); ++at) {
        const char c = text[at];
        if (in_string) {
            if (c == '\\') ++at;
            if (c == '"') in_string = false;
            continue;
        }
        if (c == '"') in_string = true;
        if (c == '{' || c == '[') ++depth;
        if (c == '}' || c == ']') --depth;
        if (depth > max_depth) return true;
    }
    return false;
}

const json& empty_array() {
    static const json value = json::array();
    return value;
}

const json& empty_object() {
    static const json value = json::object();
    return value;
}

}  // namespace

Result<json> parse_json(std::string_view text, int max_depth) {
    if (is_nested_deeper(text, max_depth)) return Error(Errc::corrupt, "JSON nests too deep");
    json value = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded()) return Error(Errc::corrupt, "not valid JSON");
    return value;
}

std::string dump_json(const json& value) {
    return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

ObjectReader::ObjectReader(const json& value, std::string what)
    : value_(value.is_object() ? value : empty_object()), what_(std::move(what)) {
    if (!value.is_object()) error_ = Error(Errc::corrupt, what_ + " is not an object");
}

Error ObjectReader::wrong(const char* name, std::string_view expected) const {
    return {Errc::corrupt, what_ + ": field \"" + name + "\" is not " + std::string(expected)};
}

void ObjectReader::fail(Error error) {
    if (!error_) error_ = std::move(error);
}

const json* ObjectReader::optional(const char* name) {
    asked_.insert(name);
    const json::const_iterator found = value_.find(name);
    if (error_ || found == value_.end() || found->is_null()) return nullptr;
    return &*found;
}

const json* ObjectReader::find(const char* name, const char* type) {
    const json* field = optional(name);
    if (!field) fail(wrong(name, type));
    return field;
}

std::string ObjectReader::string(const char* name) {
    const json* field = find(name, "a string");
    if (!field) return {};
    if (field->is_string()) return field->get_ref<const std::string&>();
    fail(wrong(name, "a string"));
    return {};
}

bool ObjectReader::boolean(const char* name) {
    const json* field = find(name, "true or false");
    if (!field) return false;
    if (field->is_boolean()) return *field->get_ptr<const json::boolean_t*>();
    fail(wrong(name, "true or false"));
    return false;
}

double ObjectReader::number(const char* name) {
    const json* field = find(name, "a number");
    if (!field) return 0;
    if (field->is_number_float()) return *field->get_ptr<const json::number_float_t*>();
    if (field->is_number_unsigned())
        return static_cast<double>(*field->get_ptr<const json::number_unsigned_t*>());
    fail(wrong(name, "a number"));
    return 0;
}

std::uint64_t ObjectReader::integer(const char* name, std::uint64_t max) {
    const json* field = find(name, "a natural number");
    if (!field) return 0;
    if (field->is_number_unsigned()) {
        const std::uint64_t value = *field->get_ptr<const json::number_unsigned_t*>();
        if (value <= max) return value;
    }
    fail(wrong(name, "a natural number up to " + std::to_string(max)));
    return 0;
}

const json& ObjectReader::array(const char* name, std::size_t max_size) {
    const json* field = find(name, "an array");
    if (!field) return empty_array();
    if (field->is_array() && field->size() <= max_size) return *field;
    fail(wrong(name, "an array of at most " + std::to_string(max_size) + " elements"));
    return empty_array();
}

const json& ObjectReader::object(const char* name) {
    const json* field = find(name, "an object");
    if (!field) return empty_object();
    if (field->is_object()) return *field;
    fail(wrong(name, "an object"));
    return empty_object();
}

Result<void> ObjectReader::finish(bool strict) {
    if (error_) return *error_;
    if (!strict) return {};
    for (json::const_iterator field = value_.begin(); field != value_.end(); ++field) {
        if (!asked_.contains(field.key()))
            return Error(Errc::corrupt, what_ + ": unknown field \"" + field.key() + "\"");
    }
    return {};
}

}  // namespace banger::guest

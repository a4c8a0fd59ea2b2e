#include "core/rpc/json.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/names.hpp"

namespace banger::rpc {

namespace {

/// Builds a Json from nlohmann's events, and says no as soon as a limit is passed. Not recursive,
/// so depth costs no stack.
class Builder : public nlohmann::json_sax<nlohmann::json> {
public:
    explicit Builder(std::size_t depth) : depth_(depth) {}

    bool null() override { return take(Json()); }
    bool boolean(bool value) override { return take(Json(value)); }
    bool number_integer(number_integer_t value) override { return take(Json(value)); }
    bool number_unsigned(number_unsigned_t value) override { return take(Json(value)); }
    bool number_float(number_float_t value, const string_t& /*text*/) override {
        return take(Json(value));
    }
    bool string(string_t& value) override {
        if (value.find('\0') != value.npos) return refuse("a text contains a NUL");
        return take(Json(std::move(value)));
    }
    bool binary(binary_t& /*value*/) override { return refuse("binary data"); }
    bool start_object(std::size_t /*elements*/) override { return open(true); }
    bool start_array(std::size_t /*elements*/) override { return open(false); }
    bool key(string_t& name) override {
        if (name.find('\0') != name.npos) return refuse("a name contains a NUL");
        open_.back().members.push_back({std::move(name), Json()});
        return true;
    }
    bool end_object() override {
        Json::Object members = std::move(open_.back().members);
        if (has_name_twice(members)) return false;
        open_.pop_back();
        return take(Json(std::move(members)));
    }
    bool end_array() override {
        Json::List items = std::move(open_.back().items);
        open_.pop_back();
        return take(Json(std::move(items)));
    }
    bool parse_error(std::size_t position, const std::string& /*token*/,
                     const nlohmann::json::exception& failure) override {
        // The library's text quotes the input; the position is enough, and is not hostile.
        const bool is_number =
            dynamic_cast<const nlohmann::json::out_of_range*>(&failure) != nullptr;
        return refuse((is_number ? "a number out of range at byte " : "it is wrong at byte ") +
                      std::to_string(position));
    }

    [[nodiscard]] const std::string& why() const { return why_; }
    Json take_root() { return std::move(root_); }

private:
    struct Open {
        bool is_object;
        Json::Object members;
        Json::List items;
    };

    bool open(bool is_object) {
        if (open_.size() >= depth_)
            return refuse("it is nested deeper than " + std::to_string(depth_));
        open_.push_back({is_object, {}, {}});
        return true;
    }
    bool take(Json value) {
        if (open_.empty())
            root_ = std::move(value);
        else if (open_.back().is_object)
            open_.back().members.back().value = std::move(value);
        else
            open_.back().items.push_back(std::move(value));
        return true;
    }
    /// Sorted once at the end of the object: a hundred thousand names must not cost their square.
    bool has_name_twice(const Json::Object& members) {
        std::vector<std::string_view> names;
        names.reserve(members.size());
        for (const JsonMember& member : members)
            names.push_back(member.name);
        std::ranges::sort(names);
        const auto twice = std::ranges::adjacent_find(names);
        if (twice == names.end()) return false;
        refuse("the name " + quoted(*twice) + " is there twice");
        return true;
    }
    bool refuse(std::string why) {
        why_ = std::move(why);
        return false;
    }

    std::size_t depth_;
    std::vector<Open> open_;
    Json root_;
    std::string why_;
};

/// Length of the well-formed UTF-8 sequence at `at` (Unicode 15, table 3-7), or 0.
std::size_t sequence_length(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) {
        return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0U;
    };
    const auto is_tail = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
    const unsigned lead = byte(0);
    if (lead < 0x80) return 1;
    if (lead >= 0xC2 && lead <= 0xDF) return is_tail(1) ? 2 : 0;
    if (lead >= 0xE0 && lead <= 0xEF) {
        const unsigned least = lead == 0xE0 ? 0xA0 : 0x80;
        const unsigned most = lead == 0xED ? 0x9F : 0xBF;
        return byte(1) >= least && byte(1) <= most && is_tail(2) ? 3 : 0;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        const unsigned least = lead == 0xF0 ? 0x90 : 0x80;
        const unsigned most = lead == 0xF4 ? 0x8F : 0xBF;
        return byte(1) >= least && byte(1) <= most && is_tail(2) && is_tail(3) ? 4 : 0;
    }
    return 0;
}

class Writer {
public:
    explicit Writer(bool is_pretty) : is_pretty_(is_pretty) {}

    // NOLINTNEXTLINE(misc-no-recursion): a value of ours is as deep as its structs
    void write(const Json& json, std::size_t level) {
        if (const bool* value = json.if_bool())
            out_ += *value ? "true" : "false";
        else if (const std::int64_t* integer = json.if_integer())
            out_ += std::to_string(*integer);
        else if (const std::uint64_t* large = json.if_large())
            out_ += std::to_string(*large);
        else if (const double* number = json.if_number())
            write_number(*number);
        else if (const std::string* text = json.if_text())
            write_text(*text);
        else if (const Json::List* list = json.if_list())
            write_list(*list, level);
        else if (const Json::Object* object = json.if_object())
            write_object(*object, level);
        else
            out_ += "null";
    }
    std::string take() { return std::move(out_); }

private:
    void write_number(double value) {
        if (!std::isfinite(value)) {
            out_ += "null";
            return;
        }
        char digits[32];
        const auto [end, status] = std::to_chars(std::begin(digits), std::end(digits), value);
        static_cast<void>(status);  // the shortest form of a double has at most 24 characters
        const std::string_view text(digits, static_cast<std::size_t>(end - digits));
        out_ += text;
        // A number stays one when it is read again.
        if (text.find_first_of(".e") == text.npos) out_ += ".0";
    }
    void write_text(std::string_view text) {
        out_ += '"';
        for (std::size_t at = 0; at < text.size();) {
            const std::size_t length = sequence_length(text, at);
            if (length == 1)
                write_ascii(text[at]);
            else if (length == 0)
                out_ += "\xEF\xBF\xBD";
            else
                out_.append(text, at, length);
            at += std::max<std::size_t>(length, 1);
        }
        out_ += '"';
    }
    void write_ascii(char c) {
        switch (c) {
            case '"':
                out_ += "\\\"";
                return;
            case '\\':
                out_ += "\\\\";
                return;
            case '\n':
                out_ += "\\n";
                return;
            case '\r':
                out_ += "\\r";
                return;
            case '\t':
                out_ += "\\t";
                return;
            case '\0':
                out_ += "\xEF\xBF\xBD";
                return;
            default:
                break;
        }
        if (static_cast<unsigned char>(c) >= 0x20) {
            out_ += c;
            return;
        }
        constexpr std::string_view hex = "0123456789abcdef";
        out_ += "\\u00";
        out_ += hex[static_cast<unsigned char>(c) >> 4U];
        out_ += hex[static_cast<unsigned char>(c) & 15U];
    }
    // NOLINTNEXTLINE(misc-no-recursion)
    void write_list(const Json::List& list, std::size_t level) {
        if (list.empty()) {
            out_ += "[]";
            return;
        }
        out_ += '[';
        for (std::size_t i = 0; i < list.size(); ++i) {
            if (i > 0) out_ += ',';
            new_line(level + 1);
            write(list[i], level + 1);
        }
        new_line(level);
        out_ += ']';
    }
    // NOLINTNEXTLINE(misc-no-recursion)
    void write_object(const Json::Object& object, std::size_t level) {
        if (object.empty()) {
            out_ += "{}";
            return;
        }
        out_ += '{';
        for (std::size_t i = 0; i < object.size(); ++i) {
            if (i > 0) out_ += ',';
            new_line(level + 1);
            write_text(object[i].name);
            out_ += is_pretty_ ? ": " : ":";
            write(object[i].value, level + 1);
        }
        new_line(level);
        out_ += '}';
    }
    void new_line(std::size_t level) {
        if (!is_pretty_) return;
        out_ += '\n';
        out_.append(level * 2, ' ');
    }

    bool is_pretty_;
    std::string out_;
};

}  // namespace

Json::Json() = default;
Json::Json(bool value) : value_(value) {}
Json::Json(std::int64_t value) : value_(value) {}
Json::Json(std::uint64_t value) {
    if (value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        value_ = static_cast<std::int64_t>(value);
    else
        value_ = value;
}
Json::Json(double value) : value_(value) {}
Json::Json(std::string value) : value_(std::move(value)) {}
Json::Json(std::string_view value) : value_(std::string(value)) {}
Json::Json(const char* value) : value_(std::string(value)) {}
Json::Json(List value) : value_(std::move(value)) {}
Json::Json(Object value) : value_(std::move(value)) {}
Json::Json(const Json&) = default;
Json::Json(Json&&) noexcept = default;
Json& Json::operator=(const Json&) = default;
Json& Json::operator=(Json&&) noexcept = default;
Json::~Json() = default;

bool operator==(const Json& left, const Json& right) { return left.value_ == right.value_; }

Result<Json> Json::parse(std::string_view text, const JsonLimits& limits) {
    if (text.size() > limits.bytes)
        return Error(Errc::corrupt,
                     "the JSON is longer than " + std::to_string(limits.bytes) + " bytes");
    // The library takes a NUL for the end of the input.
    if (text.find('\0') != text.npos) return Error(Errc::corrupt, "the JSON contains a NUL");
    Builder builder(limits.depth);
    try {
        if (nlohmann::json::sax_parse(text, &builder)) return builder.take_root();
    } catch (const std::exception& failure) {
        return Error(Errc::internal, std::string("cannot read JSON: ") + failure.what());
    }
    return Error(Errc::corrupt, "this is no JSON that can be used: " + builder.why());
}

std::string Json::text() const {
    Writer writer(false);
    writer.write(*this, 0);
    return writer.take();
}

std::string Json::pretty_text() const {
    Writer writer(true);
    writer.write(*this, 0);
    return writer.take();
}

const Json* Json::find(std::string_view name) const {
    const Object* object = if_object();
    if (object == nullptr) return nullptr;
    for (const JsonMember& member : *object)
        if (member.name == name) return &member.value;
    return nullptr;
}

std::string_view Json::kind() const {
    constexpr std::string_view kinds[] = {"null",     "true or false", "an integer", "an integer",
                                          "a number", "a text",        "a list",     "an object"};
    return kinds[value_.index()];
}

}  // namespace banger::rpc

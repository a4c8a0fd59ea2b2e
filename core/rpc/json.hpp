#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "banger/result.hpp"

namespace banger::rpc {

/// How much foreign text may cost. Checked while reading, before anything of that size is built.
struct JsonLimits {
    std::size_t bytes = std::size_t{1} << 20;
    std::size_t depth = 32;  ///< arrays and objects inside each other
};

struct JsonMember;

/// One JSON value (RFC 8259). A plain value; nothing here blocks or knows of sockets.
///
/// Core does not touch it much: the field maps (core/rpc/fields.hpp) turn structs into it and back.
/// It has a shape of its own, rather than nlohmann's, for two reasons: an object keeps the order in
/// which its members were written, so a struct prints in the order it is declared, and this header
/// costs no compile time. The bytes are read by nlohmann's parser, which also checks that they are
/// UTF-8.
///
/// parse() is for hostile text: refused are more bytes or depth than the limits, a name twice in
/// one object, a NUL (raw or as \u0000, because such a string ends early in a system call), bytes
/// that are no UTF-8, numbers that a double cannot hold, anything after the value.
class Json {
public:
    using List = std::vector<Json>;
    using Object = std::vector<JsonMember>;

    // Not inline: a member of an object holds a Json, so Json is whole only below.
    Json();  ///< null
    explicit Json(bool value);
    explicit Json(std::int64_t value);
    explicit Json(std::uint64_t value);
    explicit Json(double value);
    explicit Json(std::string value);
    explicit Json(std::string_view value);
    explicit Json(const char* value);
    explicit Json(List value);
    explicit Json(Object value);
    Json(const Json&);
    Json(Json&&) noexcept;
    Json& operator=(const Json&);
    Json& operator=(Json&&) noexcept;
    ~Json();

    /// Errc::corrupt with the place (byte) in the message.
    static Result<Json> parse(std::string_view text, const JsonLimits& limits = {});

    /// Compact. Always valid UTF-8 without a NUL: bytes of a string that are no UTF-8 come out as
    /// U+FFFD, so that a message with a guest's output in it can always be sent. A number that JSON
    /// does not have (infinity) comes out as null.
    [[nodiscard]] std::string text() const;
    /// Two spaces a level, for golden files and `--format json`. Without a final newline.
    [[nodiscard]] std::string pretty_text() const;

    [[nodiscard]] bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
    [[nodiscard]] const bool* if_bool() const { return std::get_if<bool>(&value_); }
    /// Every integer up to 2^63-1 is held so.
    [[nodiscard]] const std::int64_t* if_integer() const {
        return std::get_if<std::int64_t>(&value_);
    }
    /// Only those above.
    [[nodiscard]] const std::uint64_t* if_large() const {
        return std::get_if<std::uint64_t>(&value_);
    }
    /// Written with a fraction or an exponent, or beyond 64 bits.
    [[nodiscard]] const double* if_number() const { return std::get_if<double>(&value_); }
    [[nodiscard]] const std::string* if_text() const { return std::get_if<std::string>(&value_); }
    [[nodiscard]] const List* if_list() const { return std::get_if<List>(&value_); }
    [[nodiscard]] const Object* if_object() const { return std::get_if<Object>(&value_); }
    /// The member of that name; null when there is none or this is no object.
    [[nodiscard]] const Json* find(std::string_view name) const;
    /// "a text", "an object": for messages.
    [[nodiscard]] std::string_view kind() const;

    friend bool operator==(const Json& left, const Json& right);

private:
    std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string, List,
                 Object>
        value_;
};

struct JsonMember {
    std::string name;
    Json value;
    friend bool operator==(const JsonMember&, const JsonMember&) = default;
};

}  // namespace banger::rpc

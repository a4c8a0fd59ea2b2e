#pragma once

#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"
#include "core/rpc/json.hpp"

/// One field map a struct, both ways.
///
///     struct PortForward { Ipv4Address host_address; std::uint16_t host_port; std::uint16_t
///     guest_port; };
///
///     template <>
///     struct banger::rpc::Fields<PortForward> {
///         static constexpr auto list = fields(field("host_address", &PortForward::host_address),
///                                             field("host_port", &PortForward::host_port),
///                                             field("guest_port", &PortForward::guest_port));
///     };
///
///     Json json = encode(forward);
///     Result<PortForward> again = decode<PortForward>(json);
///
/// The map names every member in the order of declaration: decode() reads each into an optional and
/// then builds `PortForward{…}` in one go, so that checked values, which have no default, can be
/// members. A member too few does not compile, two in the wrong order are Errc::internal at the
/// first decode(), so any test that goes both ways finds it.
///
/// What a member may be, and what it is in JSON:
///
///     bool, integers, double                 boolean, number (range checked; 1.0 is no integer)
///     std::string                            string
///     VmId, VmName, Digest, … (parse, str)   string, through parse()
///     Ipv4Address, MacAddress, … (text)      string, through parse()
///     ByteCount                              number of bytes
///     std::chrono::seconds, milliseconds     number: put the unit in the field's name
///     enum with an EnumText                  its word
///     std::optional<T>                       left out, or null when reading
///     std::vector<T>                         array
///     std::map<std::string, T>               object
///     std::variant with an Alternatives      object with one member, named after the alternative
///     struct with a Fields                   object
///     Json                                   as it is
///
/// A field is required unless it is an optional or marked `.or_empty()`. A field that the map does
/// not know is refused; a client that reads replies of a newer daemon passes Unknown::ignored.
/// Errors are Errc::invalid_argument and name the place: "parameters.disks[2].size: a text is not
/// …".
namespace banger::rpc {

/// What to do about fields that the map does not name.
enum class Unknown { refused, ignored };

/// No parameters, or a result that is just success.
struct Nothing {
    friend bool operator==(const Nothing&, const Nothing&) = default;
};

/// What a type looks like from outside: how a .varlink text is compared with the maps.
struct Shape {
    enum class Kind { boolean, integer, number, text, words, list, map, maybe, record, named, any };
    Kind kind = Kind::any;
    std::string name;                ///< named: a type of the same interface
    std::vector<std::string> words;  ///< words: the enumerators; record: the names of the fields
    std::vector<Shape> inner;        ///< list, map, maybe: one; record: the types of the fields
    friend bool operator==(const Shape&, const Shape&) = default;
};

/// Where in the document decode() is. Lives on the stack; costs nothing until something is wrong.
class Place {
public:
    /// `failed_at`, when given, gets the path of the field that was refused.
    Place(std::string_view root, Unknown unknown, std::string* failed_at)
        : name_(root), unknown_(unknown), failed_at_(failed_at) {}
    [[nodiscard]] Place field(std::string_view name) const { return Place(this, name, no_index); }
    [[nodiscard]] Place item(std::size_t index) const { return Place(this, {}, index); }

    [[nodiscard]] Unknown unknown() const { return unknown_; }
    [[nodiscard]] std::string path() const;
    /// Errc::invalid_argument "PATH: why".
    [[nodiscard]] Error refuse(std::string_view why, std::string remedy = {}) const;
    [[nodiscard]] Error refuse_kind(std::string_view wanted, const Json& got) const;

private:
    static constexpr std::size_t no_index = std::numeric_limits<std::size_t>::max();
    Place(const Place* above, std::string_view name, std::size_t index)
        : above_(above),
          name_(name),
          index_(index),
          unknown_(above->unknown_),
          failed_at_(above->failed_at_) {}

    const Place* above_ = nullptr;
    std::string_view name_;
    std::size_t index_ = no_index;
    Unknown unknown_;
    std::string* failed_at_;
};

/// Both directions of one type: encode(), decode(), shape(). Specialise it for a type that none of
/// the forms above fits.
template <class T>
struct Codec;

/// Specialised for each struct: `static constexpr auto list = fields(field(…), …)`.
template <class T>
struct Fields;

/// Specialised for each enum: `to_text(T)`, `parse(std::string_view)` → optional, and `last`, the
/// enumerator with the greatest value; they count from zero. BANGER_RPC_ENUM writes it.
template <class T>
struct EnumText;

/// Specialised for each variant: `names`, a std::array of one name an alternative.
template <class T>
struct Alternatives;

/// At namespace level in banger::rpc, for an enum with banger's to_string() and a parse function.
#define BANGER_RPC_ENUM(Enum, parse_function, last_value)                                        \
    template <>                                                                                  \
    struct EnumText<Enum> {                                                                      \
        static std::string_view to_text(Enum value) { return to_string(value); }                 \
        static std::optional<Enum> parse(std::string_view word) { return parse_function(word); } \
        static constexpr Enum last = Enum::last_value;                                           \
    }

template <class Owner, class Member, bool may_be_absent = false>
struct Field {
    std::string_view name;
    Member Owner::*member;
    /// The same field, but absent or null is an empty value (0, "", false, no items).
    [[nodiscard]] constexpr Field<Owner, Member, true> or_empty() const { return {name, member}; }
};

template <class Owner, class Member>
constexpr Field<Owner, Member> field(std::string_view name, Member Owner::*member) {
    return {name, member};
}

/// A member that never crosses (a descriptor, which travels beside the message): the reader's is
/// `value`.
template <class Owner, class Member>
struct Local {
    Member Owner::*member;
    Member value;
};

template <class Owner, class Member>
constexpr Local<Owner, Member> local(Member Owner::*member, std::type_identity_t<Member> value) {
    return {member, value};
}

template <class... Each>
constexpr std::tuple<Each...> fields(Each... each) {
    return {each...};
}

/// Never fails: what a value of ours cannot be in JSON (bytes that are no UTF-8) is replaced when
/// the Json becomes text.
template <class T>
Json encode(const T& value) {
    return Codec<T>::encode(value);
}

/// `root` begins the path in messages.
template <class T>
Result<T> decode(const Json& json, std::string_view root = "value",
                 Unknown unknown = Unknown::refused, std::string* failed_at = nullptr) {
    return Codec<T>::decode(json, Place(root, unknown, failed_at));
}

/// As text, for core/store and files.
template <class T>
std::string encode_text(const T& value) {
    return encode(value).text();
}

template <class T>
Result<T> decode_text(std::string_view text, std::string_view root = "value",
                      const JsonLimits& limits = {}) {
    const Json json =
        BANGER_TRY(Json::parse(text, limits).context(std::string("reading ").append(root)));
    return decode<T>(json, root);
}

template <class T>
Shape shape_of() {
    return Codec<T>::shape();
}

}  // namespace banger::rpc

#include "core/rpc/fields_codec.hpp"  // IWYU pragma: export

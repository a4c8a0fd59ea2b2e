#include "banger/values.hpp"

#include <sys/random.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "words.hpp"

namespace banger {

namespace {

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

/// Foreign text inside a message: bounded and without control characters.
std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (char c : text.substr(0, 80)) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            out += '?';
        else
            out += c;
    }
    if (text.size() > 80) out += "…";
    return out + "\"";
}

Error invalid(std::string_view what, std::string_view text, std::string_view remedy) {
    return {Errc::invalid_argument, quoted(text) + " is not " + std::string(what),
            std::string(remedy)};
}

constexpr std::string_view check_status_words[] = {"pass", "warn", "fail"};

}  // namespace

Result<VmId> VmId::parse(std::string_view text) {
    if (text.size() == 12 && std::ranges::all_of(text, is_lower_hex))
        return VmId(std::string(text));
    return invalid("a machine id", text, "An id has 12 hexadecimal digits; see `banger vm list`.");
}

VmId VmId::random() {
    unsigned char bytes[6];
    if (::getrandom(bytes, sizeof bytes, 0) != sizeof bytes) std::abort();
    std::string text;
    for (unsigned char byte : bytes) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return VmId(std::move(text));
}

Result<VmName> VmName::parse(std::string_view text) {
    constexpr std::string_view rule =
        "Use 1 to 63 lower-case letters, digits and inner hyphens, with at least one letter.";
    auto alnum = [](char c) { return is_lower(c) || is_digit(c); };
    if (text.empty() || text.size() > 63 || !alnum(text.front()) || !alnum(text.back()) ||
        !std::ranges::all_of(text, [&](char c) { return alnum(c) || c == '-'; }))
        return invalid("a machine name", text, rule);
    if (std::ranges::all_of(text, is_digit)) return invalid("a machine name", text, rule);
    if (text == "host" || text == "localhost")
        return Error(Errc::invalid_argument, quoted(text) + " is reserved", "Choose another name.");
    return VmName(std::string(text));
}

Result<ArtifactName> ArtifactName::parse(std::string_view text) {
    auto alnum = [](char c) { return is_lower(c) || is_digit(c); };
    if (!text.empty() && text.size() <= 64 && alnum(text.front()) &&
        std::ranges::all_of(text,
                            [&](char c) { return alnum(c) || c == '.' || c == '_' || c == '-'; }))
        return ArtifactName(std::string(text));
    return invalid("a name for an image or kernel", text,
                   "Use 1 to 64 lower-case letters, digits, '.', '_' and '-', beginning with a "
                   "letter or digit.");
}

Result<PluginName> PluginName::parse(std::string_view text) {
    if (!text.empty() && text.size() <= 32 && is_lower(text.front()) &&
        std::ranges::all_of(text, [](char c) { return is_lower(c) || is_digit(c) || c == '-'; }))
        return PluginName(std::string(text));
    return invalid("a plugin name", text,
                   "Use 1 to 32 lower-case letters, digits and '-', beginning with a letter.");
}

Result<Digest> Digest::parse(std::string_view text) {
    if (text.size() == 71 && text.starts_with("sha256:") &&
        std::ranges::all_of(text.substr(7), is_lower_hex))
        return Digest(std::string(text));
    return invalid("a digest", text, "A digest is sha256: and 64 hexadecimal digits.");
}

Result<ByteCount> ByteCount::parse(std::string_view text) {
    constexpr std::string_view forms =
        "Write a positive size such as 512M, 4GiB or 1.5G; a bare number is MiB.";
    const auto refuse = [&] { return invalid("a size", text, forms); };
    std::size_t end = 0;
    while (end < text.size() && (is_digit(text[end]) || text[end] == '.'))
        ++end;
    const std::string_view number = text.substr(0, end);
    std::string unit(text.substr(end));
    std::ranges::transform(unit, unit.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; });
    if (unit.ends_with("ib"))
        unit.resize(unit.size() - 2);
    else if (unit.size() == 2 && unit.ends_with('b'))
        unit.pop_back();
    unsigned shift = 0;
    if (unit.empty() && end == text.size())
        shift = 20;
    else if (unit == "b")
        shift = 0;
    else if (unit == "k")
        shift = 10;
    else if (unit == "m")
        shift = 20;
    else if (unit == "g")
        shift = 30;
    else if (unit == "t")
        shift = 40;
    else
        return refuse();

    const std::size_t dot = number.find('.');
    const std::string_view whole = number.substr(0, dot);
    const std::string_view fraction = dot == number.npos ? "" : number.substr(dot + 1);
    if (whole.empty() || (dot != number.npos && fraction.empty()) || fraction.size() > 6 ||
        fraction.find('.') != fraction.npos)
        return refuse();
    std::uint64_t value = 0;
    const auto [stop, status] = std::from_chars(whole.data(), whole.data() + whole.size(), value);
    if (status != std::errc() || stop != whole.data() + whole.size()) return refuse();
    constexpr std::uint64_t limit = (std::uint64_t{1} << 63) - 1;
    if (value > limit >> shift) return refuse();
    std::uint64_t bytes = value << shift;
    if (!fraction.empty()) {
        std::uint64_t part = 0;
        std::uint64_t scale = 1;
        for (char c : fraction) {
            part = part * 10 + static_cast<unsigned>(c - '0');
            scale *= 10;
        }
        // A fraction is for people ("1.5G"); what is left below a byte is dropped.
        // At most 10^6 * 2^40: no overflow.
        bytes += (part << shift) / scale;
    }
    if (bytes == 0 || bytes > limit) return refuse();
    return ByteCount::bytes(bytes);
}

std::optional<ByteCount> ByteCount::checked_add(ByteCount other) const {
    std::uint64_t sum = 0;
    if (__builtin_add_overflow(bytes_, other.bytes_, &sum)) return std::nullopt;
    return ByteCount(sum);
}

std::string ByteCount::text() const {
    constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = static_cast<double>(bytes_);
    std::size_t unit = 0;
    while (value >= 1024 && unit + 1 < std::size(units)) {
        value /= 1024;
        ++unit;
    }
    char buffer[32];
    const bool whole = unit == 0 || value == static_cast<double>(static_cast<std::uint64_t>(value));
    std::snprintf(buffer, sizeof buffer, whole ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return buffer;
}

Result<Ipv4Address> Ipv4Address::parse(std::string_view text) {
    const auto refuse = [&] {
        return invalid("an IPv4 address", text, "Write four numbers, as in 172.16.0.1.");
    };
    std::uint32_t bits = 0;
    const char* at = text.data();
    const char* const end = at + text.size();
    for (int part = 0; part < 4; ++part) {
        if (part > 0 && (at == end || *at++ != '.')) return refuse();
        unsigned value = 0;
        const auto [stop, status] = std::from_chars(at, end, value);
        if (status != std::errc() || value > 255 || (stop - at > 1 && *at == '0')) return refuse();
        bits = bits << 8 | value;
        at = stop;
    }
    if (at != end) return refuse();
    return Ipv4Address(bits);
}

std::string Ipv4Address::text() const {
    char buffer[16];
    std::snprintf(buffer, sizeof buffer, "%u.%u.%u.%u", bits_ >> 24, bits_ >> 16 & 255,
                  bits_ >> 8 & 255, bits_ & 255);
    return buffer;
}

Result<Ipv4Prefix> Ipv4Prefix::make(Ipv4Address address, unsigned length) {
    if (length > 32)
        return Error(Errc::invalid_argument, "a prefix length of " + std::to_string(length),
                     "Use 0 to 32.");
    return Ipv4Prefix(address, length);
}

Result<Ipv4Prefix> Ipv4Prefix::parse(std::string_view text) {
    const std::size_t slash = text.find('/');
    unsigned length = 0;
    if (slash != text.npos) {
        const std::string_view digits = text.substr(slash + 1);
        const auto [stop, status] =
            std::from_chars(digits.data(), digits.data() + digits.size(), length);
        if (status == std::errc() && stop == digits.data() + digits.size() && length <= 32) {
            const Ipv4Address address = BANGER_TRY(Ipv4Address::parse(text.substr(0, slash)));
            return Ipv4Prefix(address, length);
        }
    }
    return invalid("an IPv4 prefix", text, "Write address and length, as in 172.16.0.1/24.");
}

static std::uint32_t mask_of(unsigned length) { return length == 0 ? 0 : ~0u << (32 - length); }

Ipv4Address Ipv4Prefix::network() const { return Ipv4Address(address_.bits() & mask_of(length_)); }
Ipv4Address Ipv4Prefix::broadcast() const {
    return Ipv4Address(address_.bits() | ~mask_of(length_));
}
bool Ipv4Prefix::contains(Ipv4Address other) const {
    return (other.bits() & mask_of(length_)) == network().bits();
}
bool Ipv4Prefix::overlaps(const Ipv4Prefix& other) const {
    return length_ <= other.length_ ? contains(other.address_) : other.contains(address_);
}
std::string Ipv4Prefix::text() const { return address_.text() + "/" + std::to_string(length_); }

Result<MacAddress> MacAddress::parse(std::string_view text) {
    std::array<std::uint8_t, 6> octets{};
    bool good = text.size() == 17;
    for (std::size_t i = 0; good && i < 6; ++i) {
        const char* at = text.data() + i * 3;
        const auto [stop, status] = std::from_chars(at, at + 2, octets[i], 16);
        good = status == std::errc() && stop == at + 2 && (i == 5 || at[2] == ':');
    }
    if (good) return MacAddress(octets);
    return invalid("an Ethernet address", text, "Write six pairs, as in 02:1a:2b:3c:4d:5e.");
}

MacAddress MacAddress::of(const VmId& vm) {
    // The id is 48 random bits. The two low bits of the first octet are fixed by IEEE 802:
    // locally administered (1), unicast (0).
    std::array<std::uint8_t, 6> octets{};
    for (std::size_t i = 0; i < 6; ++i)
        std::from_chars(vm.str().data() + i * 2, vm.str().data() + i * 2 + 2, octets[i], 16);
    octets[0] = static_cast<std::uint8_t>((octets[0] & 0xfc) | 0x02);
    return MacAddress(octets);
}

std::string MacAddress::text() const {
    char buffer[18];
    std::snprintf(buffer, sizeof buffer, "%02x:%02x:%02x:%02x:%02x:%02x", octets_[0], octets_[1],
                  octets_[2], octets_[3], octets_[4], octets_[5]);
    return buffer;
}

std::string_view to_string(CheckStatus status) { return word_of(check_status_words, status); }
std::optional<CheckStatus> parse_check_status(std::string_view word) {
    return value_of<CheckStatus>(check_status_words, word);
}

}  // namespace banger

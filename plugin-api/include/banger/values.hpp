#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"

/// The values that cross a role interface. Each with a private constructor is a proof: whoever
/// holds a VmName knows that it is safe in a path, a DNS label, a host name and a kernel command
/// line, because parse() is the only way to one.
namespace banger {

namespace detail {
/// A string whose only way in is a parse() that checked it.
template <class Tag>
class CheckedString {
public:
    [[nodiscard]] const std::string& str() const { return text_; }
    friend bool operator==(const CheckedString&, const CheckedString&) = default;
    friend std::strong_ordering operator<=>(const CheckedString&, const CheckedString&) = default;

protected:
    explicit CheckedString(std::string text) : text_(std::move(text)) {}

private:
    std::string text_;
};
}  // namespace detail

/// Names one machine for ever: 12 lower-case hexadecimal digits, never reused.
class VmId : public detail::CheckedString<VmId> {
public:
    static Result<VmId> parse(std::string_view text);
    /// A fresh one from the kernel's random source.
    static VmId random();

private:
    using CheckedString::CheckedString;
};

/// What the owner calls a machine: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, not digits alone, not
/// "host" or "localhost". It becomes a DNS label and a host name unchanged (RFC 1123, section 2.1).
class VmName : public detail::CheckedString<VmName> {
public:
    static Result<VmName> parse(std::string_view text);

private:
    using CheckedString::CheckedString;
};

/// Names an image or a kernel in the store: `[a-z0-9][a-z0-9._-]{0,63}`, e.g. "debian-bookworm".
class ArtifactName : public detail::CheckedString<ArtifactName> {
public:
    static Result<ArtifactName> parse(std::string_view text);

private:
    using CheckedString::CheckedString;
};

/// Names a plugin: `[a-z][a-z0-9-]{0,31}`; also the stem of its .so and .toml.
class PluginName : public detail::CheckedString<PluginName> {
public:
    static Result<PluginName> parse(std::string_view text);

private:
    using CheckedString::CheckedString;
};

/// A SHA-256 as OCI writes it: "sha256:" and 64 lower-case hexadecimal digits.
class Digest : public detail::CheckedString<Digest> {
public:
    static Result<Digest> parse(std::string_view text);
    /// The 64 digits alone.
    [[nodiscard]] std::string_view hex() const { return std::string_view(str()).substr(7); }

private:
    using CheckedString::CheckedString;
};

/// A number of bytes. Arithmetic that could wrap goes through checked_add().
class ByteCount {
public:
    constexpr ByteCount() = default;
    static constexpr ByteCount bytes(std::uint64_t count) { return ByteCount(count); }
    static constexpr ByteCount kib(std::uint64_t count) { return ByteCount(count << 10); }
    static constexpr ByteCount mib(std::uint64_t count) { return ByteCount(count << 20); }
    static constexpr ByteCount gib(std::uint64_t count) { return ByteCount(count << 30); }

    /// Reads what people type: "16G", "512M", "4GiB", "1.5G"; a bare number is MiB. Powers of 1024.
    /// Zero, a negative number, a fraction of a byte, an unknown unit and more than 2^63-1 bytes
    /// are Errc::invalid_argument with the accepted forms in the remedy.
    static Result<ByteCount> parse(std::string_view text);

    [[nodiscard]] constexpr std::uint64_t count() const { return bytes_; }
    /// Whole MiB, rounded down.
    [[nodiscard]] constexpr std::uint64_t in_mib() const { return bytes_ >> 20; }
    [[nodiscard]] std::optional<ByteCount> checked_add(ByteCount other) const;
    /// For people: "512 MiB", "1.5 GiB".
    [[nodiscard]] std::string text() const;

    friend constexpr auto operator<=>(ByteCount, ByteCount) = default;

private:
    constexpr explicit ByteCount(std::uint64_t bytes) : bytes_(bytes) {}
    std::uint64_t bytes_ = 0;
};

/// An IPv4 address in host byte order.
class Ipv4Address {
public:
    constexpr Ipv4Address() = default;
    constexpr explicit Ipv4Address(std::uint32_t host_order) : bits_(host_order) {}
    /// Dotted quad, four decimal parts without leading zeros.
    static Result<Ipv4Address> parse(std::string_view text);
    [[nodiscard]] constexpr std::uint32_t bits() const { return bits_; }
    [[nodiscard]] std::string text() const;
    friend constexpr auto operator<=>(Ipv4Address, Ipv4Address) = default;

private:
    std::uint32_t bits_ = 0;
};

/// An address with its prefix length: "172.16.0.1/24".
class Ipv4Prefix {
public:
    static Result<Ipv4Prefix> parse(std::string_view text);
    /// Errc::invalid_argument when length is over 32.
    static Result<Ipv4Prefix> make(Ipv4Address address, unsigned length);
    [[nodiscard]] Ipv4Address address() const { return address_; }
    [[nodiscard]] unsigned length() const { return length_; }
    [[nodiscard]] Ipv4Address network() const;
    [[nodiscard]] Ipv4Address broadcast() const;
    [[nodiscard]] bool contains(Ipv4Address other) const;
    [[nodiscard]] bool overlaps(const Ipv4Prefix& other) const;
    [[nodiscard]] std::string text() const;
    friend bool operator==(const Ipv4Prefix&, const Ipv4Prefix&) = default;

private:
    Ipv4Prefix(Ipv4Address address, unsigned length) : address_(address), length_(length) {}
    Ipv4Address address_;
    unsigned length_ = 0;
};

/// A 48-bit Ethernet address: "02:1a:2b:3c:4d:5e".
class MacAddress {
public:
    static Result<MacAddress> parse(std::string_view text);
    /// The address of this machine: locally administered, unicast, derived from the id, so that it
    /// is the same at every start.
    static MacAddress of(const VmId& vm);
    [[nodiscard]] const std::array<std::uint8_t, 6>& octets() const { return octets_; }
    [[nodiscard]] std::string text() const;
    friend auto operator<=>(const MacAddress&, const MacAddress&) = default;

private:
    explicit MacAddress(std::array<std::uint8_t, 6> octets) : octets_(octets) {}
    std::array<std::uint8_t, 6> octets_{};
};

/// How a row of `banger doctor` ended.
enum class CheckStatus { pass, warn, fail };
std::string_view to_string(CheckStatus status);
std::optional<CheckStatus> parse_check_status(std::string_view word);

/// One row of `banger doctor`.
struct Check {
    std::string name;  ///< what was looked at: "qemu binary"
    CheckStatus status = CheckStatus::pass;
    std::string detail;  ///< what was found: "/usr/bin/qemu-system-x86_64, version 7.2.18"
    std::string remedy;  ///< what to do; empty when the status is pass
    friend bool operator==(const Check&, const Check&) = default;
};

/// A running process that may outlive the daemon. A pid alone is not an identity, because numbers
/// are reused; with the start time it is one for as long as the host is up.
struct ProcessId {
    std::int64_t pid = 0;
    /// Clock ticks after boot: field 22 of /proc/PID/stat, proc(5).
    std::uint64_t start_time = 0;
    friend bool operator==(const ProcessId&, const ProcessId&) = default;
};

}  // namespace banger

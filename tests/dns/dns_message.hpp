#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// DNS messages by hand, so that the tests do not read with the library that they test.
namespace banger::dns {

using Bytes = std::vector<std::uint8_t>;

void put16(Bytes& bytes, unsigned value);
/// "a.b" as labels, closed by the root.
Bytes wire_name(std::string_view name);

struct Query {
    std::string name = "sandbox.vm";
    unsigned type = 1;
    unsigned klass = 1;
    unsigned id = 0x1234;
    unsigned flags = 0x0100;  ///< RD
    unsigned questions = 1;
    /// EDNS: the size that the asker takes.
    std::optional<unsigned> edns_size = {};
    unsigned edns_version = 0;
    unsigned edns_count = 1;
    bool wants_dnssec = false;
    [[nodiscard]] Bytes bytes() const;
};

struct Record {
    std::string name;
    unsigned type = 0;
    unsigned klass = 0;
    std::uint32_t ttl = 0;
    Bytes data;
};

/// A message that was read to its end; reading one that is not well-formed fails the test.
struct Message {
    unsigned id = 0;
    unsigned flags = 0;
    unsigned questions = 0;
    std::string question;
    unsigned type = 0;
    std::vector<Record> answers;
    std::vector<Record> authority;
    std::vector<Record> additional;

    [[nodiscard]] unsigned code() const;  ///< with the EDNS part
    [[nodiscard]] bool is_authoritative() const { return (flags & 0x0400U) != 0; }
    [[nodiscard]] bool is_truncated() const { return (flags & 0x0200U) != 0; }
    [[nodiscard]] const Record* edns() const;
};

Message read_message(const Bytes& bytes);

}  // namespace banger::dns

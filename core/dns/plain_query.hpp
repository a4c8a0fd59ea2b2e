#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace banger::dns {

/// The query that nearly everybody sends: one question of class IN, its name written out, and at
/// most one OPT record without options. Read where it lies, without an allocation: a general
/// message costs as much to read and write as the rest of an answer together.
struct PlainQuery {
    std::span<const std::uint8_t> name;  ///< in wire form
    std::uint16_t type = 0;
    bool has_edns = false;
    std::uint16_t udp_size = 0;
    bool wants_dnssec = false;

    static constexpr std::size_t header_size = 12;
    /// Header and question.
    [[nodiscard]] std::size_t size() const { return header_size + name.size() + 4; }
};

/// Nothing for every other message, also for one that is not well-formed.
std::optional<PlainQuery> read_plain_query(std::span<const std::uint8_t> message);

}  // namespace banger::dns

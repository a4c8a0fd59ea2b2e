#include "core/dns/plain_query.hpp"

namespace banger::dns {

namespace {

constexpr std::size_t longest_name = 255;
constexpr std::size_t longest_label = 63;
constexpr std::size_t options_size = 11;

std::uint16_t number_at(std::span<const std::uint8_t> bytes, std::size_t at) {
    return static_cast<std::uint16_t>(bytes[at] << 8U | bytes[at + 1]);
}

/// The name at the beginning with its root label; nothing when it ends early or is compressed.
std::optional<std::span<const std::uint8_t>> name_at_front(std::span<const std::uint8_t> bytes) {
    for (std::size_t at = 0; at < bytes.size() && at < longest_name; at += bytes[at] + 1U) {
        if (bytes[at] == 0) return bytes.first(at + 1);
        if (bytes[at] > longest_label) return std::nullopt;
    }
    return std::nullopt;
}

}  // namespace

std::optional<PlainQuery> read_plain_query(std::span<const std::uint8_t> message) {
    if (message.size() < PlainQuery::header_size) return std::nullopt;
    // A query of opcode QUERY; of its flags only RD may be set. One question, no records.
    if ((message[2] & 0xfeU) != 0 || number_at(message, 4) != 1 || number_at(message, 6) != 0 ||
        number_at(message, 8) != 0)
        return std::nullopt;
    PlainQuery query;
    const auto name = name_at_front(message.subspan(PlainQuery::header_size));
    if (!name) return std::nullopt;
    query.name = *name;
    if (message.size() < query.size() || number_at(message, query.size() - 2) != 1)
        return std::nullopt;
    query.type = number_at(message, query.size() - 4);
    const std::span<const std::uint8_t> rest = message.subspan(query.size());
    const std::uint16_t additional = number_at(message, 10);
    if (additional == 0 && rest.empty()) return query;
    // OPT: root, type 41, version 0, no data (RFC 6891, section 6.1.2).
    if (additional != 1 || rest.size() != options_size || rest[0] != 0 ||
        number_at(rest, 1) != 41 || rest[6] != 0 || number_at(rest, 9) != 0)
        return std::nullopt;
    query.has_edns = true;
    query.udp_size = number_at(rest, 3);
    query.wants_dnssec = (rest[7] & 0x80U) != 0;
    return query;
}

}  // namespace banger::dns

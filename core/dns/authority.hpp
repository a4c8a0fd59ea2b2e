#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"
#include "core/dns/name_table.hpp"

namespace banger::dns {

enum class Transport { udp, tcp };

/// No query that anybody has a reason to send us is larger: one name, one OPT record, a signature.
inline constexpr std::size_t max_query = 1232;
/// What fits every path without fragments (DNS flag day 2020), and more than we ever answer.
inline constexpr std::size_t max_answer = 1232;

/// The answers of one zone: bytes in, bytes out, no sockets.
///
/// `LABEL.ZONE` with a record has one A record; another type of it is NODATA, another name in the
/// zone, also below a machine's, is NXDOMAIN; both with the zone's SOA, so that resolvers know how
/// short to remember it (RFC 2308). The zone itself has SOA and NS, named as RFC 6303, section 3,
/// names those of a zone without servers of its own. Names outside the zone, other classes than IN
/// and zone transfers are REFUSED; nothing is ever asked of others. The question comes back with
/// the case it was asked in (resolvers check it).
///
/// The bytes are hostile. What is no query, or cannot be read as the message it says it is, gets no
/// answer at all; what can be read but not understood gets FORMERR (not exactly one question),
/// NOTIMP (another opcode) or BADVERS (EDNS of a later version, RFC 6891).
class Authority {
public:
    /// Zone as in the configuration: lower-case labels with dots between them. Names outlive this.
    static Result<Authority> make(std::string_view zone, const NameTable& names);

    /// Writes the answer to one query and returns its length; 0: say nothing. `out` is at least 512
    /// bytes, the least a resolver takes; what does not fit it, or the size that the query allows
    /// over UDP, comes with the TC bit and without records. Safe from any thread.
    std::size_t answer(std::span<const std::uint8_t> query, Transport transport,
                       std::span<std::uint8_t> out) const;
    /// The same, byte for byte, without the short cut for plain queries: what its tests compare
    /// with.
    std::size_t answer_by_library(std::span<const std::uint8_t> query, Transport transport,
                                  std::span<std::uint8_t> out) const;

    /// How long a record may be remembered, and how long that there is none: short, because
    /// machines come and go, and a resolver that asks us is on this very host.
    static constexpr std::uint32_t record_ttl = 5;
    static constexpr std::uint32_t negative_ttl = 1;

private:
    struct Reply;
    Authority(std::vector<std::uint8_t> zone, const NameTable& names)
        : zone_(std::move(zone)), names_(&names) {}
    /// 0: not for the short cut.
    std::size_t answer_plain(std::span<const std::uint8_t> query, Transport transport,
                             std::span<std::uint8_t> out) const;
    void fill(Reply& reply) const;
    [[nodiscard]] std::optional<std::size_t> length_before_zone(
        std::span<const std::uint8_t> name) const;
    [[nodiscard]] std::optional<Ipv4Address> find(std::span<const std::uint8_t> labels) const;

    std::vector<std::uint8_t> zone_;  ///< in wire form, lower-case
    const NameTable* names_;
};

}  // namespace banger::dns

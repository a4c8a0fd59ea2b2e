#pragma once

#include <string>
#include <string_view>

#include "banger/dns.hpp"
#include "banger/result.hpp"

namespace banger {

/// The plugin's one entry in its ledger: where queries are to go, and the interface that is ours.
struct RouteEntry {
    DnsZone zone;
    int index = 0;   ///< of the interface; 0: about to be made
    MacAddress mac;  ///< by random, so that no other interface is mistaken for ours
    friend bool operator==(const RouteEntry&, const RouteEntry&) = default;
};

/// Lines "WORD VALUE".
std::string format_route_entry(const RouteEntry& entry);
/// Errc::corrupt for anything that format_route_entry() does not write.
Result<RouteEntry> parse_route_entry(std::string_view text);

/// Whether this is a zone below the root, in lower case: labels of letters, digits and hyphens.
[[nodiscard]] bool is_zone(std::string_view text);

}  // namespace banger

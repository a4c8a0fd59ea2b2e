#include "plugins/net-bridge/subnet.hpp"

#include <algorithm>
#include <array>

namespace banger {

namespace {

Ipv4Prefix prefix(std::uint32_t bits, unsigned length) {
    return Ipv4Prefix::make(Ipv4Address(bits), length).value();
}

/// In the order in which they are offered.
std::array<Ipv4Prefix, 3> private_ranges() {
    return {prefix(0xac100000, 12), prefix(0xc0a80000, 16), prefix(0x0a000000, 8)};
}

}  // namespace

std::optional<Ipv4Prefix> clash_of(const Ipv4Prefix& wanted,
                                   const std::vector<Ipv4Prefix>& networks) {
    const auto found = std::ranges::find_if(networks, [&](const Ipv4Prefix& network) {
        return network.length() >= 8 && network.overlaps(wanted);
    });
    return found == networks.end() ? std::nullopt : std::optional(*found);
}

std::optional<Ipv4Prefix> free_subnet(const std::vector<Ipv4Prefix>& networks) {
    for (const Ipv4Prefix& range : private_ranges())
        for (std::uint32_t bits = range.network().bits(); bits < range.broadcast().bits();
             bits += 256) {
            const Ipv4Prefix candidate = prefix(bits + 1, 24);
            if (!clash_of(candidate, networks)) return candidate;
        }
    return std::nullopt;
}

bool is_private(const Ipv4Prefix& wanted) {
    return std::ranges::any_of(private_ranges(), [&](const Ipv4Prefix& range) {
        return range.length() <= wanted.length() && range.contains(wanted.address());
    });
}

}  // namespace banger

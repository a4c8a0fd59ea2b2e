#pragma once

#include <optional>
#include <vector>

#include "banger/values.hpp"

/// Finding out whether the guests' prefix is somebody else's already. Pure.
namespace banger {

/// The first of the networks that shares addresses with `wanted`. What is shorter than /8 claims no
/// addresses in particular: the default route, and the halves of it that VPNs set.
std::optional<Ipv4Prefix> clash_of(const Ipv4Prefix& wanted,
                                   const std::vector<Ipv4Prefix>& networks);

/// The first free /24 of the private ranges, as the host's own address in it ("172.16.1.1/24").
std::optional<Ipv4Prefix> free_subnet(const std::vector<Ipv4Prefix>& networks);

/// Within a private range (RFC 1918): nothing on the Internet is shadowed by it.
bool is_private(const Ipv4Prefix& prefix);

}  // namespace banger

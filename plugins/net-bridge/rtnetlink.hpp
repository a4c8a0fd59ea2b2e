#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"

/// Interfaces, addresses and routes by rtnetlink(7): one call is one exchange on a socket of its
/// own, so that every function is safe from any thread. All act in the network namespace of the
/// calling thread.
namespace banger::rtnetlink {

struct Interface {
    int index = 0;
    std::string name;
    std::string kind;   ///< "bridge", "tun"; empty for hardware
    std::string alias;  ///< IFLA_IFALIAS: what its maker wrote on it
    int master = 0;     ///< index of the bridge that it is a port of; 0: none
    std::optional<MacAddress> mac;
    bool is_up = false;
    std::optional<std::uint32_t> tun_owner;  ///< the uid that may open it
    bool is_isolated = false;                ///< as a port of a bridge
};

/// Nothing when there is none of that name.
Result<std::optional<Interface>> find_interface(const std::string& name);
Result<std::vector<Interface>> interfaces();

/// A new bridge, still down: no spanning tree, no multicast snooping, no IPv6 address of its own,
/// and a hardware address that stays when ports come and go. Errc::already_exists.
Result<void> make_bridge(const std::string& name, const MacAddress& mac);

/// What is written on it; no IPv6 link-local address from now on.
Result<void> mark(int index, const std::string& alias);
Result<void> add_address(int index, const Ipv4Prefix& address);
/// Makes it a port of the bridge. A port does not learn: it gets frames for `mac` (a static entry)
/// and broadcasts, and its frames never go back out of it; isolated ports get nothing from each
/// other. Repeatable.
Result<void> enslave(int index, int bridge, const MacAddress& mac, bool is_isolated);
Result<void> set_up(int index);
/// Down and off its bridge. "Already gone" is success.
Result<void> cut_off(int index);
/// "Already gone" is success. Waits until the kernel has let go of it (about 20 ms).
Result<void> remove_interface(int index);

/// A network that is reached through an interface: a route, or an address' own prefix.
struct Reached {
    Ipv4Prefix network;
    int interface = 0;
};
/// Unicast routes of every table and the prefixes of all addresses. The default route has length 0.
Result<std::vector<Reached>> reached_networks();

}  // namespace banger::rtnetlink

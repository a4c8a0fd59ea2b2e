#pragma once

#include <string>
#include <vector>

#include "banger/values.hpp"

/// What banger wants of nftables, as text. Pure.
///
/// Two tables of ours, replaced whole in one transaction by each change: packets see the old rules
/// or the new, and whatever somebody else did to the tables is undone. A change costs about a
/// millisecond with twenty machines.
///
/// `table bridge banger` looks at each frame as it enters from a tap, before the bridge learns or
/// forwards: only IPv4 and ARP, only with the hardware and protocol address that belong to this
/// tap. A tap that is in no set gets nothing through.
///
/// `table inet banger` looks at what enters the host from the bridge. To the host: answers, and DNS
/// at the bridge's address. Through the host: answers; and from machines with `--nat`, what leaves
/// the host and is neither another guest, nor a service that the host publishes by address
/// translation, nor behind another bridge (containers, other virtual machines), nor link-local or
/// metadata, nor in a private network (except the name server that the guests are given).
/// Masquerading is one chain a machine, chosen by its address.
namespace banger {

/// Every tap's name begins like this; no other interface's should.
inline constexpr std::string_view tap_prefix = "bgr-";

struct RulesetLink {
    VmId vm;
    std::string device;
    MacAddress mac;
    Ipv4Address address;
    bool nat = false;
};

struct RulesetPlan {
    std::string bridge;
    Ipv4Prefix address;     ///< of the bridge
    Ipv4Address guest_dns;  ///< may be asked wherever it is
    bool allow_guest_to_guest = false;
    bool allow_private_networks = false;
    /// Bridges that lead out of the host: the one that the default route goes through.
    std::vector<std::string> outside_bridges;
    std::vector<RulesetLink> links;
};

/// Commands that put the plan in force.
std::string ruleset(const RulesetPlan& plan);
/// Commands that remove both tables, there or not.
std::string empty_ruleset();

}  // namespace banger

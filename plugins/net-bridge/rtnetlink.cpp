#include "plugins/net-bridge/rtnetlink.hpp"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>

#include "core/base/file.hpp"
#include "plugins/net-bridge/netlink.hpp"

namespace banger::rtnetlink {

namespace {

using netlink::Attributes;
using netlink::Request;

ifinfomsg* put_interface(Request& request, int index) {
    ifinfomsg* const info = request.put_header<ifinfomsg>();
    info->ifi_family = AF_UNSPEC;
    info->ifi_index = index;
    return info;
}

Result<void> exchange(Request& request, const std::function<void(const nlmsghdr*)>& on_message) {
    return netlink::Socket(NETLINK_ROUTE).exchange(request, on_message);
}

Result<void> run(Request& request, std::string_view doing) {
    return exchange(request, {}).context(doing);
}

std::optional<MacAddress> mac_of(const nlattr* attribute) {
    if (attribute == nullptr || mnl_attr_get_payload_len(attribute) != 6) return std::nullopt;
    const auto* bytes = static_cast<const std::uint8_t*>(mnl_attr_get_payload(attribute));
    char text[18];
    std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2],
                  bytes[3], bytes[4], bytes[5]);
    const Result<MacAddress> mac = MacAddress::parse(text);
    return mac ? std::optional(*mac) : std::nullopt;
}

void put_mac(Request& request, std::uint16_t type, const MacAddress& mac) {
    mnl_attr_put(request.header(), type, mac.octets().size(), mac.octets().data());
}

/// No link-local address is made, whatever the namespace's defaults are.
void put_no_ipv6(Request& request) {
    nlattr* const families = mnl_attr_nest_start(request.header(), IFLA_AF_SPEC);
    nlattr* const ipv6 = mnl_attr_nest_start(request.header(), AF_INET6);
    mnl_attr_put_u8(request.header(), IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
    mnl_attr_nest_end(request.header(), ipv6);
    mnl_attr_nest_end(request.header(), families);
}

Interface read_interface(const nlmsghdr* message) {
    Interface found;
    const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
    found.index = info->ifi_index;
    found.is_up = (info->ifi_flags & IFF_UP) != 0;
    const Attributes attributes = netlink::attributes_of(message, sizeof *info, IFLA_MAX);
    found.name = netlink::text_of(attributes[IFLA_IFNAME]);
    found.alias = netlink::text_of(attributes[IFLA_IFALIAS]);
    found.master = static_cast<int>(netlink::u32_of(attributes[IFLA_MASTER]).value_or(0));
    found.mac = mac_of(attributes[IFLA_ADDRESS]);
    const Attributes link = netlink::nested(attributes[IFLA_LINKINFO], IFLA_INFO_MAX);
    found.kind = netlink::text_of(link[IFLA_INFO_KIND]);
    if (found.kind == "tun")
        found.tun_owner =
            netlink::u32_of(netlink::nested(link[IFLA_INFO_DATA], IFLA_TUN_MAX)[IFLA_TUN_OWNER]);
    if (netlink::text_of(link[IFLA_INFO_SLAVE_KIND]) == "bridge")
        found.is_isolated =
            netlink::u8_of(netlink::nested(link[IFLA_INFO_SLAVE_DATA],
                                           IFLA_BRPORT_MAX)[IFLA_BRPORT_ISOLATED]) == 1;
    return found;
}

Result<void> put_static_entry(int index, const MacAddress& mac) {
    Request request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
    ndmsg* const entry = request.put_header<ndmsg>();
    entry->ndm_family = AF_BRIDGE;
    entry->ndm_ifindex = index;
    entry->ndm_state = NUD_NOARP;
    entry->ndm_flags = NTF_MASTER;
    put_mac(request, NDA_LLADDR, mac);
    return run(request, "telling the bridge where the machine is");
}

Result<void> collect(std::uint16_t type, std::vector<Reached>& all) {
    Request request(type, NLM_F_DUMP);
    request.put_header<rtmsg>()->rtm_family = AF_INET;
    return exchange(request, [&](const nlmsghdr* message) {
        const bool is_route = message->nlmsg_type == RTM_NEWROUTE;
        unsigned length = 0;
        std::optional<std::uint32_t> address;
        std::optional<std::uint32_t> interface;
        if (is_route) {
            const auto* route = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
            if (route->rtm_type != RTN_UNICAST) return;
            const Attributes attributes = netlink::attributes_of(message, sizeof *route, RTA_MAX);
            length = route->rtm_dst_len;
            address = attributes[RTA_DST] ? netlink::u32_of(attributes[RTA_DST]) : 0;
            interface = netlink::u32_of(attributes[RTA_OIF]);
        } else {
            const auto* own = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(message));
            const Attributes attributes = netlink::attributes_of(message, sizeof *own, IFA_MAX);
            length = own->ifa_prefixlen;
            address = netlink::u32_of(attributes[IFA_ADDRESS]);
            interface = own->ifa_index;
        }
        if (!address) return;
        const Result<Ipv4Prefix> network = Ipv4Prefix::make(Ipv4Address(ntohl(*address)), length);
        // A route over several next hops has no one interface.
        if (network) all.push_back({*network, static_cast<int>(interface.value_or(0))});
    });
}

}  // namespace

Result<std::vector<Interface>> interfaces() {
    std::vector<Interface> all;
    Request request(RTM_GETLINK, NLM_F_DUMP);
    put_interface(request, 0);
    BANGER_TRY(exchange(request, [&](const nlmsghdr* message) {
                   all.push_back(read_interface(message));
               }).context("listing the network interfaces"));
    return all;
}

Result<std::optional<Interface>> find_interface(const std::string& name) {
    std::optional<Interface> found;
    Request request(RTM_GETLINK, 0);
    put_interface(request, 0);
    mnl_attr_put_strz(request.header(), IFLA_IFNAME, name.c_str());
    const Result<void> asked =
        exchange(request, [&](const nlmsghdr* message) { found = read_interface(message); });
    if (!asked && asked.error().code != Errc::not_found)
        return asked.error().context("looking for the network interface " + name);
    return found;
}

Result<void> make_bridge(const std::string& name, const MacAddress& mac) {
    Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    put_interface(request, 0);
    mnl_attr_put_strz(request.header(), IFLA_IFNAME, name.c_str());
    put_mac(request, IFLA_ADDRESS, mac);
    nlattr* const link = mnl_attr_nest_start(request.header(), IFLA_LINKINFO);
    mnl_attr_put_strz(request.header(), IFLA_INFO_KIND, "bridge");
    nlattr* const data = mnl_attr_nest_start(request.header(), IFLA_INFO_DATA);
    mnl_attr_put_u32(request.header(), IFLA_BR_STP_STATE, 0);
    mnl_attr_put_u32(request.header(), IFLA_BR_FORWARD_DELAY, 0);
    mnl_attr_put_u8(request.header(), IFLA_BR_MCAST_SNOOPING, 0);
    mnl_attr_nest_end(request.header(), data);
    mnl_attr_nest_end(request.header(), link);
    return run(request, "making the bridge " + name);
}

Result<void> mark(int index, const std::string& alias) {
    Request request(RTM_SETLINK, 0);
    put_interface(request, index);
    mnl_attr_put_str(request.header(), IFLA_IFALIAS, alias.c_str());
    if (path_exists("/proc/sys/net/ipv6")) put_no_ipv6(request);
    return run(request, "marking a network interface as banger's");
}

Result<void> add_address(int index, const Ipv4Prefix& address) {
    Request request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
    ifaddrmsg* const own = request.put_header<ifaddrmsg>();
    own->ifa_family = AF_INET;
    own->ifa_prefixlen = static_cast<std::uint8_t>(address.length());
    own->ifa_index = static_cast<unsigned>(index);
    mnl_attr_put_u32(request.header(), IFA_LOCAL, htonl(address.address().bits()));
    mnl_attr_put_u32(request.header(), IFA_ADDRESS, htonl(address.address().bits()));
    mnl_attr_put_u32(request.header(), IFA_BROADCAST, htonl(address.broadcast().bits()));
    return run(request, "giving the bridge the address " + address.text());
}

Result<void> enslave(int index, int bridge, const MacAddress& mac, bool is_isolated) {
    {
        Request request(RTM_SETLINK, 0);
        put_interface(request, index);
        mnl_attr_put_u32(request.header(), IFLA_MASTER, static_cast<std::uint32_t>(bridge));
        BANGER_TRY(run(request, "adding the device to the bridge"));
    }
    Request request(RTM_NEWLINK, 0);
    put_interface(request, index);
    nlattr* const link = mnl_attr_nest_start(request.header(), IFLA_LINKINFO);
    mnl_attr_put_strz(request.header(), IFLA_INFO_SLAVE_KIND, "bridge");
    nlattr* const port = mnl_attr_nest_start(request.header(), IFLA_INFO_SLAVE_DATA);
    mnl_attr_put_u8(request.header(), IFLA_BRPORT_ISOLATED, is_isolated ? 1 : 0);
    mnl_attr_put_u8(request.header(), IFLA_BRPORT_MODE, 0);  // no hairpin
    mnl_attr_put_u8(request.header(), IFLA_BRPORT_LEARNING, 0);
    mnl_attr_put_u8(request.header(), IFLA_BRPORT_UNICAST_FLOOD, 0);
    mnl_attr_put_u8(request.header(), IFLA_BRPORT_MCAST_FLOOD, is_isolated ? 0 : 1);
    mnl_attr_nest_end(request.header(), port);
    mnl_attr_nest_end(request.header(), link);
    BANGER_TRY(run(request, "isolating the device on the bridge"));
    return put_static_entry(index, mac);
}

Result<void> set_up(int index) {
    Request request(RTM_SETLINK, 0);
    ifinfomsg* const info = put_interface(request, index);
    info->ifi_flags = IFF_UP;
    info->ifi_change = IFF_UP;
    return run(request, "bringing a network interface up");
}

Result<void> cut_off(int index) {
    Request request(RTM_SETLINK, 0);
    put_interface(request, index)->ifi_change = IFF_UP;
    mnl_attr_put_u32(request.header(), IFLA_MASTER, 0);
    const Result<void> done = run(request, "taking a network interface off the bridge");
    if (!done && done.error().code == Errc::not_found) return ok();
    return done;
}

Result<void> remove_interface(int index) {
    Request request(RTM_DELLINK, 0);
    put_interface(request, index);
    const Result<void> removed = run(request, "removing a network interface");
    if (!removed && removed.error().code == Errc::not_found) return ok();
    return removed;
}

Result<std::vector<Reached>> reached_networks() {
    std::vector<Reached> all;
    BANGER_TRY(collect(RTM_GETROUTE, all).context("reading the routes"));
    BANGER_TRY(collect(RTM_GETADDR, all).context("reading the addresses"));
    return all;
}

}  // namespace banger::rtnetlink

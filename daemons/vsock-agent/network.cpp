#include "daemons/vsock-agent/network.hpp"

#include <arpa/inet.h>
#include <net/if.h>
#include <net/route.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

namespace {

sockaddr_in as_sockaddr(std::uint32_t host_order) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(host_order);
    return address;
}

ifreq request_for(const std::string& name) {
    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    return request;
}

Result<void> set_up(int control, const std::string& name) {
    ifreq request = request_for(name);
    if (ioctl(control, SIOCGIFFLAGS, &request) != 0)
        return Error::from_errno(errno, "reading the flags of " + name);
    request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
    if (ioctl(control, SIOCSIFFLAGS, &request) != 0)
        return Error::from_errno(errno, "bringing up " + name);
    return {};
}

Result<void> set_address(int control, const std::string& name, unsigned long what,
                         std::uint32_t value) {
    ifreq request = request_for(name);
    const sockaddr_in address = as_sockaddr(value);
    std::memcpy(&request.ifr_addr, &address, sizeof address);
    if (ioctl(control, what, &request) != 0)
        return Error::from_errno(errno, "setting the address of " + name);
    return {};
}

Result<void> add_default_route(int control, Ipv4Address gateway) {
    rtentry route{};
    const sockaddr_in any = as_sockaddr(0);
    const sockaddr_in to = as_sockaddr(gateway.bits());
    std::memcpy(&route.rt_dst, &any, sizeof any);
    std::memcpy(&route.rt_genmask, &any, sizeof any);
    std::memcpy(&route.rt_gateway, &to, sizeof to);
    route.rt_flags = RTF_UP | RTF_GATEWAY;
    if (ioctl(control, SIOCADDRT, &route) != 0 && errno != EEXIST)
        return Error::from_errno(errno, "setting the default route");
    return {};
}

Result<std::string> find_interface(const MacAddress& mac) {
    for (const std::string& name : names_in("/sys/class/net")) {
        if (read_line("/sys/class/net/" + name + "/address") == mac.text()) return name;
    }
    return Error(Errc::not_found, "no network interface has the address " + mac.text());
}

}  // namespace

void bring_up_loopback() {
    const UniqueFd control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const Result<void> done = set_up(control.get(), "lo");
    if (!done) say(done.error().text());
}

Result<void> configure_network(const guest::GuestNetwork& network) {
    const std::string name = BANGER_TRY(find_interface(network.mac));
    const UniqueFd control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!control) return Error::from_errno(errno, "socket");
    const unsigned length = network.address.length();
    const std::uint32_t mask = length == 0 ? 0 : ~std::uint32_t{0} << (32 - length);
    BANGER_TRY(set_address(control.get(), name, SIOCSIFADDR, network.address.address().bits()));
    BANGER_TRY(set_address(control.get(), name, SIOCSIFNETMASK, mask));
    BANGER_TRY(set_up(control.get(), name));
    return add_default_route(control.get(), network.gateway);
}

}  // namespace banger::agent

#include "daemons/bangerd/vm_ports.hpp"

#include <optional>
#include <string>

namespace banger {

namespace {

bool is_loopback(std::string_view address) {
    return address.starts_with("127.") || address == "::1" || address.starts_with("::ffff:127.");
}

/// Whether a connection to the guest's IPv4 address arrives there.
bool is_for_everybody(const VmRecord& vm, std::string_view address) {
    return address == "0.0.0.0" || address == "::" || address == "::ffff:0.0.0.0" ||
           (vm.link && address == vm.link->address.address().text());
}

std::string url(const guest::GuestPort& port, const std::string& host, std::uint16_t host_port) {
    std::string scheme = "http";
    if (port.port == 22) scheme = "ssh";
    if (port.port == 443 || port.port == 8443) scheme = "https";
    if (port.protocol == guest::PortProtocol::udp) scheme = "udp";
    const bool is_usual = (scheme == "http" && host_port == 80) ||
                          (scheme == "https" && host_port == 443) ||
                          (scheme == "ssh" && host_port == 22);
    return scheme + "://" + (scheme == "ssh" ? "root@" : "") + host +
           (is_usual ? "" : ":" + std::to_string(host_port));
}

}  // namespace

protocol::Port port_of(const VmRecord& vm, const guest::GuestPort& port, std::string_view zone) {
    protocol::Port out{.protocol = std::string(to_string(port.protocol)),
                       .address = port.address,
                       .port = port.port,
                       .process = port.process,
                       .endpoint = {},
                       .note = {}};
    const bool is_user_link = vm.link && vm.link->kind == LinkKind::user;
    const bool is_tcp = port.protocol == guest::PortProtocol::tcp;
    const bool is_local = is_loopback(port.address);
    const std::string forward =
        "banger vm forward " + vm.name.str() + " " + std::to_string(port.port);
    if (!vm.link) {
        out.note = "the machine has no network";
    } else if (is_local && !is_user_link) {
        out.note = "only inside the guest: it listens on loopback";
        if (is_tcp) out.note += "; " + forward;
    } else if (is_user_link) {
        for (const PortForward& each : vm.link->forwards)
            if (each.guest_port == port.port && is_tcp && is_for_everybody(vm, port.address))
                out.endpoint = url(port, each.host_address.text(), each.host_port);
        if (!out.endpoint)
            out.note = is_tcp && (is_local || is_for_everybody(vm, port.address))
                           ? forward
                           : "not reachable in user mode";
    } else if (is_for_everybody(vm, port.address)) {
        const std::string host = zone.empty() ? vm.link->address.address().text()
                                              : vm.name.str() + "." + std::string(zone);
        out.endpoint = url(port, host, port.port);
    } else {
        out.note = "it listens on an address that is not the machine's";
    }
    return out;
}

}  // namespace banger

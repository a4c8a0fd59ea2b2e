#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger {

/// How a machine is joined to the host.
enum class LinkKind {
    tap,   ///< a tap device on the host; the VMM opens it by name
    user,  ///< the VMM itself speaks TCP and UDP for the guest (slirp); no device, no root
};
std::string_view to_string(LinkKind kind);
std::optional<LinkKind> parse_link_kind(std::string_view word);

/// A TCP port of the guest that answers on the host.
struct PortForward {
    Ipv4Address host_address;
    std::uint16_t host_port = 0;  ///< in a request, 0 lets the plugin choose a free one
    std::uint16_t guest_port = 0;
    friend bool operator==(const PortForward&, const PortForward&) = default;
};

/// What core wants.
struct LinkRequest {
    VmId vm;
    VmName name;
    MacAddress mac;
    /// The lease that core reserved. Nothing when the plugin assigns addresses itself
    /// (Network::addressing() says which).
    std::optional<Ipv4Address> address;
    /// A way out to the Internet. Without it the guest reaches its name server and nothing else.
    bool nat = false;
    /// Who will open the device: the uid the VMM runs as.
    std::uint32_t owner_uid = 0;
    std::vector<PortForward> forwards;
};

/// What a machine got. A plain value that core stores and shows. Nothing is freed when it goes
/// out of scope, because a link outlives the daemon that made it.
struct NetworkLink {
    VmId vm;
    LinkKind kind = LinkKind::user;
    std::string device;  ///< tap: the interface on the host, chosen by the plugin; user: empty
    MacAddress mac;
    Ipv4Prefix address;  ///< of the guest
    Ipv4Address gateway;
    Ipv4Address name_server;
    bool nat = false;
    std::vector<PortForward> forwards;  ///< with the host ports that were chosen
    friend bool operator==(const NetworkLink&, const NetworkLink&) = default;
};

/// Who hands out the guests' addresses.
struct Addressing {
    /// Every guest has an address of its own from this prefix, reserved by core; the prefix' own
    /// address is the host's. Nothing: each guest is behind its own translator and may have the
    /// same.
    std::optional<Ipv4Prefix> pool;
};

/// Joins a machine to the host.
///
/// Core calls every method from a worker thread: one call at a time for one machine, many at once
/// for different ones. Methods may block; those given a stop_token return Errc::cancelled soon
/// after it is triggered. Removal cannot be cancelled. None throws.
class Network {
public:
    virtual ~Network() = default;
    /// Constant for the life of the plugin. Does not block.
    [[nodiscard]] virtual Addressing addressing() const = 0;
    /// Makes the link. All or nothing: on failure the host is as it was. A machine that has a link
    /// already gets Errc::already_exists and keeps it.
    virtual Result<NetworkLink> attach(const LinkRequest& request, std::stop_token stop) = 0;
    /// Removes what attach() made, each step though one fails, and joins the errors. "Already gone"
    /// is success. Nothing passes afterwards; a device may go behind it, and attach() waits for it.
    virtual Result<void> detach(const VmId& vm) = 0;
    /// Called once, before anything else, with every link core remembers. Adopts those still there,
    /// removes the plugin's own leftovers that core does not know, and returns the machines whose
    /// link is gone.
    virtual Result<std::vector<VmId>> recover(std::span<const NetworkLink> remembered) = 0;
    /// Rows for `banger doctor`. Changes nothing.
    virtual std::vector<Check> checks(std::stop_token stop) = 0;
};

}  // namespace banger

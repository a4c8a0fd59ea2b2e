#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger {

/// A TCP connection of this host, as the kernel lists it; or one that was closed within the last
/// minute, which stays in the list that long.
struct TcpConnection {
    Ipv4Address local;
    std::uint16_t local_port = 0;
    Ipv4Address remote;
    std::uint16_t remote_port = 0;
    friend bool operator==(const TcpConnection&, const TcpConnection&) = default;
};

/// The lines of /proc/net/tcp or /proc/net/tcp6, proc(5), that have a peer. Of IPv6, those with
/// IPv4 addresses (RFC 4291, section 2.5.5.2): programs that speak both write them like that. What
/// does not have the known form is left out.
std::vector<TcpConnection> parse_connections(std::string_view text);

/// Those of this process' network.
Result<std::vector<TcpConnection>> tcp_connections();

}  // namespace banger

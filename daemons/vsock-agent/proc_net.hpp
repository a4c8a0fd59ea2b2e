#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/guest/agent_protocol.hpp"

namespace banger::agent {

/// A line of /proc/net/{tcp,udp}[6] that waits for peers: TCP in state LISTEN, UDP unconnected.
struct ListeningSocket {
    guest::GuestPort port;
    std::uint64_t inode = 0;
};

/// proc(5). Lines that are not of the known form are left out.
std::vector<ListeningSocket> parse_proc_net(std::string_view text, guest::PortProtocol protocol);

/// True when something listens on the TCP port.
bool is_listening(std::uint16_t port);

/// What listens, with the processes that hold the sockets, sorted by port.
std::vector<guest::GuestPort> listening_ports();

}  // namespace banger::agent

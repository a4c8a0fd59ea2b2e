#pragma once

#include <optional>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

namespace banger::agent {

/// Where hosts come in: vsock where the machine has it, else the serial port; both if both are
/// there.
struct HostChannel {
    UniqueFd listener;  ///< listening vsock socket, or invalid
    UniqueFd serial;    ///< the open port "banger.agent", or invalid
};

/// Errc::unavailable when the machine has neither.
Result<HostChannel> open_host_channel();

/// The path of the virtio-serial port with that name, if there is one: /sys/class/virtio-ports.
std::optional<std::string> find_serial_port(const std::string& name);

}  // namespace banger::agent

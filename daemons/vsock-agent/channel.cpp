#include "daemons/vsock-agent/channel.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include <cerrno>

#include "core/guest/agent_protocol.hpp"
#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

namespace {

UniqueFd open_vsock_listener() {
    UniqueFd socket_fd(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_vm address{};
    address.svm_family = AF_VSOCK;
    address.svm_cid = VMADDR_CID_ANY;
    address.svm_port = guest::agent_vsock_port;
    if (!socket_fd ||
        bind(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        listen(socket_fd.get(), 8) != 0)
        return {};
    return socket_fd;
}

UniqueFd open_serial_port() {
    const std::optional<std::string> path = find_serial_port(std::string(guest::agent_serial_port));
    if (!path) return {};
    UniqueFd port(open(path->c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!port) say(Error::from_errno(errno, "opening " + *path).text());
    return port;
}

}  // namespace

std::optional<std::string> find_serial_port(const std::string& name) {
    const std::string folder = "/sys/class/virtio-ports";
    for (const std::string& port : names_in(folder)) {
        if (read_line(folder + "/" + port + "/name") == name) return "/dev/" + port;
    }
    return std::nullopt;
}

Result<HostChannel> open_host_channel() {
    HostChannel channel{open_vsock_listener(), open_serial_port()};
    if (channel.listener || channel.serial) return channel;
    return Error(Errc::unavailable,
                 "the machine has neither vsock nor a serial port for the agent");
}

}  // namespace banger::agent

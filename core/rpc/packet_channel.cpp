#include "core/rpc/packet_channel.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/rpc/wait.hpp"

namespace banger::rpc {

namespace {

constexpr std::size_t control_bytes = CMSG_SPACE(sizeof(int) * max_packet_descriptors);

/// Room for the descriptors of one packet and no more: the kernel closes what does not fit and says
/// so.
struct Control {
    alignas(cmsghdr) std::array<std::byte, control_bytes> bytes{};
};

Error gone() { return {Errc::unavailable, "the other process has closed the channel"}; }

/// Takes every descriptor out of the ancillary data, also when the packet is refused in the end.
Result<std::vector<UniqueFd>> take_descriptors(msghdr& message) {
    std::vector<UniqueFd> descriptors;
    bool is_foreign = false;
    for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr;
         each = CMSG_NXTHDR(&message, each)) {
        if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) {
            is_foreign = true;
            continue;
        }
        const std::size_t count = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(each) + i * sizeof(int), sizeof fd);
            descriptors.emplace_back(fd);
        }
    }
    if ((message.msg_flags & MSG_CTRUNC) != 0)
        return Error(Errc::corrupt, "a packet carried more than " +
                                        std::to_string(max_packet_descriptors) + " descriptors");
    if (is_foreign)
        return Error(Errc::corrupt, "a packet carried something other than descriptors");
    return descriptors;
}

}  // namespace

Result<std::pair<PacketChannel, PacketChannel>> PacketChannel::pair() {
    int ends[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return Error::from_errno(errno, "making a channel");
    return std::pair(PacketChannel(UniqueFd(ends[0])), PacketChannel(UniqueFd(ends[1])));
}

Result<void> PacketChannel::send(std::string_view text, std::span<const int> descriptors,
                                 Deadline deadline) {
    if (text.empty() || text.size() > max_packet_bytes)
        return Error(Errc::invalid_argument,
                     "a packet of " + std::to_string(text.size()) + " bytes cannot be sent");
    if (descriptors.size() > max_packet_descriptors)
        return Error(Errc::invalid_argument, std::to_string(descriptors.size()) +
                                                 " descriptors are too many for one packet");
    Control control;
    iovec part{const_cast<char*>(text.data()), text.size()};  // NOLINT: sendmsg only reads it
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
        message.msg_control = control.bytes.data();
        message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
        std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
    }
    while (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        const int number = errno;
        if (number == EINTR) continue;
        if (number == EPIPE || number == ECONNRESET) return gone();
        if (number != EAGAIN) return Error::from_errno(number, "sending a packet");
        BANGER_TRY(wait_for(socket_.get(), POLLOUT, {.deadline = deadline}, "room in the channel"));
    }
    return {};
}

Result<Packet> PacketChannel::receive(Deadline deadline, std::stop_token stop) {
    const WaitLimits limits{.deadline = deadline, .stop = std::move(stop)};
    // Made when there is a packet, and of its size: a server has many connections that are idle.
    std::string text;
    Control control;
    iovec part{};
    msghdr message{};
    ssize_t length = -1;
    do {
        BANGER_TRY(wait_for(socket_.get(), POLLIN, limits, "a packet"));
        length = ::recv(socket_.get(), nullptr, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
        if (length < 0) continue;
        text.resize(std::clamp<std::size_t>(static_cast<std::size_t>(length), 1, max_packet_bytes));
        part = {text.data(), text.size()};
        message = {};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.bytes.data();
        message.msg_controllen = control.bytes.size();
        length = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (length < 0 && (errno == EINTR || errno == EAGAIN));
    if (length < 0) {
        const int number = errno;
        return number == ECONNRESET ? gone() : Error::from_errno(number, "receiving a packet");
    }
    std::vector<UniqueFd> descriptors = BANGER_TRY(take_descriptors(message));
    // send() never sends an empty packet, so no bytes means the end.
    if (length == 0) return gone();
    if ((message.msg_flags & MSG_TRUNC) != 0)
        return Error(Errc::corrupt,
                     "a packet is longer than " + std::to_string(max_packet_bytes) + " bytes");
    text.resize(static_cast<std::size_t>(length));
    return Packet{std::move(text), std::move(descriptors)};
}

}  // namespace banger::rpc

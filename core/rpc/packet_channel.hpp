#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

namespace banger::rpc {

inline constexpr std::size_t max_packet_bytes = std::size_t{128} << 10;
inline constexpr std::size_t max_packet_descriptors = 4;

/// One message and the descriptors that came with it.
struct Packet {
    std::string text;
    std::vector<UniqueFd> descriptors;
};

/// A SOCK_SEQPACKET connection between our own processes: each packet is one JSON text with up to
/// four descriptors. Blocking, with a deadline for every call; one thread sends and one receives.
///
/// receive() is for hostile peers: a packet that is too large, carries too many descriptors, or
/// ancillary data of another kind is Errc::corrupt, every descriptor that came with it is closed,
/// and the caller is expected to close the channel. What is received is close-on-exec.
class PacketChannel {
public:
    using Deadline = std::chrono::steady_clock::time_point;

    explicit PacketChannel(UniqueFd socket) : socket_(std::move(socket)) {}
    /// Both ends, for a child or a test.
    static Result<std::pair<PacketChannel, PacketChannel>> pair();

    /// The descriptors stay the caller's. Errc::invalid_argument over the limits, unavailable when
    /// the peer has gone, timed_out when it does not read.
    Result<void> send(std::string_view text, std::span<const int> descriptors, Deadline deadline);
    /// Errc::unavailable when the peer has closed, timed_out, cancelled by the token, corrupt.
    Result<Packet> receive(Deadline deadline, std::stop_token stop);

    [[nodiscard]] const UniqueFd& socket() const { return socket_; }

private:
    UniqueFd socket_;
};

}  // namespace banger::rpc

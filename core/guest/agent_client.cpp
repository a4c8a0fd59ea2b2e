#include "core/guest/agent_client.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "core/base/process.hpp"

namespace banger::guest {

namespace {

/// How much may come in that is no answer to the present call before the stream is given up:
/// several answers to predecessors, not a flood.
constexpr std::uint64_t max_noise = 1U << 20;

/// Answers to a predecessor on the same serial stream must not look like answers to us.
std::uint64_t random_first_id() {
    std::uint64_t id = 0;
    if (getrandom(&id, sizeof id, 0) != sizeof id) std::abort();
    return id >> 1;
}

Error gone() {
    return {Errc::unavailable, "the guest agent closed the connection",
            "Look at the machine's console with 'banger vm logs'."};
}

}  // namespace

AgentClient::AgentClient(UniqueFd stream)
    : stream_(std::move(stream)), next_id_(random_first_id()), unsent_(1, '\0') {
    const int flags = fcntl(stream_.get(), F_GETFL);
    if (flags >= 0) fcntl(stream_.get(), F_SETFL, flags | O_NONBLOCK);
}

Result<void> AgentClient::wait_for(short events, Deadline deadline, const std::stop_token& stop) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    const int ready = BANGER_TRY(
        poll_fd(stream_.get(), events, std::max(left, std::chrono::milliseconds::zero()), stop));
    if (ready != 0) return {};
    return Error(Errc::timed_out, "the guest agent did not answer in time",
                 "Look at the machine's console with 'banger vm logs'.");
}

Result<void> AgentClient::send(std::string_view bytes, Deadline deadline,
                               const std::stop_token& stop) {
    unsent_ += bytes;
    while (!unsent_.empty()) {
        const ssize_t count = ::send(stream_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
        if (count > 0) {
            unsent_.erase(0, static_cast<std::size_t>(count));
            continue;
        }
        if (errno == EPIPE || errno == ECONNRESET) return gone();
        if (errno != EAGAIN && errno != EINTR)
            return Error::from_errno(errno, "writing to the guest agent");
        if (errno == EAGAIN) BANGER_TRY(wait_for(POLLOUT, deadline, stop));
    }
    return {};
}

Result<std::string> AgentClient::call(std::string_view method, Readiness wait, Deadline deadline,
                                      const std::stop_token& stop) {
    const std::uint64_t id = next_id_++;
    // A call that gave up may have left part of its request unsent; it goes out first, so that the
    // frames stay whole. A guest that reads nothing must not let that grow.
    if (unsent_.size() > max_frame) return gone();
    BANGER_TRY(send(encode_request(id, method, wait), deadline, stop));

    std::uint64_t noise = 0;
    std::array<char, 16384> buffer{};
    while (true) {
        while (std::optional<std::string> text = reader_.next()) {
            Result<AgentReply> reply = decode_reply(*text);
            if (reply && reply->id == id) {
                if (reply->error) return *std::move(reply->error);
                return std::move(reply->parameters);
            }
        }
        if (noise > max_noise)
            return Error(Errc::corrupt, "the guest agent sends bytes that are no answer",
                         "Restart the machine.");
        const ssize_t count = read(stream_.get(), buffer.data(), buffer.size());
        if (count > 0) {
            noise += static_cast<std::uint64_t>(count);
            reader_.append({buffer.data(), static_cast<std::size_t>(count)});
            continue;
        }
        if (count == 0 || errno == ECONNRESET) return gone();
        if (errno != EAGAIN && errno != EINTR)
            return Error::from_errno(errno, "reading from the guest agent");
        if (errno == EAGAIN) BANGER_TRY(wait_for(POLLIN, deadline, stop));
    }
}

Result<GuestHealth> AgentClient::health(Readiness wait, Deadline deadline, std::stop_token stop) {
    return decode_health(BANGER_TRY(call("Health", wait, deadline, stop)));
}

Result<std::vector<GuestPort>> AgentClient::ports(Deadline deadline, std::stop_token stop) {
    return decode_ports(BANGER_TRY(call("Ports", Readiness::none, deadline, stop)));
}

Result<GuestStats> AgentClient::stats(Deadline deadline, std::stop_token stop) {
    return decode_stats(BANGER_TRY(call("Stats", Readiness::none, deadline, stop)));
}

Result<void> AgentClient::sync(Deadline deadline, std::stop_token stop) {
    BANGER_TRY(call("Sync", Readiness::none, deadline, stop));
    return {};
}

Result<void> AgentClient::shutdown(Deadline deadline, std::stop_token stop) {
    Result<std::string> answer = call("Shutdown", Readiness::none, deadline, stop);
    if (!answer && answer.error().code != Errc::unavailable) return answer.error();
    return {};
}

}  // namespace banger::guest

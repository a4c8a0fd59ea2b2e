#pragma once

#include <chrono>
#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/guest/agent_protocol.hpp"

namespace banger::guest {

/// The host's end of the agent's stream.
///
/// Blocks, one call at a time, from any one thread. Every call has a deadline (Errc::timed_out) and
/// a stop_token (Errc::cancelled); a stream that ended is Errc::unavailable: the machine is gone or
/// the agent is. Bytes that are no frame, answers to somebody else, and what is left of a
/// predecessor's conversation are skipped, up to a bound (Errc::corrupt). After timed_out or
/// cancelled the client is still usable; after any other error, close it and connect again.
///
///     UniqueFd stream = BANGER_TRY(backend.connect_agent(process));
///     AgentClient agent(std::move(stream));
///     GuestHealth health = BANGER_TRY(agent.health(Readiness::ready, deadline, stop));
class AgentClient {
public:
    using Deadline = std::chrono::steady_clock::time_point;

    /// Takes a connected stream socket (VmBackend::connect_agent()) and makes it non-blocking.
    explicit AgentClient(UniqueFd stream);

    /// With a wait, returns when the guest is that far, or early with `failure` set when it never
    /// will be. The guest may not run its first instruction yet: the request waits in the channel.
    Result<GuestHealth> health(Readiness wait, Deadline deadline, std::stop_token stop);
    Result<std::vector<GuestPort>> ports(Deadline deadline, std::stop_token stop);
    Result<GuestStats> stats(Deadline deadline, std::stop_token stop);
    /// Returns when everything the guest wrote so far is on its disks.
    Result<void> sync(Deadline deadline, std::stop_token stop);
    /// Returns when the guest has synced and begins to power off; then wait on the VMM's pidfd.
    /// A stream that ends before the answer is success: nothing is as gone as that.
    Result<void> shutdown(Deadline deadline, std::stop_token stop);

private:
    Result<std::string> call(std::string_view method, Readiness wait, Deadline deadline,
                             const std::stop_token& stop);
    Result<void> send(std::string_view bytes, Deadline deadline, const std::stop_token& stop);
    Result<void> wait_for(short events, Deadline deadline, const std::stop_token& stop);

    UniqueFd stream_;
    FrameReader reader_;
    std::uint64_t next_id_;
    std::string unsent_;  ///< rest of a request whose call gave up: must go out before the next one
};

}  // namespace banger::guest

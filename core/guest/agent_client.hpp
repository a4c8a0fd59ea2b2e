#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/base/exec_frames.hpp"
#include "core/guest/agent_protocol.hpp"
#include "core/guest/exec_protocol.hpp"

namespace banger::guest {

/// The host's end of the agent's stream, shared by everybody who talks to that guest: requests and
/// sessions of commands go over it at once, any number from any thread.
///
/// A thread of its own reads and writes the stream and the connections of the sessions' clients; it
/// never blocks on any of them, and holds at most a window for each session and direction.
///
/// Every call has a deadline (Errc::timed_out) and a stop_token (Errc::cancelled); a stream that
/// ended is Errc::unavailable: the machine is gone or the agent is. Bytes that are no frame,
/// answers to somebody else, and what is left of a predecessor's conversation are skipped, up to a
/// bound (Errc::corrupt). After timed_out or cancelled the client is still usable; after any other
/// error of the stream is_broken(): everybody gets that error, so make another.
///
///     UniqueFd stream = BANGER_TRY(backend.connect_agent(process));
///     AgentClient agent(std::move(stream));
///     GuestHealth health = BANGER_TRY(agent.health(Readiness::ready, deadline, stop));
class AgentClient {
public:
    using Deadline = std::chrono::steady_clock::time_point;

    /// Takes a connected stream socket (VmBackend::connect_agent()) and makes it non-blocking.
    explicit AgentClient(UniqueFd stream);
    /// Clients of sessions are told that bangerd goes away.
    ~AgentClient();
    AgentClient(const AgentClient&) = delete;
    AgentClient& operator=(const AgentClient&) = delete;

    [[nodiscard]] bool is_broken() const;

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

    /// A command that runs.
    struct Started {
        std::uint64_t session = 0;
        std::uint32_t window = 0;  ///< input that its client may send at once
    };
    /// Returns when the guest has started it. Then attach() its client, or hang_up().
    /// Errc::busy over max_sessions.
    Result<Started> exec(ExecRequest request, Deadline deadline, std::stop_token stop);
    /// Takes a connected stream socket whose other end speaks ExecFrames by length. When it goes
    /// away the command is hung up. The last thing on it is `exit` or `failed`; then it is closed.
    void attach(std::uint64_t session, UniqueFd client);
    void hang_up(std::uint64_t session);
    /// Commands that were asked for and have not ended.
    [[nodiscard]] std::size_t sessions() const;

private:
    struct Session {
        UniqueFd client;
        bool is_attached = false;
        bool is_hung_up = false;  ///< we said so; what still comes is dropped until its end
        bool is_over = false;     ///< nothing more comes from the guest
        ExecFrameReader reader;
        std::string to_client;
        std::string input;                        ///< from the client, not yet on its way
        bool has_input_ended = false;             ///< by the client
        std::uint64_t input_left = 0;             ///< what the client may still send
        std::uint64_t output_left = exec_window;  ///< what the guest may still send
        std::uint64_t unacknowledged = 0;         ///< got from the guest, and not yet credited
    };
    using Sessions = std::map<std::uint64_t, Session>;
    using Lock = std::unique_lock<std::mutex>;

    Result<std::string> call(std::uint64_t id, Result<std::string> frame, Deadline deadline,
                             const std::stop_token& stop);
    Result<std::string> call(std::string_view method, Readiness wait, Deadline deadline,
                             const std::stop_token& stop);
    std::uint64_t next_id();

    // Below: of the thread, or with the mutex held.
    void run(const std::stop_token& stop);
    void wake() const;
    void read_stream();
    void write_stream();
    void take_frame(const std::string& frame);
    void take_session_frame(const SessionFrame& frame);
    void pump(Sessions::iterator session);
    void read_client(std::uint64_t id, Session& session);
    void take_client_frame(std::uint64_t id, Session& session, const ExecFrame& frame);
    void write_client(std::uint64_t id, Session& session);
    void say(std::uint64_t session, ExecKind kind, std::string_view data = {});
    void tell_hang_up(std::uint64_t id, Session& session);
    static void end(Session& session, const Error& why);
    void break_off(const Error& why, const Error& for_sessions);
    void break_off();

    UniqueFd stream_;
    UniqueFd wake_;
    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    FrameReader reader_;
    std::uint64_t next_id_;
    const std::uint64_t first_id_;
    std::string out_;                                                    ///< to the guest
    std::map<std::uint64_t, std::optional<Result<std::string>>> calls_;  ///< that are waited for
    Sessions sessions_;
    std::uint64_t noise_ = 0;  ///< bytes since the last one that meant something
    std::optional<Error> broken_;
    std::jthread thread_;  ///< last: it uses all of the above
};

}  // namespace banger::guest

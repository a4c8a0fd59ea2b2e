#pragma once

#include <poll.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/guest/exec_protocol.hpp"

namespace banger::agent {

/// One command in the image, with its streams or terminal, and the host at the other end. Of one
/// thread, which never blocks: the server polls what add_polls() names, and calls pump() when
/// anything has happened.
///
/// What is held for a host or a command that does not read is at most one window each way.
class ExecSession {
public:
    /// `root` is where the image is seen from here: "/proc/1/root", "/" for ourselves (tests).
    /// Errc::not_found: no such user; unsupported: no shell. What goes wrong later is said on the
    /// command's standard error, as a shell would, and its status is 125, 126 or 127.
    static Result<std::unique_ptr<ExecSession>> start(std::uint64_t id, const std::string& root,
                                                      const guest::ExecRequest& request);
    ~ExecSession();
    ExecSession(const ExecSession&) = delete;
    ExecSession& operator=(const ExecSession&) = delete;

    [[nodiscard]] std::uint64_t id() const { return id_; }
    [[nodiscard]] std::uint64_t stream() const { return stream_; }
    [[nodiscard]] pid_t pid() const { return pid_; }

    /// What the host says. One that sends more than it may is hung up.
    void take(const ExecFrame& frame);
    /// The command has ended.
    void on_exit(int wait_status);
    /// Nobody listens any more: SIGHUP now, SIGKILL to what stays.
    void hang_up();
    [[nodiscard]] bool is_hung_up() const { return kill_at_ms_ != 0; }

    /// `has_room`: the host's stream takes more.
    void add_polls(std::vector<pollfd>& fds, bool has_room) const;
    /// Moves what can be moved: input to the command, frames of its output to the end of `out`
    /// while that is short.
    void pump(std::string& out);
    /// When pump() has to be called again whatever happens, in uptime_ms(); 0: never.
    [[nodiscard]] std::uint64_t due_ms() const;
    /// Nothing more will come of it: its end was said, or nobody wants to hear.
    [[nodiscard]] bool is_over() const { return is_over_; }

private:
    struct Output {
        UniqueFd fd;
        ExecKind kind = ExecKind::output;
    };

    ExecSession(std::uint64_t id, std::uint64_t stream) : id_(id), stream_(stream) {}
    void signal_group(int number) const;
    void feed(std::string& out);
    /// True when there was nothing to read at this moment.
    bool drain(Output& output, std::string& out);
    void say(std::string& out, ExecKind kind, std::string_view data = {}) const;

    std::uint64_t id_;
    std::uint64_t stream_;
    pid_t pid_ = -1;
    bool has_terminal_ = false;
    UniqueFd input_fd_;
    std::array<Output, 2> outputs_;
    std::string input_;             ///< what the command has not taken yet
    bool has_input_ended_ = false;  ///< by the host
    std::uint32_t input_owed_ = 0;  ///< taken by the command, and not yet credited to the host
    std::uint64_t input_left_ = exec_window;   ///< what the host may still send
    std::uint64_t output_left_ = exec_window;  ///< what we may still send
    bool has_exited_ = false;
    std::uint8_t status_ = 0;
    std::uint64_t exited_at_ms_ = 0;
    std::uint64_t kill_at_ms_ = 0;
    bool is_over_ = false;
};

/// Frames wait for the host up to here; what comes after that stays in the command's pipes.
inline constexpr std::size_t max_waiting_output = std::size_t{128} << 10;

}  // namespace banger::agent

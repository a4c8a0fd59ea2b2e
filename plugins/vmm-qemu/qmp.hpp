#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

/// QEMU's control protocol: lines of JSON over its socket (docs/interop/qmp-spec). Only what this
/// plugin asks for.
namespace banger::qemu {

/// What one line from QEMU is. Everything in it is foreign: a guest that took QEMU over writes it.
struct QmpMessage {
    enum class Kind { greeting, reply, failure, event } kind = Kind::event;
    std::string name;  ///< event: its name; failure: its class
    std::string text;  ///< failure: description; reply: the JSON of "return"
};

/// Reads one line. Errc::corrupt for anything that is not a QMP message, is nested deeper than 16
/// or larger than `max_qmp_line`.
Result<QmpMessage> parse_qmp(std::string_view line);
inline constexpr std::size_t max_qmp_line = std::size_t{64} << 10;

/// One connection to a QEMU. One user at a time, any thread; the socket closes with it.
class Qmp {
public:
    /// Connects and shakes hands. Errc::not_found when no QEMU has the socket, timed_out,
    /// cancelled, corrupt.
    static Result<Qmp> connect(const std::string& socket_path, std::chrono::milliseconds deadline,
                               std::stop_token stop);

    /// Runs a command without arguments and returns the JSON text of its answer. Events in between
    /// are dropped. A command that QEMU refuses is Errc::wrong_state with its words; a connection
    /// that QEMU closed is Errc::unreachable.
    Result<std::string> execute(std::string_view command, std::stop_token stop);
    /// Waits until QEMU closes the connection, which it does when it ends. False: it did not in
    /// time.
    Result<bool> wait_for_close(std::stop_token stop);

private:
    Qmp(UniqueFd socket, std::chrono::milliseconds deadline)
        : socket_(std::move(socket)), deadline_(deadline) {}
    Result<std::string> read_line(std::stop_token stop);
    Result<QmpMessage> read_reply(std::stop_token stop);

    UniqueFd socket_;
    std::chrono::milliseconds deadline_;  ///< for each exchange
    std::string buffered_;
};

/// Whether a "query-status" answer says that the guest's processors run.
Result<bool> is_guest_running(std::string_view status_answer);
/// Whether a "query-chardev" answer says that somebody is connected to the device `label`.
Result<bool> is_chardev_connected(std::string_view chardev_answer, std::string_view label);

/// Connects a stream socket to the path. Errc::not_found when nobody listens there.
Result<UniqueFd> connect_unix(const std::string& path);
/// A listening socket at the path (an old file of that name goes), close-on-exec.
Result<UniqueFd> listen_unix(const std::string& path);

}  // namespace banger::qemu

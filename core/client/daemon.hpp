#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "core/client/connection.hpp"
#include "core/config/paths.hpp"

namespace banger::client {

/// Which bangerd this user's commands talk to, and how it is started.
struct DaemonPlace {
    Paths paths;          ///< of its mode
    std::string program;  ///< bangerd's, for user mode; empty when it was not found
};

/// The system service where one is installed and takes this user, else the user's own daemon, whose
/// program lies beside `own_program` (banger's real path), in ../libexec/banger or ../libexec.
Result<DaemonPlace> find_daemon(const PathEnvironment& environment, const std::string& own_program);

/// Connects to a daemon that runs. Errc::unavailable when none does.
Result<Connection> connect_running(const DaemonPlace& place);

/// Connects, in user mode starting the daemon first where none runs. Many commands at once start
/// one: the first takes a lock beside the socket, the others wait for it and then look again.
///
/// The contract with the program: `bangerd --user --ready-fd N`, in a session of its own, with its
/// log as standard error, nothing else inherited. It writes "ready\n" to N once it listens, or one
/// sentence that says why it cannot. Blocks until then, at most half a minute. When it fails the
/// error has that sentence, or the last lines it wrote to its log.
Result<Connection> connect_or_start(const DaemonPlace& place);

/// The daemon as commands see it: there whenever it is called.
///
/// Connects at the first call. A connection that is lost before the first reply (the daemon left
/// because it was idle, just then) is made again, and the call repeated, once. A user daemon of
/// another build is asked to leave and its successor started; when it is busy, or is the system's,
/// `warn` hears of it once and the call goes to it. One thread.
class Daemon {
public:
    using Warn = std::function<void(const std::string&)>;
    Daemon(DaemonPlace place, Warn warn) : place_(std::move(place)), warn_(std::move(warn)) {}

    /// As Connection::call().
    template <class Out, class In>
    Result<Out> call(std::string_view method, const In& in, CallOptions options = {}) {
        bool has_heard = false;
        if (options.on_progress)
            options.on_progress =
                [&has_heard, inner = std::move(options.on_progress)](const Progress& progress) {
                    has_heard = true;
                    inner(progress);
                };
        for (int attempt = 0;; ++attempt) {
            BANGER_TRY(connect());
            Result<Out> out = connection_->template call<Out>(method, in, options);
            if (out || !is_lost(out.error())) return out;
            if (has_heard || attempt > 0) return went_away(out.error());
        }
    }

    /// As Connection::stream(), without the second attempt.
    template <class Out, class In, class OnItem>
    Result<void> stream(std::string_view method, const In& in, OnItem on_item,
                        const CallOptions& options = {}) {
        BANGER_TRY(connect());
        Result<void> done =
            connection_->template stream<Out>(method, in, std::move(on_item), options);
        if (done || !is_lost(done.error())) return done;
        return went_away(done.error());
    }

    /// Makes sure that there is a connection. Calls do so themselves.
    Result<void> connect();
    [[nodiscard]] const DaemonPlace& place() const { return place_; }
    /// Another one for another thread; connects for itself.
    [[nodiscard]] Daemon another() const { return {place_, nullptr}; }

private:
    /// Also drops a connection that is of no use any more.
    bool is_lost(const Error& error);
    [[nodiscard]] Error went_away(const Error& error) const;
    Result<void> settle_versions();

    DaemonPlace place_;
    Warn warn_;
    std::optional<Connection> connection_;
    UniqueFd process_;  ///< of the daemon behind the connection
    bool has_settled_ = false;
};

}  // namespace banger::client

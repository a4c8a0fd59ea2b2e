#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/base/service_notify.hpp"
#include "core/config/paths.hpp"

namespace banger {

/// Everything that bangerd is, put together in one place: paths → configuration → store → plugins →
/// images → machines → server.
class Daemon {
public:
    struct Options {
        Paths paths;
        std::vector<std::string> plugin_folders;  ///< banger's own
        std::vector<std::string> third_party_folders = {};
        std::string plugin_host = {};  ///< path of banger-plugin-host
        bool is_safe_mode = false;     ///< third parties' plugins are left alone
        std::string agent;             ///< path of the static banger-vsock-agent
        /// Leave after this long without a connection, a request or a machine; zero: never.
        std::chrono::milliseconds idle_after{0};
        /// Listening sockets that systemd passed; none: one is made at paths.socket.
        std::vector<UniqueFd> listeners = {};
        ServiceNotify notify = {};
        std::function<void(LogLevel, const std::string&)> log;
    };

    /// Takes the daemon's lock, opens everything, puts right what an earlier daemon left, and
    /// listens. Errc::busy when another bangerd runs.
    static Result<std::unique_ptr<Daemon>> open(Options options);
    ~Daemon();

    /// Serves until told to leave or idle. Machines keep running. From now on the service manager
    /// is told how we are, from the thread that serves: one that hangs is seen.
    void run();
    /// Ends run(): from a signal's handler thread or any other.
    void leave();

private:
    struct Inside;
    explicit Daemon(std::unique_ptr<Inside> inside);
    std::unique_ptr<Inside> inside_;
};

}  // namespace banger

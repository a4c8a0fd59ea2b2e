#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

namespace banger {

/// Tells the service manager how we are: sd_notify(3), whose protocol is fixed and a dozen lines.
/// Not libsystemd's own, because that brings compression and cryptography libraries into the root
/// helper.
///
/// Does nothing where nobody asked (no NOTIFY_SOCKET). Safe from any thread once made. A message
/// that cannot be sent is dropped: a daemon does not stop working because nobody listens.
class ServiceNotify {
public:
    /// Talks to nobody.
    ServiceNotify() = default;
    /// Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no child
    /// speaks in our name: call it once, before there are threads.
    static ServiceNotify from_environment();

    /// Startup is finished; sockets answer.
    void ready() const { send("READY=1"); }
    /// One line for `systemctl status`. Newlines in it are replaced.
    void status(std::string_view text) const;
    void stopping() const { send("STOPPING=1"); }
    /// We are alive. Send it from the thread whose hanging is to be seen.
    void alive() const { send("WATCHDOG=1"); }

    /// How often alive() is expected; call it a few times as often. Nothing: no watchdog.
    [[nodiscard]] std::optional<std::chrono::milliseconds> watchdog() const { return watchdog_; }

private:
    void send(std::string_view message) const;

    std::string address_;  ///< as in sockaddr_un: an abstract one begins with NUL
    UniqueFd socket_;
    std::optional<std::chrono::milliseconds> watchdog_;
};

}  // namespace banger

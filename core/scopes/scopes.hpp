#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"

struct sd_bus;

namespace banger {

/// What a machine's VMM may use at most.
struct ScopeRequest {
    VmId vm;
    VmName name;
    ProcessId process;
    ByteCount memory;  ///< of the guest; the VMM's own comes on top
    std::uint32_t vcpus = 1;

    /// "banger-ID.scope".
    [[nodiscard]] std::string unit() const;
    /// The guest's memory, a sixteenth of it for page tables and queues, and what QEMU's translator
    /// may use (1 GiB and some). A net under a VMM that runs wild, no accounting.
    [[nodiscard]] ByteCount memory_limit() const;
    [[nodiscard]] std::uint64_t task_limit() const;
};

/// Puts VMMs into control groups of their own: transient scopes of the owner's systemd user manager
/// (banger.slice), so that they are no part of bangerd's service, have limits, and can be seen with
/// `systemctl --user status banger.slice`.
///
/// Best effort: where there is no user manager a VMM stays where it was started, which is a line in
/// the log and a row of doctor; another user's VMM (Firecracker's) is its back end's to contain.
/// Never delays a start: contain() puts the request in a queue, and
/// one thread of this object talks to the bus. A scope is no handle: what ends a VMM is its pidfd.
class Scopes {
public:
    using Log = std::function<void(LogLevel, const std::string&)>;
    /// `bus` is the path of the user's bus socket, /run/user/UID/bus.
    Scopes(std::string bus, Log log);
    /// Drops what is still queued; waits for what is being done, 10 s at most.
    ~Scopes();
    Scopes(const Scopes&) = delete;
    Scopes& operator=(const Scopes&) = delete;

    /// Returns at once; any thread. A VMM that is in its scope already stays there.
    void contain(ScopeRequest request);
    /// A row for doctor; blocks for 5 s at most.
    [[nodiscard]] Check check() const;

private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

/// Whether scopes of this user's manager outlive the user's last session. Where they do not, a VMM
/// is safer in the session that started it.
[[nodiscard]] bool user_manager_lingers();

}  // namespace banger

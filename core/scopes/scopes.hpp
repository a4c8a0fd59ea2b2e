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

/// The control group that a process is to have, and what it may use there at most.
struct ScopeRequest {
    std::string unit;     ///< "banger-….scope"
    std::string subject;  ///< for people: "machine sandbox"
    ProcessId process;
    ByteCount memory;
    std::uint64_t tasks = 0;  ///< processes and threads
};

/// "banger-ID.scope", for a VMM. Its memory is the guest's, a sixteenth of it for page tables and
/// queues, and what QEMU's translator may use (1 GiB and some). A net under a VMM that runs wild,
/// no accounting.
[[nodiscard]] ScopeRequest scope_of_machine(const VmId& vm, const VmName& name,
                                            const ProcessId& process, ByteCount guest_memory,
                                            std::uint32_t vcpus);
/// "banger-plugin-NAME-PID.scope", for a third party's plugin that may use `memory`.
[[nodiscard]] ScopeRequest scope_of_plugin(const PluginName& name, const ProcessId& process,
                                           ByteCount memory);

/// Puts VMMs and third parties' plugins into control groups of their own: transient scopes of the
/// owner's systemd user manager (banger.slice), so that they are no part of bangerd's service, have
/// limits, and can be seen with `systemctl --user status banger.slice`.
///
/// Best effort: where there is no user manager a process stays where it was started, which is a
/// line in the log and a row of doctor; another user's VMM (Firecracker's) is its back end's to
/// contain. A scope is no handle: what ends a process is its pidfd.
class Scopes {
public:
    using Log = std::function<void(LogLevel, const std::string&)>;
    /// `bus` is the path of the user's bus socket, /run/user/UID/bus.
    Scopes(std::string bus, Log log);
    /// Drops what is still queued; waits for what is being done, 10 s at most.
    ~Scopes();
    Scopes(const Scopes&) = delete;
    Scopes& operator=(const Scopes&) = delete;

    /// Returns at once, so that no start is delayed: one thread of this object talks to the bus.
    /// Any thread. A process that is in its scope already stays there.
    void contain(ScopeRequest request);
    /// The same, but returns when the process has its scope or is not to have one: for a process
    /// that waits until then with what is to be contained. Some 15 s where the manager hangs.
    /// Any thread.
    void contain_now(const ScopeRequest& request);
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

#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "banger/host.hpp"
#include "core/base/process.hpp"
#include "core/store/store.hpp"
#include "core/vms/connections.hpp"
#include "core/vms/machines.hpp"

namespace banger {

/// Which machines calls are about. Safe from any thread.
class MachineUses {
public:
    /// Held while a call goes on.
    class Use {
    public:
        Use(MachineUses* uses, VmId vm) : uses_(uses), vm_(std::move(vm)) {}
        Use(Use&& other) noexcept
            : uses_(std::exchange(other.uses_, nullptr)), vm_(std::move(other.vm_)) {}
        Use& operator=(Use&&) = delete;
        ~Use() {
            if (uses_ != nullptr) uses_->end(vm_);
        }

    private:
        MachineUses* uses_;
        VmId vm_;
    };

    [[nodiscard]] Use begin(const VmId& vm);
    /// Those with a call that goes on, or that went on since this was asked before.
    std::set<VmId> take();
    [[nodiscard]] bool is_in_use(const VmId& vm) const;

private:
    void end(const VmId& vm);

    mutable std::mutex mutex_;
    /// Calls that go on; an entry that ended stays, as nought, until it is taken.
    std::map<VmId, std::size_t> counts_;
};

/// Stops machines that nobody uses: `auto_stop_stale_after`.
///
/// A machine is in use while somebody on this host is connected to it (an ssh session, a browser, a
/// kept connection), while a call about it goes on in bangerd or has since the last look, and while
/// its VMM works. One that was not for the whole period is stopped as `vm stop` does it; a guest
/// that does not go by itself is never forced. Time in which the host sleeps does not count, nor
/// does time before this daemon started.
///
/// A VMM works when it took 2 % of a processor or more, taken over the whole period: what an idle
/// guest does by itself is less. Then another period begins.
class AutoStop {
public:
    using Clock = std::chrono::steady_clock;
    struct Parts {
        Machines& machines;
        Store& store;
        MachineUses& uses;
        std::chrono::seconds after;
        std::string after_text;  ///< for people: "2h"
        std::function<void(LogLevel, const std::string&)> log;
        /// What is seen of the host, so that a test can have another.
        std::function<Clock::time_point()> now = Clock::now;
        std::function<Result<std::vector<TcpConnection>>()> connections = tcp_connections;
        std::function<Result<ProcessUsage>(const ProcessId&)> usage = usage_of;
    };
    explicit AutoStop(Parts parts) : parts_(std::move(parts)) {}

    /// Looks at every machine, and stops those that are stale. Blocks until they have stopped; one
    /// call at a time.
    void look(std::stop_token stop);
    /// How often: connections leave the kernel's list a minute after their end, and are not to be
    /// missed.
    [[nodiscard]] std::chrono::milliseconds interval() const;

private:
    /// Since when nobody used it, and what its VMM had taken of the processor until then.
    struct Quiet {
        ProcessId process;
        Clock::time_point since;
        std::chrono::milliseconds cpu{0};
    };
    void stop_machine(const VmRecord& vm, std::stop_token stop);
    bool is_connected(const VmRecord& vm);

    Parts parts_;
    std::map<VmId, Quiet> quiet_;
    bool has_warned_ = false;
};

}  // namespace banger

#include "core/vms/auto_stop.hpp"

#include <algorithm>

namespace banger {

namespace {

using namespace std::chrono_literals;

/// An idle guest's VMM takes less than one part in this many.
constexpr int busy_share = 50;

/// Nobody waits for it and nobody hears of its progress.
class QuietCall final : public Call {
public:
    explicit QuietCall(std::stop_token stop) : stop_(std::move(stop)) {}
    [[nodiscard]] std::stop_token stop() const override { return stop_; }
    void report(const Progress& /*progress*/) override {}

private:
    std::stop_token stop_;
};

/// To a machine with an address of its own, or to the port of this host that leads to its sshd. Of
/// a connection through this host both ends are listed, and after it was closed only one of them.
bool leads_to(const TcpConnection& connection, const NetworkLink& link) {
    if (link.kind == LinkKind::tap) return connection.remote == link.address.address();
    return std::ranges::any_of(link.forwards, [&](const PortForward& forward) {
        return (connection.remote == forward.host_address &&
                connection.remote_port == forward.host_port) ||
               (connection.local == forward.host_address &&
                connection.local_port == forward.host_port);
    });
}

}  // namespace

MachineUses::Use MachineUses::begin(const VmId& vm) {
    const std::lock_guard lock(mutex_);
    ++counts_[vm];
    return {this, vm};
}

void MachineUses::end(const VmId& vm) {
    const std::lock_guard lock(mutex_);
    --counts_[vm];
}

std::set<VmId> MachineUses::take() {
    const std::lock_guard lock(mutex_);
    std::set<VmId> used;
    for (const auto& [vm, calls] : counts_)
        used.insert(vm);
    std::erase_if(counts_, [](const auto& entry) { return entry.second == 0; });
    return used;
}

bool MachineUses::is_in_use(const VmId& vm) const {
    const std::lock_guard lock(mutex_);
    return counts_.contains(vm);
}

std::chrono::milliseconds AutoStop::interval() const {
    return std::clamp<std::chrono::milliseconds>(parts_.after / 10, 1s, 30s);
}

bool AutoStop::is_connected(const VmRecord& vm) {
    if (parts_.machines.has_commands(vm)) return true;
    if (!vm.link) return false;
    const Result<std::vector<TcpConnection>> connections = parts_.connections();
    if (!connections) {
        if (!std::exchange(has_warned_, true))
            parts_.log(LogLevel::warning,
                       "no machine is stopped by itself: whether somebody is connected is not "
                       "known: " +
                           connections.error().text());
        return true;
    }
    return std::ranges::any_of(*connections, [&](const TcpConnection& connection) {
        return leads_to(connection, *vm.link);
    });
}

void AutoStop::look(std::stop_token stop) {
    const Result<std::vector<VmRecord>> all = parts_.store.machines();
    if (!all) return;
    const std::set<VmId> called = parts_.uses.take();
    const std::map<VmId, Quiet> before = std::exchange(quiet_, {});
    for (const VmRecord& vm : *all) {
        if (vm.state != VmState::running || !vm.process || stop.stop_requested()) continue;
        const Result<ProcessUsage> usage = parts_.usage(vm.process->process);
        if (!usage) continue;  // it has just ended, and somebody else sees to that
        const Clock::time_point now = parts_.now();
        const Quiet fresh{vm.process->process, now, usage->cpu};
        const auto found = before.find(vm.id);
        if (called.contains(vm.id) || found == before.end() ||
            found->second.process != fresh.process || is_connected(vm)) {
            quiet_.emplace(vm.id, fresh);
            continue;
        }
        const Quiet& quiet = found->second;
        if (now - quiet.since < parts_.after) {
            quiet_.emplace(vm.id, quiet);
        } else if ((usage->cpu - quiet.cpu) * busy_share >= now - quiet.since) {
            quiet_.emplace(vm.id, fresh);
        } else {
            stop_machine(vm, stop);
        }
    }
}

void AutoStop::stop_machine(const VmRecord& vm, std::stop_token stop) {
    const std::string why = "nobody used it for " + parts_.after_text +
                            ", so banger stopped it (auto_stop_stale_after)";
    QuietCall call(std::move(stop));
    const auto is_unused = [&] { return !parts_.uses.is_in_use(vm.id) && !is_connected(vm); };
    const Result<std::int64_t> line = parts_.store.begin_operation("vm.auto-stop", vm.id.str());
    const Result<bool> stopped = parts_.machines.stop_unused(vm.id, is_unused, why, call);
    if (line) (void)parts_.store.end_operation(*line, stopped ? nullptr : &stopped.error());
    if (!stopped)
        parts_.log(LogLevel::warning, vm.name.str() + " was not used for " + parts_.after_text +
                                          ", but: " + stopped.error().text());
    else if (*stopped)
        parts_.log(LogLevel::info, vm.name.str() + ": " + why);
}

}  // namespace banger

#include "core/base/process.hpp"
#include "core/vms/machines.hpp"
#include "core/vms/states.hpp"

namespace banger {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// For a guest that only has to look something up.
constexpr std::chrono::milliseconds answer_time = 2000ms;
/// For whoever works on the machine, before its disks are left out.
constexpr std::chrono::milliseconds turn_time = 500ms;

}  // namespace

Result<guest::GuestHealth> Machines::health(const std::string& name, bool wait,
                                            std::stop_token stop) {
    const VmRecord vm = BANGER_TRY(parts_.store.find_machine(name));
    if (!vm.process) return not_running(vm);
    const Roles3 roles = BANGER_TRY(roles_of(vm));
    const Clock::time_point deadline =
        Clock::now() + (wait ? BANGER_TRY(patience(parts_.ready_deadline, *roles.backend)) : 5s);
    const std::shared_ptr<guest::AgentClient> agent =
        BANGER_TRY(lines_.get(*roles.backend, *vm.process, deadline, stop));
    return agent->health(wait ? guest::Readiness::ready : guest::Readiness::none, deadline, stop);
}

template <class T>
Result<T> Machines::ask_agent(
    const VmRecord& vm, std::stop_token stop,
    Result<T> (guest::AgentClient::*question)(guest::AgentClient::Deadline, std::stop_token)) {
    if (!vm.process) return not_running(vm);
    const Roles3 roles = BANGER_TRY(roles_of(vm));
    const Clock::time_point deadline = Clock::now() + answer_time;
    const std::shared_ptr<guest::AgentClient> agent =
        BANGER_TRY(lines_.get(*roles.backend, *vm.process, deadline, stop));
    return ((*agent).*question)(deadline, stop);
}

Result<MachineUsage> Machines::usage(const std::string& name, std::stop_token stop) {
    MachineUsage usage{.vm = BANGER_TRY(parts_.store.find_machine(name)),
                       .guest = {},
                       .why_no_guest = {},
                       .vmm = {},
                       .disks = {}};
    const VmRecord& vm = usage.vm;
    const Result<guest::GuestStats> said = ask_agent(vm, stop, &guest::AgentClient::stats);
    if (said)
        usage.guest = *said;
    else if (said.error().code == Errc::cancelled)
        return said.error();
    else
        usage.why_no_guest = said.error().message;
    if (vm.process) {
        const Result<ProcessUsage> vmm = usage_of(vm.process->process);
        if (vmm) usage.vmm = *vmm;
    }
    // A storage plugin gets one call at a time for one machine.
    const Result<KeyedLock::Guard> guard =
        machines_.acquire_until(vm.id.str(), Clock::now() + turn_time, stop);
    Storage* storage = BANGER_TRY(parts_.registry.storage(vm.storage.str()));
    if (guard)
        for (const Volume& volume : vm.volumes) {
            const Result<VolumeUsage> disk = storage->usage(volume);
            if (disk) usage.disks.emplace_back(volume.role, *disk);
        }
    return usage;
}

Result<std::vector<MachineDisk>> Machines::disk_use() {
    std::vector<MachineDisk> disks;
    for (const VmRecord& vm : BANGER_TRY(parts_.store.machines())) {
        std::uint64_t bytes = 0;
        const Result<KeyedLock::Guard> guard = machines_.try_acquire(vm.id.str());
        const Result<Storage*> storage = parts_.registry.storage(vm.storage.str());
        if (guard && storage)
            for (const Volume& volume : vm.volumes)
                if (const Result<VolumeUsage> usage = (*storage)->usage(volume))
                    bytes += usage->allocated.count();
        disks.push_back({vm.id, vm.name, ByteCount::bytes(bytes),
                         vm.state == VmState::running || vm.state == VmState::paused});
    }
    return disks;
}

Result<Machines::Listeners> Machines::ports(const std::string& name, std::stop_token stop) {
    VmRecord vm = BANGER_TRY(parts_.store.find_machine(name));
    std::vector<guest::GuestPort> ports =
        BANGER_TRY(ask_agent(vm, std::move(stop), &guest::AgentClient::ports)
                       .context("asking " + vm.name.str() + " for its ports"));
    return Listeners{std::move(vm), std::move(ports)};
}

Result<UniqueFd> Machines::console(const std::string& name) {
    const VmRecord vm = BANGER_TRY(parts_.store.find_machine(name));
    VmBackend* backend = BANGER_TRY(parts_.registry.vm_backend(vm.backend.str()));
    return backend->console(vm.id);
}

}  // namespace banger

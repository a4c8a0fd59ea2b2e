#include "core/base/process.hpp"
#include "core/vms/machines.hpp"
#include "core/vms/states.hpp"

namespace banger {

namespace {

/// The work disk as it is, which is not always what the record wants it to be.
const Volume* work_disk(const VmRecord& vm) {
    for (const Volume& volume : vm.volumes)
        if (volume.role == VolumeRole::work) return &volume;
    return nullptr;
}

}  // namespace

Result<VmRecord> Machines::signal(const std::string& name, int number) {
    const Locked locked = BANGER_TRY(find_and_lock(name, {}));
    const VmRecord& vm = locked.vm;
    if (!vm.process) return not_running(vm);
    // By pidfd, and checked against the start time: never another process of that number.
    const Result<UniqueFd> pidfd = open_pidfd(vm.process->process);
    if (!pidfd) return not_running(vm);
    const Result<void> sent = send_signal(*pidfd, number);
    if (!sent && sent.error().code == Errc::not_found) return not_running(vm);
    // Firecracker's VMMs run as users of their own.
    if (!sent && sent.error().code == Errc::permission_denied)
        return Error(Errc::permission_denied,
                     "the VMM of " + vm.name.str() +
                         " runs as another user and takes no signal from its owner",
                     "End it with `banger vm kill " + vm.name.str() + "`, without --signal.");
    BANGER_TRY(sent);
    return vm;
}

Result<void> Machines::check_change(const VmRecord& vm, const Roles3& roles,
                                    const ChangeRequest& wanted) {
    if (!wanted.vcpus && !wanted.memory && !wanted.disk && !wanted.nat)
        return Error(Errc::invalid_argument, "nothing to change",
                     "Say what, as in: banger vm set " + vm.name.str() + " --memory 4G");
    if (vm.state == VmState::deleting) return not_running(vm);
    const SizeRequest sizes{.vcpus = wanted.vcpus.value_or(vm.vcpus),
                            .memory = wanted.memory.value_or(vm.memory),
                            .disk = wanted.disk.value_or(vm.disk_size),
                            .system_overlay = vm.system_overlay_size};
    BANGER_TRY(work_out_sizes(sizes, parts_.config.vm_defaults, parts_.host));
    if (wanted.vcpus) {
        const BackendCapabilities can = BANGER_TRY(roles.backend->capabilities());
        if (*wanted.vcpus > can.max_vcpus)
            return Error(
                Errc::invalid_argument,
                vm.backend.str() + " runs at most " + std::to_string(can.max_vcpus) + " vCPU",
                "Ask for fewer with --vcpu.");
    }
    const Volume* disk = work_disk(vm);
    if (!wanted.disk || !disk || *wanted.disk == disk->size) return ok();
    if (*wanted.disk < disk->size)
        return Error(Errc::invalid_argument,
                     "a disk only grows: that of " + vm.name.str() + " has " + disk->size.text() +
                         ", more than " + wanted.disk->text(),
                     "Ask for a larger size with --disk-size.");
    if (is_live(vm.state))
        return Error(Errc::wrong_state, "the disk of a running machine cannot grow",
                     "Stop it first: banger vm stop " + vm.name.str());
    return ok();
}

Result<Machines::Changed> Machines::change(const std::string& name, const ChangeRequest& wanted,
                                           Call& call) {
    Locked locked = BANGER_TRY(find_and_lock(name, call.stop()));
    VmRecord& vm = locked.vm;
    const Roles3 roles = BANGER_TRY(roles_of(vm));
    BANGER_TRY(check_change(vm, roles, wanted));
    const bool is_growing = wanted.disk && !is_live(vm.state);
    // Nobody may use it: a VMM that was taken for dead would not see its disk grow.
    if (is_growing) BANGER_TRY(release_disks(vm, roles));

    const VmRecord before = vm;
    vm.vcpus = wanted.vcpus.value_or(vm.vcpus);
    vm.memory = wanted.memory.value_or(vm.memory);
    vm.disk_size = wanted.disk.value_or(vm.disk_size);
    vm.nat = wanted.nat.value_or(vm.nat);
    BANGER_TRY(parts_.store.save_machine(vm));
    const Result<void> grown = is_growing ? grow_disk(vm, roles, call.stop()) : ok();
    if (!grown) {
        ErrorCollector errors;
        errors.add(grown.error());
        errors.add(parts_.store.save_machine(before), "taking the change back");
        BANGER_TRY(errors.result());
    }
    Changed changed{vm, {}};
    if (!is_live(vm.state)) return changed;
    // What it was started with is not known any more, so what was asked for waits in any case.
    if (wanted.vcpus) changed.pending.emplace_back("vcpus");
    if (wanted.memory) changed.pending.emplace_back("memory");
    if (wanted.nat && vm.link && vm.link->nat != *wanted.nat) changed.pending.emplace_back("nat");
    return changed;
}

Result<void> Machines::grow_disk(VmRecord& vm, const Roles3& roles, std::stop_token stop) {
    for (Volume& volume : vm.volumes) {
        if (volume.role != VolumeRole::work || volume.size >= vm.disk_size) continue;
        volume = BANGER_TRY(roles.storage->resize(volume, vm.disk_size, stop)
                                .context("growing the disk of " + vm.name.str()));
        BANGER_TRY(parts_.store.save_machine(vm));
    }
    return ok();
}

}  // namespace banger

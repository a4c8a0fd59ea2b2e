#include <fcntl.h>

#include <cerrno>
#include <memory>

#include "core/images/disk_bytes.hpp"
#include "core/vms/machines.hpp"
#include "core/vms/states.hpp"

namespace banger {

namespace {

/// What the storage plugin made, as whoever runs a VMM may open it: a raw file or block device, or
/// an overlay over the image.
Result<void> with_disk(const Volume& volume, const UniqueFd& base,
                       const std::function<Result<void>(images::DiskBytes&)>& read) {
    const UniqueFd file(::open(volume.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return Error::from_errno(errno, "opening " + volume.path);
    const bool is_overlay = volume.format == DiskFormat::qcow2;
    if (is_overlay && !base)
        return Error(Errc::corrupt, "the disk was made from an image that is gone",
                     "Pull the image again under the same name.");
    const std::unique_ptr<images::DiskBytes> disk =
        BANGER_TRY(is_overlay ? images::open_qcow2_disk(file, base)
                              : images::open_raw_disk(file, volume.size));
    return read(*disk);
}

}  // namespace

Result<void> Machines::read_root_disk(const std::string& name, Call& call,
                                      const ReadRootDisk& read) {
    const Locked locked = BANGER_TRY(find_and_lock(name, call.stop()));
    const VmRecord& vm = locked.vm;
    if (vm.state != VmState::stopped && vm.state != VmState::created)
        return Error(Errc::wrong_state,
                     vm.name.str() + " is " + std::string(to_string(vm.state)) +
                         ", and only the disk of a stopped machine holds still",
                     "Stop it first: banger vm stop " + vm.name.str());
    const Roles3 roles = BANGER_TRY(roles_of(vm));
    const guest::GuestIdentity identity = BANGER_TRY(read_identity(vm.id));
    const std::string host_key = identity.ssh_host_key ? identity.ssh_host_key->private_key : "";
    for (const Volume& volume : vm.volumes) {
        if (volume.role != VolumeRole::root) continue;
        const UniqueFd base = BANGER_TRY(base_of(vm, volume));
        BANGER_TRY(
            parts_.store.record_resource(vm.id, ResourceKind::activation, vm.storage.str(), ""));
        const Result<void> done = [&]() -> Result<void> {
            const Volume active =
                BANGER_TRY(roles.storage->activate(volume, base, call.stop())
                               .context("opening the root disk of " + vm.name.str()));
            return with_disk(active, base,
                             [&](images::DiskBytes& disk) { return read(vm, host_key, disk); });
        }();
        const Result<void> released = release_disks(vm, roles);
        if (!done) return done;
        return released;
    }
    return Error(Errc::not_found, vm.name.str() + " has no root disk",
                 "Delete it: banger vm delete " + vm.name.str());
}

}  // namespace banger

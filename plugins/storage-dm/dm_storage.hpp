#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "banger/host.hpp"
#include "banger/storage.hpp"
#include "core/base/keyed_lock.hpp"
#include "core/base/ledger.hpp"
#include "plugins/storage-dm/block_devices.hpp"
#include "plugins/storage-dm/layout.hpp"

namespace banger {

/// Disks as device-mapper devices; for the root helper. layout.hpp draws one.
///
///     STATE/VMID/ROLE.disk    what the disk is (layout.hpp, DiskRecord): written last, so a disk
///     STATE/VMID/ROLE.cow     exists when this file does
///     STATE/VMID/ROLE.data    sparse, like ROLE.cow
///     RUN/VMID-ROLE           ledger entry, as long as the device may exist
///     /dev/banger/VMID-ROLE   its node, the owner's: what the VMM opens
///
/// Loop devices detach themselves, so the one kernel object to keep account of is the mapping. Its
/// node goes before it does: its number may be another device's a moment later.
///
/// Nothing is kept in memory: a new instance knows what the old one knew. Machines are locked one
/// by one in here as well, because the caller is on the other side of a socket.
class DmStorage final : public Storage {
public:
    struct Options {
        std::string node_folder = "/dev/banger";
        /// How long a device may stay open after its VMM ended.
        std::chrono::milliseconds busy_deadline{5000};
        /// No disk is made or activated on a file system with less: a store that cannot be written
        /// is lost.
        ByteCount least_free = ByteCount::mib(256);
        /// For tests: called before each step with its name. An error lets it fail.
        std::function<Result<void>(std::string_view step, std::stop_token stop)> before_step = {};
    };

    /// Sweeps what a crash left half made. Everything given must outlive the object.
    static Result<std::unique_ptr<DmStorage>> open(Host& host, dm::BlockDevices& devices,
                                                   Options options);

    Result<Volume> create(const VolumeRequest& request, std::stop_token stop) override;
    Result<Volume> activate(const Volume& volume, const UniqueFd& base,
                            std::stop_token stop) override;
    Result<void> deactivate(const VmId& vm) override;
    Result<Volume> resize(const Volume& volume, ByteCount size, std::stop_token stop) override;
    Result<VolumeUsage> usage(const Volume& volume) override;
    Result<void> remove(const VmId& vm) override;
    Result<std::vector<VmId>> recover(std::span<const Volume> remembered) override;
    StorageCloning* cloning() override { return nullptr; }
    std::vector<Check> checks(std::stop_token stop) override;

private:
    DmStorage(Host& host, dm::BlockDevices& devices, Options options, Ledger ledger);

    struct Disk {
        VmId vm;
        VolumeRole role = VolumeRole::root;
        dm::DiskRecord record;
    };

    /// Each step passes here first.
    Result<void> step(std::string_view name, std::stop_token stop) const;
    Result<void> check_space() const;
    [[nodiscard]] std::string folder_of(const VmId& vm) const;
    [[nodiscard]] std::string file_of(const VmId& vm, VolumeRole role, std::string_view kind) const;
    [[nodiscard]] Volume volume_of(const Disk& disk) const;
    /// Errc::not_found when the record or a file of its content is gone.
    [[nodiscard]] Result<Disk> find(const VmId& vm, VolumeRole role) const;
    Result<void> write_record(const Disk& disk) const;
    /// Sparse and empty; the copied base in it when there is one to copy.
    Result<void> make_files(const Disk& disk, int base_fd, ByteCount base_size,
                            std::stop_token stop) const;
    /// All or nothing. `base_fd` is needed for a disk with a snapshot part.
    Result<void> map(const Disk& disk, int base_fd, std::stop_token stop);
    Result<void> make_mapping(const Disk& disk, int base_fd, std::stop_token stop);
    /// Whatever there is of the device: also half of it, also nothing.
    Result<void> unmap(const VmId& vm, VolumeRole role);
    Result<void> remove_mapping(const std::string& uuid);
    Result<void> remove_disk(const VmId& vm, VolumeRole role);
    /// Machines of which there is anything, here or in the kernel.
    Result<std::vector<VmId>> machines() const;
    Result<void> sweep();

    Host& host_;
    dm::BlockDevices& devices_;
    Options options_;
    Ledger ledger_;
    KeyedLock locks_;
};

}  // namespace banger

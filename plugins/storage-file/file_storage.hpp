#pragma once

#include <string>

#include "banger/host.hpp"
#include "banger/storage.hpp"

namespace banger {

/// Disks as plain files in the plugin's state folder: STATE/VMID/root.raw, STATE/VMID/work.qcow2.
///
/// A disk is made the cheapest way that file system and back end allow: a reflink of its base (raw,
/// constant time), a qcow2 overlay over it (constant time), a sparse copy. It is written under
/// another name and renamed when whole. Nothing is kept in memory: the files are the truth, so a
/// new instance knows what the old one knew. An overlay needs its base for ever; core keeps images
/// that machines use.
class FileStorage final : public Storage, private StorageCloning {
public:
    explicit FileStorage(Host& host) : host_(host) {}

    Result<Volume> create(const VolumeRequest& request, std::stop_token stop) override;
    Result<Volume> activate(const Volume& volume, const UniqueFd& base,
                            std::stop_token stop) override;
    Result<void> deactivate(const VmId& vm) override;
    Result<Volume> resize(const Volume& volume, ByteCount size, std::stop_token stop) override;
    Result<VolumeUsage> usage(const Volume& volume) override;
    Result<void> remove(const VmId& vm) override;
    Result<std::vector<VmId>> recover(std::span<const Volume> remembered) override;
    StorageCloning* cloning() override { return this; }
    std::vector<Check> checks(std::stop_token stop) override;

private:
    Result<Volume> clone(const Volume& source, const VmId& target, std::stop_token stop) override;

    [[nodiscard]] std::string folder_of(const VmId& vm) const;
    [[nodiscard]] std::string path_of(const VmId& vm, VolumeRole role, DiskFormat format) const;
    [[nodiscard]] bool has_volume(const VmId& vm, VolumeRole role) const;

    Host& host_;
};

}  // namespace banger

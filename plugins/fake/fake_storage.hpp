#pragma once

#include <string>

#include "banger/storage.hpp"
#include "failpoints.hpp"

namespace banger {

/// Disks that are sparse raw files: `FOLDER/ID-ROLE.raw`.
class FakeStorage final : public Storage, private StorageCloning {
public:
    /// `folder` exists.
    FakeStorage(std::string folder, Failpoints& failpoints)
        : folder_(std::move(folder)), failpoints_(failpoints) {}

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
    [[nodiscard]] std::string path_of(const VmId& vm, VolumeRole role) const;
    Result<Volume> copy(int base, const VmId& vm, VolumeRole role, ByteCount size,
                        std::stop_token stop);

    const std::string folder_;
    Failpoints& failpoints_;
};

}  // namespace banger

#pragma once

#include <mutex>

#include "plugins/storage-dm/block_devices.hpp"

namespace banger::dm {

/// The running kernel: loop devices by LOOP_CONFIGURE, mappings by libdevmapper.
///
/// libdevmapper keeps state of its own and knows no threads, so one lock orders its calls; each
/// takes well under a millisecond but for the removal of a mapping, which waits for what the
/// kernel has in flight. Device nodes are made here and not by udev, whose rules would give them
/// back to root at every event; udev is told to leave these devices alone.
class KernelDevices final : public BlockDevices {
public:
    KernelDevices();
    Result<Loop> attach_loop(int file, bool read_only) override;
    Result<DeviceNumber> create(const std::string& name, const std::string& uuid) override;
    Result<void> load(const std::string& uuid, std::span<const Target> table) override;
    Result<void> resume(const std::string& uuid) override;
    Result<std::optional<Mapping>> find(const std::string& uuid) override;
    Result<void> remove(const std::string& uuid) override;
    Result<std::vector<Target>> status(const std::string& uuid) override;
    Result<void> make_node(const std::string& folder, const std::string& name, DeviceNumber device,
                           std::uint32_t owner_uid) override;
    Result<void> remove_node(const std::string& folder, const std::string& name) override;
    std::vector<Check> checks() override;

private:
    std::mutex mapper_;
    std::mutex loops_;
};

/// A folder of root's (of ours) that nobody else may write, opened without following a link; made
/// with mode 0711 when missing.
Result<UniqueFd> open_node_folder(const std::string& folder);

/// Gives an existing node to its owner by descriptor: only when it is a block device with this very
/// number, whatever the name leads to by now. Errc::wrong_state otherwise.
Result<void> give_node(const UniqueFd& folder, const std::string& name, DeviceNumber device,
                       std::uint32_t owner_uid);

}  // namespace banger::dm

#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "plugins/storage-dm/block_devices.hpp"

namespace banger::dm {

/// A kernel of a test's own: mappings are files in a folder, so they outlive the process that made
/// them; a node is a plain file with the content that the mapping would show.
class FakeBlockDevices final : public BlockDevices {
public:
    explicit FakeBlockDevices(std::string folder) : folder_(std::move(folder)) {}

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
    std::vector<Check> checks() override { return {}; }

    /// How often remove() still says that the device is busy.
    int busy = 0;
    /// What status() says of a snapshot.
    std::string snapshot_status = "16/2048 16";
    /// The last table that was loaded.
    std::vector<Target> table;

private:
    struct LoopFile {
        UniqueFd file;
        bool read_only = false;
    };
    [[nodiscard]] std::string path_of(const std::string& uuid) const;
    /// What a mapping shows.
    [[nodiscard]] std::string content_of(DeviceNumber device) const;
    [[nodiscard]] Result<std::string> state_of(const std::string& uuid) const;
    Result<void> fill(int node, const std::vector<Target>& targets);

    std::string folder_;
    std::mutex mutex_;
    unsigned next_ = 0;
    std::map<unsigned, LoopFile> loops_;
    std::map<std::string, std::vector<Target>> tables_;
};

}  // namespace banger::dm

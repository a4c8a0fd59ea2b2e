#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

/// What storage-dm asks of the kernel, one step a method, so that tests can put a kernel of their
/// own in its place and let every step fail.
namespace banger::dm {

/// Device-mapper counts in these, whatever the device's own block size.
inline constexpr std::uint64_t sector_size = 512;

struct DeviceNumber {
    unsigned major = 0;
    unsigned minor = 0;
    /// "7:3", as in a device-mapper table: no path that could lead elsewhere.
    [[nodiscard]] std::string text() const;
    friend bool operator==(const DeviceNumber&, const DeviceNumber&) = default;
};

/// One line of a device-mapper table, or of its status.
struct Target {
    std::uint64_t start = 0;   ///< in sectors
    std::uint64_t length = 0;  ///< in sectors
    std::string type;
    std::string parameters;
    friend bool operator==(const Target&, const Target&) = default;
};

/// A loop device that detaches itself (LO_FLAGS_AUTOCLEAR) when the last one closes it: this
/// object, or the mapping that was loaded meanwhile. So there is never one to clean up.
struct Loop {
    UniqueFd fd;
    DeviceNumber device;
};

/// A mapped device as it is now.
struct Mapping {
    DeviceNumber device;
    bool is_live = false;  ///< has a table and takes requests
    unsigned open_count = 0;
    friend bool operator==(const Mapping&, const Mapping&) = default;
};

/// Any thread. None blocks for longer than the kernel needs. A mapping is always named by its UUID,
/// which the kernel looks up itself: there is no moment in which the name could come to mean
/// another device.
class BlockDevices {
public:
    virtual ~BlockDevices() = default;
    /// A loop device on the open file. The kernel takes a reference of its own; the descriptor
    /// stays the caller's.
    virtual Result<Loop> attach_loop(int file, bool read_only) = 0;
    /// A mapping without a table. Errc::already_exists when the name or the UUID is taken.
    virtual Result<DeviceNumber> create(const std::string& name, const std::string& uuid) = 0;
    virtual Result<void> load(const std::string& uuid, std::span<const Target> table) = 0;
    /// Puts the loaded table in force.
    virtual Result<void> resume(const std::string& uuid) = 0;
    /// Nothing when there is none.
    virtual Result<std::optional<Mapping>> find(const std::string& uuid) = 0;
    /// Succeeds when there is none. Errc::busy while somebody has it open.
    virtual Result<void> remove(const std::string& uuid) = 0;
    /// Errc::not_found when there is none.
    virtual Result<std::vector<Target>> status(const std::string& uuid) = 0;
    /// A block special file, mode 0600, owned by `owner_uid`, in a folder of root's that is made
    /// when missing. Replaces what is there.
    virtual Result<void> make_node(const std::string& folder, const std::string& name,
                                   DeviceNumber device, std::uint32_t owner_uid) = 0;
    /// Succeeds when there is none.
    virtual Result<void> remove_node(const std::string& folder, const std::string& name) = 0;
    /// Rows for `banger doctor`.
    virtual std::vector<Check> checks() = 0;
};

}  // namespace banger::dm

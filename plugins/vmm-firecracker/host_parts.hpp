#pragma once

#include <cstdint>
#include <string>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

/// What needs root to put a machine's disks and tap into its jail, one step a method, so that tests
/// can put a host of their own in its place.
namespace banger::firecracker {

struct DeviceNumber {
    unsigned major = 0;
    unsigned minor = 0;
    [[nodiscard]] std::string text() const;  ///< "253:3"
    friend bool operator==(const DeviceNumber&, const DeviceNumber&) = default;
};

/// Any thread.
class HostParts {
public:
    virtual ~HostParts() = default;
    /// The block device at the path, which a caller that is not believed has named: it must be a
    /// block special file, no link, and belong to `owner_uid`. So nobody gets at anything that he
    /// could not open himself. Errc::unsupported, permission_denied.
    virtual Result<DeviceNumber> owned_disk(const std::string& path, std::uint32_t owner_uid) = 0;
    /// A read-only block device with the content of the file, which is open for reading. It goes
    /// when the last one closes it; `keeper` is the first.
    struct Loop {
        UniqueFd keeper;
        DeviceNumber device;
    };
    virtual Result<Loop> attach_read_only(int file) = 0;
    /// A block special file in the folder, mode 0600 (0400 when `read_only`), that is `uid`'s.
    virtual Result<void> make_node(const UniqueFd& folder, const std::string& name,
                                   DeviceNumber device, bool read_only, std::uint32_t uid) = 0;
    /// Gives a file or folder of ours to `uid`.
    virtual Result<void> give(const UniqueFd& file, std::uint32_t uid) = 0;
    /// Lets `uid` open the tap device, which belongs to `owner_uid` or to `uid` already.
    virtual Result<void> give_tap(const std::string& name, std::uint32_t owner_uid,
                                  std::uint32_t uid) = 0;
};

/// The real ones. Needs CAP_CHOWN, CAP_MKNOD, CAP_SYS_ADMIN (loop devices) and CAP_NET_ADMIN (the
/// tap's owner).
class KernelParts final : public HostParts {
public:
    Result<DeviceNumber> owned_disk(const std::string& path, std::uint32_t owner_uid) override;
    Result<Loop> attach_read_only(int file) override;
    Result<void> make_node(const UniqueFd& folder, const std::string& name, DeviceNumber device,
                           bool read_only, std::uint32_t uid) override;
    Result<void> give(const UniqueFd& file, std::uint32_t uid) override;
    Result<void> give_tap(const std::string& name, std::uint32_t owner_uid,
                          std::uint32_t uid) override;
};

}  // namespace banger::firecracker

#include "plugins/vmm-firecracker/host_parts.hpp"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/base/file.hpp"

namespace banger::firecracker {

namespace {

/// Free loop devices that somebody else took between our two questions before we give up.
constexpr int loop_attempts = 64;
constexpr char load_loop[] = "Load the kernel module: sudo modprobe loop.";

/// An interface's name as net-bridge makes them: nothing that could be another path in /sys.
bool is_device_name(std::string_view name) {
    return !name.empty() && name.size() < IFNAMSIZ && std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    });
}

Error foreign_tap(const std::string& name) {
    return {Errc::permission_denied, "the tap device " + name + " is not the owner's",
            "Stop the machine and start it again."};
}

}  // namespace

std::string DeviceNumber::text() const {
    return std::to_string(major) + ":" + std::to_string(minor);
}

Result<DeviceNumber> KernelParts::owned_disk(const std::string& path, std::uint32_t owner_uid) {
    const UniqueFd file(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!file) {
        Error error = Error::from_errno(errno, "opening the disk " + path);
        error.remedy = "Stop the machine and start it again.";
        return error;
    }
    struct stat status {};
    if (::fstat(file.get(), &status) != 0)
        return Error::from_errno(errno, "looking at the disk " + path);
    if (!S_ISBLK(status.st_mode))
        return Error(Errc::unsupported,
                     path +
                         " is no block device, which is what Firecracker "
                         "gets from the root helper",
                     "Create the machine with the storage storage-dm, or with vmm-qemu.");
    if (status.st_uid != owner_uid)
        return Error(Errc::permission_denied, "the disk " + path + " is not the owner's",
                     "Stop the machine and start it again.");
    return DeviceNumber{major(status.st_rdev), minor(status.st_rdev)};
}

Result<HostParts::Loop> KernelParts::attach_read_only(int file) {
    struct stat content {};
    if (::fstat(file, &content) != 0) return Error::from_errno(errno, "looking at a disk's file");
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!control) {
        Error error = Error::from_errno(errno, "opening /dev/loop-control");
        error.remedy = load_loop;
        return error;
    }
    for (int attempt = 0; attempt < loop_attempts; ++attempt) {
        const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
        if (number < 0) return Error::from_errno(errno, "finding a free loop device");
        const std::string path = "/dev/loop" + std::to_string(number);
        Loop loop;
        loop.keeper.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
        struct stat status {};
        if (!loop.keeper || ::fstat(loop.keeper.get(), &status) != 0)
            return Error::from_errno(errno, "opening " + path);
        if (!S_ISBLK(status.st_mode) || major(status.st_rdev) != LOOP_MAJOR)
            return Error(Errc::wrong_state, path + " is not a loop device",
                         "Find out who made it, and remove it.");
        // The size limit limits nothing: by it udev's rule (core/system) knows that there is
        // nothing to look for on the device.
        loop_config config{};
        config.fd = static_cast<std::uint32_t>(file);
        config.info.lo_sizelimit = static_cast<std::uint64_t>(content.st_size);
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_READ_ONLY;
        if (::ioctl(loop.keeper.get(), LOOP_CONFIGURE, &config) == 0) {
            loop.device = {major(status.st_rdev), minor(status.st_rdev)};
            return loop;
        }
        if (errno != EBUSY) return Error::from_errno(errno, "attaching " + path);
    }
    return Error(Errc::busy, "every free loop device was taken at once", "Try again.");
}

Result<void> KernelParts::make_node(const UniqueFd& folder, const std::string& name,
                                    DeviceNumber device, bool read_only, std::uint32_t uid) {
    const mode_t mode = read_only ? 0400 : 0600;
    if (::mknodat(folder.get(), name.c_str(), S_IFBLK | mode,
                  makedev(device.major, device.minor)) != 0)
        return Error::from_errno(errno, "making the node of " + name);
    const UniqueFd node(::openat(folder.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!node) return Error::from_errno(errno, "opening the node of " + name);
    return give(node, uid);
}

Result<void> KernelParts::give(const UniqueFd& file, std::uint32_t uid) {
    if (::fchownat(file.get(), "", uid, uid, AT_EMPTY_PATH) == 0) return ok();
    return Error::from_errno(errno, "giving a file to uid " + std::to_string(uid));
}

Result<void> KernelParts::give_tap(const std::string& name, std::uint32_t owner_uid,
                                   std::uint32_t uid) {
    if (!is_device_name(name)) return foreign_tap("with that name");
    // Only a tap has this file; the kernel writes the uid that may open it, or -1 for everybody.
    const Result<std::string> owner =
        read_file("/sys/class/net/" + name + "/owner", ByteCount::bytes(32));
    if (!owner) return foreign_tap(name);
    const std::string said = owner->substr(0, owner->find('\n'));
    if (said == std::to_string(uid)) return ok();
    if (said != std::to_string(owner_uid)) return foreign_tap(name);
    const UniqueFd tap(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    if (!tap) return Error::from_errno(errno, "opening /dev/net/tun");
    ifreq request{};
    std::memcpy(request.ifr_name, name.data(), name.size());
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    if (::ioctl(tap.get(), TUNSETIFF, &request) != 0)
        return Error::from_errno(errno, "opening the tap device " + name);
    if (::ioctl(tap.get(), TUNSETOWNER, static_cast<unsigned long>(uid)) != 0)
        return Error::from_errno(errno, "giving away the tap device " + name);
    return ok();
}

}  // namespace banger::firecracker

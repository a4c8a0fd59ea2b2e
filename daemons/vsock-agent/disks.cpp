#include "daemons/vsock-agent/disks.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>

#include "daemons/vsock-agent/copy_tree.hpp"

namespace banger::agent {

namespace {

// <linux/ext4.h> has it only since Linux 6.4.
constexpr unsigned long ext4_ioc_resize_fs = _IOW('f', 16, std::uint64_t);
constexpr const char* filled_mark = "trusted.banger.filled";
constexpr int root_wait_ms = 5000;

Disks disks_by_serial() {
    Disks disks;
    for (const std::string& name : names_in("/sys/block")) {
        const std::string serial = read_line("/sys/block/" + name + "/serial");
        if (serial == "root" || serial == "work" || serial == "modules")
            disks[serial] = "/dev/" + name;
    }
    return disks;
}

Disks disks_by_order() {
    constexpr std::string_view key = "banger.disks=";
    const std::string line = " " + read_line("/proc/cmdline") + " ";
    const std::size_t at = line.find(" " + std::string(key));
    if (at == std::string::npos) return {};
    std::vector<std::string> names = names_in("/sys/block");
    std::erase_if(names, [](const std::string& name) { return !name.starts_with("vd"); });
    std::ranges::sort(names);
    Disks disks;
    std::string roles = line.substr(at + 1 + key.size());
    roles.resize(roles.find(' '));
    for (const std::string& name : names) {
        const std::size_t comma = std::min(roles.find(','), roles.size());
        if (comma > 0) disks[roles.substr(0, comma)] = "/dev/" + name;
        roles.erase(0, comma + 1);
    }
    return disks;
}

std::uint64_t size_of_device(const std::string& device) {
    const UniqueFd fd(open(device.c_str(), O_RDONLY | O_CLOEXEC));
    std::uint64_t size = 0;
    return fd && ioctl(fd.get(), BLKGETSIZE64, &size) == 0 ? size : 0;
}

struct Ext4Size {
    std::uint64_t blocks;
    std::uint64_t block_size;
};

/// Documentation/filesystems/ext4/super.rst of Linux. Nothing for another file system.
std::optional<Ext4Size> ext4_size(const std::string& device) {
    std::array<unsigned char, 1024> super{};
    const UniqueFd fd(open(device.c_str(), O_RDONLY | O_CLOEXEC));
    if (pread(fd.get(), super.data(), super.size(), 1024) != static_cast<ssize_t>(super.size()))
        return std::nullopt;
    const auto number = [&](std::size_t at) {
        return std::uint64_t{super[at]} | std::uint64_t{super[at + 1]} << 8 |
               std::uint64_t{super[at + 2]} << 16 | std::uint64_t{super[at + 3]} << 24;
    };
    constexpr std::uint64_t magic = 0xEF53;
    constexpr std::uint64_t feature_64bit = 0x80;
    if ((number(0x38) & 0xffff) != magic || number(0x18) > 6) return std::nullopt;
    const std::uint64_t high = (number(0x60) & feature_64bit) != 0 ? number(0x150) : 0;
    return Ext4Size{number(0x04) | high << 32, std::uint64_t{1024} << number(0x18)};
}

}  // namespace

Disks find_disks() {
    for (int waited = 0; waited < root_wait_ms; ++waited) {
        Disks disks = disks_by_serial();
        if (disks.empty()) disks = disks_by_order();
        if (disks.contains("root")) return disks;
        const timespec pause{0, 1'000'000};
        nanosleep(&pause, nullptr);
    }
    return {};
}

Result<void> mount_root(const std::string& device, const std::string& target) {
    // The image's inode tables are zeroed when it is made; a kernel thread that does it again would
    // only write the whole disk.
    Result<void> ext4 = mount_at(device, target, "ext4", MS_NOATIME, "noinit_itable");
    if (ext4) return ext4;
    const std::string types = read_text("/proc/filesystems").value_or("");
    for (std::size_t from = 0; from < types.size();) {
        const std::size_t to = std::min(types.find('\n', from), types.size());
        const std::string line = types.substr(from, to - from);
        from = to + 1;
        if (line.empty() || line.front() != '\t' || line == "\text4") continue;
        if (mount_at(device, target, line.c_str() + 1, MS_NOATIME, nullptr)) return {};
    }
    return ext4;
}

void grow(const std::string& device, const std::string& mount_point) {
    // Asked of the superblock first: the kernel answers the same only after flushing the journal.
    const std::optional<Ext4Size> has = ext4_size(device);
    if (!has) return;
    std::uint64_t blocks = size_of_device(device) / has->block_size;
    if (blocks <= has->blocks) return;
    const UniqueFd fd(open(mount_point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (ioctl(fd.get(), ext4_ioc_resize_fs, &blocks) != 0)
        say(Error::from_errno(errno, "growing the file system of " + device).text());
}

Result<void> mount_work(const std::string& device, const ImageRoot& root, bool grow_it) {
    const std::string staging = "/work";
    mkdir(staging.c_str(), 0755);
    BANGER_TRY(mount_at(device, staging, "ext4", MS_NOATIME, "noinit_itable"));
    if (grow_it) grow(device, staging);
    const UniqueFd source = BANGER_TRY(root.ensure_folder("root"));
    if (getxattr(staging.c_str(), filled_mark, nullptr, 0) < 0) {
        const UniqueFd target(open(staging.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        BANGER_TRY(clear_folder(target.get(), "lost+found"));
        const std::string readable = "/proc/self/fd/" + std::to_string(source.get());
        const UniqueFd from(open(readable.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!from) return Error::from_errno(errno, "opening the image's /root");
        BANGER_TRY(copy_tree(from.get(), target.get()).context("filling the work disk"));
        if (syncfs(target.get()) != 0) return Error::from_errno(errno, "filling the work disk");
        if (fsetxattr(target.get(), filled_mark, "1", 1, 0) != 0)
            return Error::from_errno(errno, "marking the work disk");
    }
    const std::string place = "/proc/self/fd/" + std::to_string(source.get());
    return mount_at(staging, place, nullptr, MS_MOVE, nullptr);
}

Result<void> mount_modules(const std::string& device, const ImageRoot& root) {
    const std::string staging = "/modules-disk";
    mkdir(staging.c_str(), 0755);
    BANGER_TRY(mount_at(device, staging, "ext4", MS_RDONLY | MS_NODEV | MS_NOSUID, nullptr));
    utsname kernel{};
    uname(&kernel);
    const std::string version = kernel.release;
    const UniqueFd place = BANGER_TRY(root.ensure_folder("lib/modules/" + version));
    return mount_at(staging + "/" + version, "/proc/self/fd/" + std::to_string(place.get()),
                    nullptr, MS_BIND, nullptr);
}

}  // namespace banger::agent

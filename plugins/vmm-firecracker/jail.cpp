#include "plugins/vmm-firecracker/jail.hpp"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include "core/base/file.hpp"
#include "core/base/firecracker_program.hpp"
#include "core/base/open_beneath.hpp"
#include "core/base/sparse_copy.hpp"
#include "plugins/vmm-firecracker/machine_config.hpp"

namespace banger::firecracker {

namespace {

constexpr ByteCount largest_boot_file = ByteCount::gib(1);

/// Removed with its folder; `mode` whatever the umask is.
Result<UniqueFd> create_in(const UniqueFd& folder, std::string_view name, mode_t mode) {
    UniqueFd file(::openat(folder.get(), std::string(name).c_str(),
                           O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, mode));
    if (!file || ::fchmod(file.get(), mode) != 0)
        return Error::from_errno(errno, "making " + std::string(name) + " in the jail");
    return file;
}

Result<UniqueFd> open_folder(const std::string& path) {
    UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!folder) return Error::from_errno(errno, "opening " + path);
    return folder;
}

Result<struct stat> examine_boot_file(int source, std::string_view name) {
    struct stat status {};
    if (::fstat(source, &status) != 0)
        return Error::from_errno(errno, "looking at the " + std::string(name));
    if (S_ISREG(status.st_mode) && status.st_size > 0 &&
        static_cast<std::uint64_t>(status.st_size) <= largest_boot_file.count())
        return status;
    return Error(Errc::invalid_argument,
                 "the " + std::string(name) + " is empty, too large or no plain file",
                 "Pull the kernel again.");
}

/// Ours, with that mode. The caller's descriptor keeps its position.
Result<UniqueFd> copy_boot_file(int source, off_t size, const UniqueFd& jail, std::string_view name,
                                mode_t mode) {
    // O_APPEND would refuse sendfile(2).
    UniqueFd target(::openat(jail.get(), std::string(name).c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
    if (!target || ::fchmod(target.get(), mode) != 0)
        return Error::from_errno(errno, "making " + std::string(name) + " in the jail");
    off_t offset = 0;
    while (offset < size) {
        const ssize_t count =
            ::sendfile(target.get(), source, &offset, static_cast<std::size_t>(size - offset));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "copying the " + std::string(name));
        if (count == 0)
            return Error(Errc::corrupt, "the " + std::string(name) + " became shorter meanwhile",
                         "Start the machine again.");
    }
    return target;
}

Result<void> add_initramfs(int source, const UniqueFd& jail, std::uint32_t uid, HostParts& parts) {
    const struct stat status = BANGER_TRY(examine_boot_file(source, initramfs_name));
    return parts.give(
        BANGER_TRY(copy_boot_file(source, status.st_size, jail, initramfs_name, 0400)), uid);
}

Result<void> add_kernel(int source, const UniqueFd& jail, std::uint32_t owner_uid,
                        const KernelCopies& kernels) {
    const struct stat status = BANGER_TRY(examine_boot_file(source, kernel_name));
    const std::string copy = kernels.name_of(status, owner_uid);
    if (BANGER_TRY(kernels.take(copy, jail, kernel_name))) return ok();
    BANGER_TRY(copy_boot_file(source, status.st_size, jail, kernel_name, 0444));
    // Without it the next machine makes its own.
    (void)kernels.keep(copy, jail, kernel_name);
    return ok();
}

/// Both files, for the machine to read alone.
Result<void> copy_snapshot(const SnapshotSource& snapshot, const UniqueFd& jail, std::uint32_t uid,
                           HostParts& parts, const std::stop_token& stop) {
    const auto copy = [&](std::string_view name, std::uint64_t offset,
                          std::uint64_t size) -> Result<void> {
        const UniqueFd target(::openat(jail.get(), std::string(name).c_str(),
                                       O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400));
        if (!target || ::ftruncate(target.get(), static_cast<off_t>(size)) != 0)
            return Error::from_errno(errno, "making " + std::string(name) + " in the jail");
        BANGER_TRY(copy_sparse_part(snapshot.file, static_cast<off_t>(offset), target.get(), 0,
                                    static_cast<off_t>(size), stop));
        return parts.give(target, uid);
    };
    const SnapshotHead& head = snapshot.head;
    BANGER_TRY(copy(restored_state, head.state_offset(), head.state_size));
    return copy(restored_memory, head.memory_offset(), head.memory_size);
}

Result<UniqueFd> open_in_jail(const JailPaths& paths, std::string_view name, int flags) {
    const UniqueFd root = BANGER_TRY(open_folder(paths.root));
    UniqueFd file = open_beneath(root.get(), name, flags);
    if (!file) return Error::from_errno(errno, "opening " + std::string(name) + " in a jail");
    return file;
}

/// The descriptor behind "/proc/self/fd/N", which is how a disk arrives that the caller has opened.
std::optional<int> descriptor_in(std::string_view path) {
    constexpr std::string_view folder = "/proc/self/fd/";
    if (!path.starts_with(folder)) return {};
    path.remove_prefix(folder.size());
    int fd = -1;
    const auto [end, status] = std::from_chars(path.data(), path.data() + path.size(), fd);
    if (status != std::errc() || end != path.data() + path.size() || fd < 0) return {};
    return fd;
}

Result<void> add_disk(const Disk& disk, const UniqueFd& root, std::uint32_t owner_uid,
                      std::uint32_t uid, HostParts& parts, JailDevices& devices) {
    const std::optional<int> file = descriptor_in(disk.path);
    DeviceNumber device;
    if (file && disk.read_only) {
        HostParts::Loop loop = BANGER_TRY(parts.attach_read_only(*file));
        device = loop.device;
        devices.keepers.push_back(std::move(loop.keeper));
    } else {
        device = BANGER_TRY(parts.owned_disk(disk.path, owner_uid));
    }
    BANGER_TRY(parts.make_node(root, disk_name(disk.serial), device, disk.read_only, uid));
    devices.disks.push_back(device);
    return ok();
}

}  // namespace

JailPaths::JailPaths(const Host& host, const VmId& vm, const std::string& program)
    : base(base_of(host)),
      folder(base + "/" + program + "/" + vm.str()),
      root(folder + "/root"),
      state_folder(state_of(host, vm)),
      console(console_of(host, vm)),
      log(state_folder + "/" + std::string(log_name)) {}

std::string JailPaths::base_of(const Host& host) { return host.state_folder() + "/jail"; }
std::string JailPaths::kernels_of(const Host& host) { return host.state_folder() + "/kernels"; }
std::string JailPaths::state_of(const Host& host, const VmId& vm) {
    return host.state_folder() + "/vm/" + vm.str();
}
std::string JailPaths::console_of(const Host& host, const VmId& vm) {
    return state_of(host, vm) + "/console.log";
}

Result<JailDevices> make_jail(const JailPaths& paths, const MachineSpec& spec,
                              const std::string& config,
                              const std::optional<SnapshotSource>& snapshot,
                              std::uint32_t owner_uid, std::uint32_t uid, HostParts& parts,
                              const KernelCopies& kernels, const std::stop_token& stop) {
    BANGER_TRY(ensure_folder(paths.root, 0700));
    BANGER_TRY(ensure_folder(paths.state_folder, 0700));
    const UniqueFd root = BANGER_TRY(open_folder(paths.root));
    // Firecracker passes through; what lies above is closed.
    if (::fchmod(root.get(), 0711) != 0) return Error::from_errno(errno, "opening " + paths.root);

    const UniqueFd settings = BANGER_TRY(create_in(root, config_name, 0400));
    BANGER_TRY(write_all(settings.get(), config));
    BANGER_TRY(parts.give(settings, uid));
    if (snapshot) {
        BANGER_TRY(copy_snapshot(*snapshot, root, uid, parts, stop));
    } else {
        BANGER_TRY(add_kernel(spec.kernel_fd, root, owner_uid, kernels));
        BANGER_TRY(add_initramfs(spec.initramfs_fd, root, uid, parts));
    }

    JailDevices devices;
    for (const Disk& disk : spec.disks)
        BANGER_TRY(add_disk(disk, root, owner_uid, uid, parts, devices)
                       .context("giving the " + disk.serial + " disk to the machine"));

    const UniqueFd log = BANGER_TRY(create_in(root, log_name, 0600));
    if (::linkat(root.get(), std::string(log_name).c_str(), AT_FDCWD, paths.log.c_str(), 0) != 0)
        return Error::from_errno(errno, "making " + paths.log);
    BANGER_TRY(parts.give(log, uid));
    const std::string sockets = paths.root + "/" + std::string(sockets_folder);
    BANGER_TRY(ensure_folder(sockets, 0700));
    BANGER_TRY(parts.give(BANGER_TRY(open_folder(sockets)), uid));
    return devices;
}

Result<void> forget_boot_files(const JailPaths& paths) {
    for (const std::string_view name :
         {kernel_name, initramfs_name, restored_state, restored_memory})
        BANGER_TRY(remove_file(paths.root + "/" + std::string(name)));
    return ok();
}

Result<JailFile> open_in_jail(const JailPaths& paths, std::string_view name, std::uint32_t uid,
                              std::uint64_t most) {
    JailFile file{BANGER_TRY(open_in_jail(paths, name, O_RDONLY | O_NONBLOCK)), 0};
    struct stat status {};
    if (::fstat(file.fd.get(), &status) != 0)
        return Error::from_errno(errno, "looking at a file of Firecracker's");
    if (!S_ISREG(status.st_mode) || status.st_uid != uid || status.st_size < 0 ||
        static_cast<std::uint64_t>(status.st_size) > most)
        return Error(Errc::permission_denied,
                     "what lies in the place of Firecracker's file is not what it should be",
                     "End the machine with `banger vm kill`.");
    file.size = static_cast<std::uint64_t>(status.st_size);
    return file;
}

Result<std::string> read_config(const JailPaths& paths, std::uint32_t uid) {
    const JailFile file = BANGER_TRY(open_in_jail(paths, config_name, uid, snapshot_head_size));
    return read_all(file.fd.get(), ByteCount::bytes(snapshot_head_size));
}

Result<UniqueFd> connect_in_jail(const JailPaths& paths, std::string_view name, std::uint32_t uid) {
    const UniqueFd place = BANGER_TRY(open_in_jail(paths, name, O_PATH));
    struct stat status {};
    if (::fstat(place.get(), &status) != 0)
        return Error::from_errno(errno, "looking at a socket of Firecracker's");
    if (!S_ISSOCK(status.st_mode) || status.st_uid != uid)
        return Error(Errc::permission_denied,
                     "what lies in the place of Firecracker's socket is not Firecracker's",
                     "End the machine with `banger vm kill`.");
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return Error::from_errno(errno, "making a socket");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = "/proc/self/fd/" + std::to_string(place.get());
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        return socket;
    const int number = errno;
    if (number == ECONNREFUSED || number == ENOENT)
        return Error(Errc::not_found, "nobody listens on Firecracker's socket");
    if (number == EAGAIN) return Error(Errc::busy, "Firecracker's socket has too many callers");
    return Error::from_errno(number, "connecting to Firecracker");
}

Result<std::vector<JailedMachine>> machines_in(const std::string& base) {
    std::vector<JailedMachine> machines;
    const Result<std::vector<std::string>> programs = list_folder(base);
    if (!programs && programs.error().code == Errc::not_found) return machines;
    if (!programs) return programs.error();
    for (const std::string& program : *programs) {
        if (!is_program_name(program)) continue;
        for (const std::string& name : BANGER_TRY(list_folder(base + "/" + program)))
            if (Result<VmId> vm = VmId::parse(name)) machines.push_back({*std::move(vm), program});
    }
    return machines;
}

}  // namespace banger::firecracker

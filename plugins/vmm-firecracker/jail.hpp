#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/vm_backend.hpp"
#include "plugins/vmm-firecracker/host_parts.hpp"
#include "plugins/vmm-firecracker/kernel_copies.hpp"
#include "plugins/vmm-firecracker/snapshot_file.hpp"

namespace banger::firecracker {

/// Where one machine's things lie. The jail is what jailer(8) wants it to be,
/// BASE/PROGRAM/ID/root, also without jailer.
struct JailPaths {
    JailPaths(const Host& host, const VmId& vm, const std::string& program);
    std::string base;
    std::string folder;        ///< BASE/PROGRAM/ID
    std::string root;          ///< Firecracker's "/"
    std::string state_folder;  ///< ours alone
    std::string console;
    std::string log;  ///< another name of the file in the jail, that nobody can swap for us

    static std::string base_of(const Host& host);
    static std::string kernels_of(const Host& host);
    static std::string state_of(const Host& host, const VmId& vm);
    static std::string console_of(const Host& host, const VmId& vm);
};

/// What Firecracker may use beside the files of its jail.
struct JailDevices {
    std::vector<DeviceNumber> disks;
    /// Held until Firecracker has opened its disks.
    std::vector<UniqueFd> keepers;
};

/// A snapshot to restore a machine from. Borrowed.
struct SnapshotSource {
    int file = -1;
    SnapshotHead head;
};

/// Fills the jail with everything that Firecracker opens: configuration, kernel and initramfs or
/// the snapshot's two files, disks, log, and the folder for its sockets. What lies there belongs to
/// `uid`, who can use nothing else of the host; the kernel, which machines share, stays root's. All
/// of it is below `paths.folder` and `paths.state_folder`: on failure the caller removes these.
Result<JailDevices> make_jail(const JailPaths& paths, const MachineSpec& spec,
                              const std::string& config,
                              const std::optional<SnapshotSource>& snapshot,
                              std::uint32_t owner_uid, std::uint32_t uid, HostParts& parts,
                              const KernelCopies& kernels, const std::stop_token& stop);

/// What is in the guest's memory by now, or held open.
Result<void> forget_boot_files(const JailPaths& paths);

/// The configuration that make_jail() wrote. Whoever took the VMM over may have changed it.
Result<std::string> read_config(const JailPaths& paths, std::uint32_t uid);
/// A file that Firecracker wrote in its jail: a regular one, `uid`'s, at most that long.
struct JailFile {
    UniqueFd fd;
    std::uint64_t size = 0;
};
Result<JailFile> open_in_jail(const JailPaths& paths, std::string_view name, std::uint32_t uid,
                              std::uint64_t most);

/// Connects to a socket that Firecracker made in its jail. It must be one, and `uid`'s: whoever
/// took the VMM over can put anything else there. Errc::not_found when there is none, or nobody
/// listens.
Result<UniqueFd> connect_in_jail(const JailPaths& paths, std::string_view name, std::uint32_t uid);

/// Every machine that has a folder below BASE/PROGRAM.
struct JailedMachine {
    VmId vm;
    std::string program;
};
Result<std::vector<JailedMachine>> machines_in(const std::string& base);

}  // namespace banger::firecracker

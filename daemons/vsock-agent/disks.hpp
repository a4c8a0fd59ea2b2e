#pragma once

#include <map>
#include <string>

#include "banger/result.hpp"
#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

/// The machine's disks, told apart by their virtio-blk serial: "root", "work", "modules" →
/// "/dev/vda". A back end that cannot set serials names them in order on the kernel's command line:
/// banger.disks=root,work,modules.
using Disks = std::map<std::string, std::string, std::less<>>;

/// Waits up to five seconds for the root disk.
Disks find_disks();

/// Mounts whatever file system is on the root disk, writable; ext4 first.
Result<void> mount_root(const std::string& device, const std::string& target);

/// Makes a mounted ext4 as large as its device; anything that cannot grow, or need not, is left.
void grow(const std::string& device, const std::string& mount_point);

/// Mounts the work disk at /root of the image. On its first use it takes over what the image has
/// there: content with owners, modes, times and attributes, and those of the folder itself. A mark
/// on the disk is set when that is complete and on the disk, so a crash in between only starts it
/// again.
Result<void> mount_work(const std::string& device, const ImageRoot& root, bool grow_it);

/// Makes /lib/modules/VERSION of the image show what the modules disk has for the running kernel.
Result<void> mount_modules(const std::string& device, const ImageRoot& root);

}  // namespace banger::agent

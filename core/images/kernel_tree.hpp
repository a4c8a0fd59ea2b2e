#pragma once

#include <stop_token>
#include <string>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

namespace banger::images {

/// What a kernel looks like in the store: files of one folder.
struct KernelFiles {
    std::string version;  ///< "6.1.0-50-cloud-amd64"
    bool pvh = false;     ///< vmlinux can be entered directly
    ByteCount vmlinux_size;
    ByteCount initramfs_size;
    ByteCount modules_size;
};

/// Reads a kernel tree (PartFormat::kernel_tree: a tar, packed or not, of boot/vmlinuz-VERSION and
/// [usr/]lib/modules/VERSION; what depmod writes is made when it is not there) and makes in
/// `folder` (an open, empty folder)
///
///   vmlinux        the ELF kernel
///   initramfs.img  the modules that init needs to find its disks, uncompressed cpio; init itself,
///                  which is of this build and not of the kernel, is appended at each start
///   modules.ext4   a read-only file system whose root holds VERSION/, for /lib/modules of the
///   guest
///
/// Reads the stream once; modules pass through a nameless file beside the results, so memory stays
/// flat. Each result is fsynced;
/// on failure `folder` may hold some of them, and the caller removes the folder. Exactly one kernel
/// must be in the tree. Errc::corrupt, Errc::no_space, Errc::cancelled. Blocks; any thread.
Result<KernelFiles> import_kernel_tree(const UniqueFd& tar, const UniqueFd& folder,
                                       std::stop_token stop);

/// The same from a Debian package of a kernel (deb(5)), whose modules depmod has never seen.
Result<KernelFiles> import_kernel_package(const UniqueFd& package, const UniqueFd& folder,
                                          std::stop_token stop);

/// The same from an open folder that holds boot/ and [usr/]lib/modules/. Links are not followed.
Result<KernelFiles> import_kernel_folder(const UniqueFd& tree, const UniqueFd& folder,
                                         std::stop_token stop);

/// A kernel in single files, each open for reading.
struct KernelParts {
    UniqueFd kernel;   ///< bzImage or ELF vmlinux
    UniqueFd initrd;   ///< comes before what banger makes, whose /init it is; may be invalid
    UniqueFd modules;  ///< the folder lib/modules/VERSION; invalid: everything needed is built in
};
Result<KernelFiles> import_kernel_files(const KernelParts& parts, const UniqueFd& folder,
                                        std::stop_token stop);

}  // namespace banger::images

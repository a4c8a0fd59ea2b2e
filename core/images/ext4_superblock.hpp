#pragma once

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

namespace banger::images {

/// Looks at the beginning of what its owner says is a root file system, without believing it: the
/// superblock of ext2, ext3 or ext4 (Documentation/filesystems/ext4/super.rst of Linux), whose size
/// fits into the file. Returns the size of the file system.
///
/// Errc::invalid_argument says what it is instead, where that is known (a disk with partitions, a
/// qcow2, something packed), with the command that makes an ext4 of it.
Result<ByteCount> examine_ext4(const UniqueFd& file);

}  // namespace banger::images

#pragma once

#include <cstdint>

#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger::dm {

struct BaseFile {
    ByteCount size;
    std::uint64_t changed = 0;  ///< st_mtim in nanoseconds
    friend bool operator==(const BaseFile&, const BaseFile&) = default;
};

/// Looks at a descriptor that a caller with fewer rights handed over. It must be open for reading,
/// a plain file, the owner's or root's, and on a file system that the kernel serves by itself: a
/// loop device over FUSE would let the caller stop the threads of ours that wait for it. Errc::
/// invalid_argument, permission_denied.
Result<BaseFile> examine_base(int fd, std::uint32_t owner_uid);

}  // namespace banger::dm

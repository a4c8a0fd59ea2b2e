#include "core/base/sparse_copy.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

namespace banger {

namespace {

/// What is done between two looks at the stop token.
constexpr std::size_t copy_step = std::size_t{16} << 20;

/// Bytes [from, to) of the source, by whatever is cheapest: in the kernel, else through memory.
Result<void> copy_range(int source, int target, off_t target_offset, off_t from, off_t to,
                        const std::stop_token& stop) {
    std::string buffer;
    bool in_kernel = true;
    while (from < to) {
        if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
        const std::size_t want = std::min(copy_step, static_cast<std::size_t>(to - from));
        ssize_t count = 0;
        if (in_kernel) {
            off_t in = from;
            off_t out = target_offset + from;
            count = ::copy_file_range(source, &in, target, &out, want, 0);
            if (count < 0 && errno != ENOSPC && errno != EFBIG && errno != EIO && errno != EDQUOT) {
                in_kernel = false;  // across file systems, or an old kernel
                continue;
            }
        } else {
            buffer.resize(std::min(want, std::size_t{1} << 20));
            count = ::pread(source, buffer.data(), buffer.size(), from);
            if (count > 0)
                count = ::pwrite(target, buffer.data(), static_cast<std::size_t>(count),
                                 target_offset + from);
        }
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "copying the disk's content");
        if (count == 0)
            return Error(Errc::corrupt, "the base became shorter while it was copied",
                         "Pull the image again.");
        from += count;
    }
    return ok();
}

}  // namespace

namespace {

/// [at, size) of the source.
Result<void> copy_data(int source, int target, off_t target_offset, off_t at, off_t size,
                       const std::stop_token& stop) {
    while (at < size) {
        const off_t data = ::lseek(source, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) break;  // a hole up to the end
        // A file system that does not know holes says that all is data.
        const off_t begin = data < 0 ? at : std::min(data, size);
        const off_t hole = data < 0 ? -1 : ::lseek(source, begin, SEEK_HOLE);
        const off_t end = hole < 0 ? size : std::min(hole, size);
        BANGER_TRY(copy_range(source, target, target_offset, begin, end, stop));
        at = end;
    }
    return ok();
}

}  // namespace

Result<void> copy_sparse(int source, int target, off_t target_offset, off_t size,
                         std::stop_token stop) {
    return copy_data(source, target, target_offset, 0, size, stop);
}

Result<void> copy_sparse_range(int source, int target, off_t offset, off_t size,
                               std::stop_token stop) {
    return copy_data(source, target, 0, offset, offset + size, stop);
}

Result<void> copy_sparse_part(int source, off_t source_offset, int target, off_t target_offset,
                              off_t size, std::stop_token stop) {
    return copy_data(source, target, target_offset - source_offset, source_offset,
                     source_offset + size, stop);
}

}  // namespace banger

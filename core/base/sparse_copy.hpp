#pragma once

#include <sys/types.h>

#include <stop_token>

#include "banger/result.hpp"

namespace banger {

/// Copies the first `size` bytes of `source` to `target`, from `target_offset` on: what is data, by
/// whatever is cheapest (copy_file_range(2), which shares blocks where the file system can; else
/// through memory). Holes stay holes: the target has to be empty there. Looks at the stop token
/// every 16 MiB. Errc::corrupt when the source ends early, no_space, cancelled. Positions of the
/// descriptors are neither used nor moved.
Result<void> copy_sparse(int source, int target, off_t target_offset, off_t size,
                         std::stop_token stop);

/// The same for bytes [offset, offset + size) alone, to the same place in the target.
Result<void> copy_sparse_range(int source, int target, off_t offset, off_t size,
                               std::stop_token stop);

/// The same for bytes [source_offset, source_offset + size), to another place in the target.
Result<void> copy_sparse_part(int source, off_t source_offset, int target, off_t target_offset,
                              off_t size, std::stop_token stop);

}  // namespace banger

#pragma once

#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger::root {

/// SHA-256 of the whole file, by libgcrypt (docs/decisions/0019-root-trusts-bytes.md).
Result<Digest> sha256_of(int fd);

/// Whether anybody has the file open for writing or mapped that way, whoever may do so now. False
/// on a file system that cannot tell.
Result<bool> is_being_written(int fd);

}  // namespace banger::root

#pragma once

#include <string_view>

#include "banger/result.hpp"

namespace banger::agent {

/// Copies the content of one folder into another, and the folder's own attributes onto it: files,
/// folders, symbolic links, devices, fifos; owners, modes, times, extended attributes, hard links.
/// Stays on the file system of `from`. The first failure ends it.
Result<void> copy_tree(int from, int to);

/// Removes everything in a folder but the entry named `keep`.
Result<void> clear_folder(int folder, std::string_view keep);

}  // namespace banger::agent

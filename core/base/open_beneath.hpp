#pragma once

#include <string_view>

#include "banger/unique_fd.hpp"

namespace banger {

/// Opens what lies below a folder, component by component, following no link, the last one
/// included. `path` has no ".." (the caller checks it). Nothing when it fails: errno says why,
/// ELOOP or ENOTDIR for a link.
///
/// openat2(2) with RESOLVE_BENEATH would do it at once, but RestrictSUIDSGID= of a unit answers it
/// with ENOSYS (systemd 252, systemd.exec(5)), and both our services have that.
UniqueFd open_beneath(int folder, std::string_view path, int flags);

}  // namespace banger

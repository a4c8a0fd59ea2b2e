#pragma once

#include <string>

#include "banger/result.hpp"
#include "core/base/child.hpp"

/// mmdebstrap outside of bangerd's service.
///
/// The system service runs without new privileges, so that newuidmap, which is setuid and which
/// mmdebstrap needs, has no effect in it. There the build is a transient service of the owner's
/// user manager instead: the owner's rights and no others, in banger.slice. Elsewhere it stays a
/// child.
namespace banger::image_debian {

/// Whether a child of ours could not use newuidmap.
[[nodiscard]] bool is_confined();

/// The same command as a service `unit` of the user manager, by systemd-run(1): standard input,
/// output and error, environment and exit status are those of the command. Ending systemd-run does
/// not end the unit: stop_unit() does. Pure but for the user's id.
Command as_user_unit(const Command& command, const std::string& unit);

/// "banger-build-NAME" for a build folder.
std::string unit_of(const std::string& build_folder);

/// Kills everything in it. "Not there" is success.
Result<void> stop_unit(const std::string& unit);

}  // namespace banger::image_debian

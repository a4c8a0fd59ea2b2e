#pragma once

#include "cli/command.hpp"

/// Which third parties' plugins may run as root: root's word alone.
namespace banger::cli {

Result<int> plugin_trust(const Arguments& arguments, Context& context);
Result<int> plugin_distrust(const Arguments& arguments, Context& context);

}  // namespace banger::cli

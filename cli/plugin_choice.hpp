#pragma once

#include "cli/command.hpp"

namespace banger::cli {

// They change the user's configuration file, and in it one value: comments and order stay.

/// `plugin use ROLE NAME`.
Result<int> plugin_use(const Arguments& arguments, Context& context);
/// `plugin enable NAME`, `plugin disable NAME`: of image sources there are several.
Result<int> plugin_enable(const Arguments& arguments, Context& context);
Result<int> plugin_disable(const Arguments& arguments, Context& context);

}  // namespace banger::cli

#pragma once

#include "cli/command.hpp"

namespace banger::cli {

/// `plugin new NAME --role ROLE`: a project that builds, passes its contract and loads.
Result<int> plugin_new(const Arguments& arguments, Context& context);

/// The roles that there is a project for.
std::vector<std::string> template_roles();

}  // namespace banger::cli

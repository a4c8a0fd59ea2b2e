#pragma once

#include <string>

#include "cli/command.hpp"

namespace banger::cli {

/// `plugin verify PATH`: without a daemon, everything that would be looked at before the plugin is
/// loaded, and what there is to know of it. PATH is a library, a manifest, or a folder of them. 1
/// when one was refused.
int verify_path(const std::string& path, Context& context);

/// `banger __open-plugin FOLDER NAME`: opens the library in this process, which that may end, and
/// prints its build tag, or reason and remedy.
int open_plugin(const std::string& folder, const std::string& name, Terminal& terminal);

}  // namespace banger::cli

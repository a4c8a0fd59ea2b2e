#pragma once

#include <map>
#include <string>

#include "core/config/paths.hpp"

namespace banger::cli {

/// The folder of banger's own. `program` is banger's path.
std::string own_plugins(const std::string& program);

/// Manifests by plugin name, of the folders where the daemon looks; the first that has a name wins.
std::map<std::string, std::string> manifest_files(const Paths& paths, const std::string& program);

}  // namespace banger::cli

#pragma once

#include <map>
#include <string>

#include "core/config/paths.hpp"

namespace banger::cli {

/// Manifests by plugin name, of the folders where the daemon looks; the first that has a name wins.
/// `program` is banger's own path.
std::map<std::string, std::string> manifest_files(const Paths& paths, const std::string& program);

}  // namespace banger::cli

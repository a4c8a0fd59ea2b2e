#pragma once

#include <string>

#include "banger/result.hpp"

namespace banger::cli {

/// What the user typed for an image, with the path of `oci:`, `oci-archive:` and `docker-archive:`
/// made whole: bangerd, which opens it, works in another folder.
Result<std::string> absolute_reference(const std::string& reference);

}  // namespace banger::cli

#pragma once

#include <string_view>

/// The shell scripts of scripts/, compiled in. mmdebstrap runs each under sh with the folder of the
/// new root as $1, at the end of a build.
namespace banger::image_debian::scripts {

extern const std::string_view finish;       ///< what makes an image of installed packages
extern const std::string_view tune;         ///< what a virtual machine has no use for at boot
extern const std::string_view docker;       ///< docker on demand
extern const std::string_view kernel;       ///< fetches the package of the newest kernel
extern const std::string_view kernel_tree;  ///< leaves the kernel and its modules, nothing else

}  // namespace banger::image_debian::scripts

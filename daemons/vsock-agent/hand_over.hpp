#pragma once

#include <optional>
#include <string>

#include "daemons/vsock-agent/boot_state.hpp"
#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

/// The init of the image, if it has one that starts something: systemd, or whatever /sbin/init is,
/// but not a busybox without OpenRC, which container images have and which only complains.
std::optional<std::string> find_image_init(const ImageRoot& root);

/// Makes the folder the root of this process (and of all it starts) and lets the initramfs below it
/// be.
Result<void> switch_root(const std::string& folder);

/// What remains of PID 1 in an image without init: mounts what programs expect, runs sshd if there
/// is one, and reaps. Does not return.
[[noreturn]] void stay_as_init(const BootState& state);

}  // namespace banger::agent

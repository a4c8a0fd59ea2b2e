#pragma once

#include <optional>
#include <string>

#include "daemons/vsock-agent/boot_state.hpp"
#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

/// Whether systemd is what the image boots with.
bool has_systemd(const ImageRoot& root);

/// The init of the image, if it is one that is known to start a machine: systemd; or /sbin/init
/// with an /etc/inittab that it can follow (sysvinit; busybox with OpenRC or an /etc/init.d/rcS).
/// Container images often have a /sbin/init that would only complain: they get ours.
std::optional<std::string> find_image_init(const ImageRoot& root);

/// Makes the folder the root of this process (and of all it starts) and lets the initramfs below it
/// be.
Result<void> switch_root(const std::string& folder);

/// What remains of PID 1 in an image without init: mounts what programs expect, runs sshd if there
/// is one, and reaps. Powers off when told so as busybox tells its init (SIGUSR1, SIGUSR2,
/// SIGTERM), systemd its own (SIGRTMIN+4), or the kernel either (SIGINT for Ctrl-Alt-Del). Does not
/// return.
[[noreturn]] void stay_as_init(BootState& state, void (*shut_down)(const BootState& state));

}  // namespace banger::agent

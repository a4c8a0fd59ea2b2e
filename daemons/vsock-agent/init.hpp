#pragma once

namespace banger::agent {

/// PID 1 of the initramfs: makes the image on the root disk this machine, leaves the agent behind,
/// and becomes the image's init. Never returns; what cannot go on is said on the console and to the
/// host, and powers the machine off. `name` is argv[0], which becomes the agent's.
[[noreturn]] void run_init(char* name);

}  // namespace banger::agent

#pragma once

#include "daemons/vsock-agent/boot_state.hpp"

namespace banger::agent {

/// Begins to power the machine off, cleanly: through systemd where it is PID 1, else by ending all
/// processes, unmounting and powering off ourselves, in a child. Returns at once.
void begin_shutdown(const BootState& state);

/// Everything to the disks, file systems read-only as far as possible, power off. Does not return.
[[noreturn]] void power_off();

}  // namespace banger::agent

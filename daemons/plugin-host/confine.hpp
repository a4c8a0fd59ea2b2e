#pragma once

#include "banger/result.hpp"
#include "core/plugin_host/messages.hpp"

namespace banger::plugin_host {

/// Gives up every right that a plugin is not to have: privileges, files, system calls, memory. For
/// good, and for whatever this process becomes. The caller has one thread. `file` is the plugin's.
Result<void> confine(const Confine& wanted, int file);

/// The part of it that is a table (syscalls.cpp): a seccomp filter of what is allowed.
Result<void> filter_system_calls();

}  // namespace banger::plugin_host

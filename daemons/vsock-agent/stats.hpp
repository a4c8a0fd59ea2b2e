#pragma once

#include <string_view>

#include "core/guest/agent_protocol.hpp"

namespace banger::agent {

/// From the texts of /proc/stat, /proc/meminfo and /proc/loadavg: proc(5). What is missing stays 0.
guest::GuestStats parse_stats(std::string_view stat, std::string_view meminfo,
                              std::string_view loadavg);

/// Of this machine, now; file systems as PID 1 sees them.
guest::GuestStats machine_stats();

}  // namespace banger::agent

#pragma once

#include <string_view>

#include "banger/host.hpp"

namespace banger {

/// One line on standard error that begins with its priority, as the journal reads it
/// (sd-daemon(3)), and bangerd what a plugin's process writes. Control characters become spaces; at
/// most 2,000 bytes. Safe from any thread; what cannot be written is lost.
void write_log_line(LogLevel level, std::string_view text);

}  // namespace banger

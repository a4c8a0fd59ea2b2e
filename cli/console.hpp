#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "banger/result.hpp"
#include "core/client/daemon.hpp"

/// A guest's serial console: hostile bytes.
namespace banger::cli {

/// Hands each piece to `on_bytes`, whose Error ends it. With `is_followed`, until the machine ends.
Result<void> read_console(client::Daemon& daemon, const std::string& vm, bool is_followed,
                          const std::function<Result<void>(const std::string&)>& on_bytes);

/// The last lines, fit for a terminal; empty when there are none to be had.
std::string last_console_lines(client::Daemon& daemon, const std::string& vm, std::size_t lines);

}  // namespace banger::cli

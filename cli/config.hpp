#pragma once

#include <string>
#include <vector>

#include "cli/render/terminal.hpp"
#include "core/client/daemon.hpp"
#include "core/config/config.hpp"
#include "core/protocol/system.hpp"

namespace banger::cli {

/// What the files and the environment say now, for the mode in which this host works.
Result<Config> effective_config(const client::DaemonPlace& place);

/// SETTING, VALUE, FROM.
std::string settings_table(const std::vector<protocol::Setting>& settings,
                           const Terminal& terminal);

}  // namespace banger::cli

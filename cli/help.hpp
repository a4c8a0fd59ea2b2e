#pragma once

#include <string>

#include "cli/command.hpp"
#include "cli/render/terminal.hpp"

/// The help texts: what is this for, the common command, what next. Pure.
namespace banger::cli {

std::string help_text(const CommandTable& table, const Style& style);
std::string help_text(const CommandTable& table, const Group& group, const Style& style);
std::string help_text(const CommandSpec& command, const Style& style);

}  // namespace banger::cli

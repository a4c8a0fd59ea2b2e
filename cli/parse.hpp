#pragma once

#include <span>
#include <string>
#include <vector>

#include "cli/command.hpp"

namespace banger::cli {

/// "-f,--format" → {"-f", "--format"}; the long one comes last.
std::vector<std::string> option_names(const Option& option);

/// Reads the words that follow a command's name. `--help` and `-h` are switches of every command;
/// with one of them nothing else is checked. Errc::invalid_argument, with the nearest flag or the
/// right call as the remedy.
Result<Arguments> parse_arguments(const CommandSpec& command, std::vector<std::string> words);

/// Where the first words of a command line lead.
struct Destination {
    const Group* group = nullptr;  ///< its help is asked for, when there is no command
    const CommandSpec* command = nullptr;
    std::vector<std::string> rest;  ///< for parse_arguments()
    bool wants_version = false;     ///< `banger --version`
};
/// Neither group nor command: the help of banger itself. Errc::invalid_argument for a name that is
/// none, with the nearest as the remedy.
Result<Destination> find_destination(const CommandTable& table, std::span<const std::string> words);

}  // namespace banger::cli

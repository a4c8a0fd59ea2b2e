#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"

/// The commands as values: names, flags, help and the function that does it. The parser and the
/// help texts are made from them, so that the two cannot disagree.
namespace banger::cli {

class Terminal;
struct CommandSpec;

/// What the words of a command line said. Values are still text: the command reads them.
struct Arguments {
    std::map<std::string, std::string, std::less<>> values;  ///< by long name without dashes
    std::set<std::string, std::less<>> switches;             ///< long names without dashes
    std::vector<std::string> words;
    /// What followed `--`; nothing when there was no `--`.
    std::optional<std::vector<std::string>> guest_command;

    [[nodiscard]] bool has(std::string_view name) const { return switches.contains(name); }
    [[nodiscard]] std::optional<std::string> value(std::string_view name) const;
};

/// What a command works with.
struct Context {
    Terminal& terminal;
    const CommandSpec& command;
    std::string program;  ///< how banger was called: where bangerd is looked for
};

/// One flag.
struct Option {
    std::string names;     ///< "-f,--format"; the long one is its key
    std::string value;     ///< "SIZE"; empty for a switch
    std::string help;      ///< without a full stop
    std::string standard;  ///< what holds without it, as help shows it; empty: not shown
    std::vector<std::string> choices;  ///< the values it takes; empty: any
};

/// The words after the flags.
struct Words {
    std::string name;  ///< "VM"
    std::size_t minimum = 0;
    std::size_t maximum = 0;                ///< many: any number
    std::vector<std::string> choices = {};  ///< what each may be; empty: any
    static constexpr std::size_t many = 1000;
};

struct Example {
    std::string line;  ///< runnable as it stands
    std::string does;
};

struct CommandSpec {
    std::string group;  ///< "vm"; empty for one without a group
    std::string name;
    std::vector<std::string> other_names;
    std::string summary;  ///< one line for the list of its group
    std::string details;  ///< paragraphs for its own help
    Words words;
    bool takes_guest_command = false;
    std::vector<Option> options;
    std::vector<Example> examples;
    /// The exit status; an Error is printed and becomes 1, or 125 where it takes a guest command.
    Result<int> (*run)(const Arguments& arguments, Context& context) = nullptr;
    /// Fills in Option::standard with what holds on this host; only called for help.
    void (*resolve)(CommandSpec& command) = nullptr;

    [[nodiscard]] std::string full_name() const {
        return group.empty() ? name : group + " " + name;
    }
};

struct Group {
    std::string name;  ///< "vm"; "vm workspace" for one inside another
    std::string summary;
    std::string details;
    std::vector<Example> examples;
};

struct CommandTable {
    std::string details;  ///< what `banger` alone says
    std::vector<Example> examples;
    std::vector<Group> groups;
    std::vector<CommandSpec> commands;

    [[nodiscard]] const Group* find_group(std::string_view name) const;
    /// The group that the first words name, "vm" or "vm workspace", and how many words that took.
    [[nodiscard]] const Group* find_group(std::span<const std::string> words,
                                          std::size_t& taken) const;
    /// By name or other name.
    [[nodiscard]] const CommandSpec* find(std::string_view group, std::string_view name) const;
};

/// Everything banger can do.
CommandTable all_commands();

/// Exit statuses of banger itself.
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;
/// banger failed before the guest's command could run.
inline constexpr int exit_not_run = 125;

/// For an error in how the command was called: prints it with the way to the help; exit_usage.
int usage_error(Context& context, const Error& error);

}  // namespace banger::cli

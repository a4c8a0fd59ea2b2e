#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.hpp"
#include "cli/complete.hpp"
#include "cli/help.hpp"
#include "cli/man.hpp"
#include "cli/parse.hpp"
#include "cli/plugin_verify.hpp"
#include "cli/render/terminal.hpp"
#include "cli/ssh_config.hpp"

namespace banger::cli {

namespace {

/// The file that runs, with links followed: bangerd is looked for beside it.
std::string own_program() {
    std::array<char, 4096> path{};
    const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
    return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : std::string();
}

/// Whether machines may have come, gone, started or stopped.
bool changes_machines(const CommandSpec& command) {
    static constexpr std::string_view names[] = {"run",  "start",  "stop",  "restart",
                                                 "kill", "delete", "prune", "set"};
    return command.group == "vm" && std::ranges::count(names, command.name) > 0;
}

int run_command_line(const CommandTable& table, std::span<const std::string> words,
                     Terminal& terminal) {
    // Not for people, and in no help: `banger __complete -- WORD...`, `banger __man FOLDER`,
    // `banger __open-plugin FOLDER NAME`.
    if (words.size() > 1 && words[0] == "__complete")
        return print_candidates(table, words.subspan(2), terminal, own_program());
    if (words.size() == 2 && words[0] == "__man") return write_man_pages(table, words[1], terminal);
    if (words.size() == 3 && words[0] == "__open-plugin")
        return open_plugin(words[1], words[2], terminal);
    // Before every command, because it is about bangerd and no command's own. The client looks at
    // it, and a bangerd that it starts.
    if (!words.empty() && words[0] == "--safe-mode") {
        ::setenv("BANGER_SAFE_MODE", "1", 1);  // NOLINT: no other thread yet
        words = words.subspan(1);
    }
    const Result<Destination> destination = find_destination(table, words);
    if (!destination) {
        terminal.error(destination.error());
        return exit_usage;
    }
    const Style& style = terminal.out_style();
    const CommandSpec* command = destination->command;
    if (destination->wants_version) command = table.find("", "version");
    if (!command) {
        terminal.out(destination->group ? help_text(table, *destination->group, style)
                                        : help_text(table, style));
        return 0;
    }
    const Result<Arguments> arguments = parse_arguments(*command, destination->rest);
    if (!arguments) {
        terminal.error(arguments.error());
        return exit_usage;
    }
    if (arguments->has("help")) {
        CommandSpec resolved = *command;
        if (resolved.resolve) resolved.resolve(resolved);
        terminal.out(help_text(resolved, style));
        return 0;
    }
    Context context{terminal, *command, own_program()};
    const Result<int> status = command->run(*arguments, context);
    if (changes_machines(*command)) refresh_ssh_config(context);
    if (status) return *status;
    // A reader that has left is told nothing more.
    if (!status.error().message.empty()) terminal.error(status.error());
    return command->takes_guest_command ? exit_not_run : exit_failed;
}

}  // namespace

}  // namespace banger::cli

int main(int count, char** words) {
    using namespace banger::cli;
    // Writing to a pipe that nobody reads is an error to handle, not an end: --rm must clean up.
    std::signal(SIGPIPE, SIG_IGN);
    Terminal terminal = Terminal::of_process();
    const std::vector<std::string> arguments(words + 1, words + count);
    const int status = run_command_line(all_commands(), arguments, terminal);
    const banger::Result<void> written = terminal.check_output();
    if (written) return status;
    if (!written.error().message.empty()) terminal.error(written.error());
    return status != 0 ? status : exit_failed;
}

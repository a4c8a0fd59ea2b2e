#include <unistd.h>

#include <array>
#include <csignal>
#include <span>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/help.hpp"
#include "cli/parse.hpp"
#include "cli/render/terminal.hpp"

namespace banger::cli {

CommandTable all_commands() {
    CommandTable table;
    table.details =
        "banger: a real Linux machine in one command\n\n"
        "Makes microVMs on this host in seconds, to throw away or to keep: each has a kernel, a\n"
        "root and a disk of its own, and is reached by ssh.";
    table.examples = {
        {"banger vm run", "make a machine and open a shell in it"},
        {"banger vm run --rm -- uname -a", "run one command in a fresh one, then delete it"},
        {"banger vm list", "see what there is"},
        {"banger doctor", "check that this host can run machines"}};
    add_vm_run_commands(table);
    add_vm_commands(table);
    add_image_commands(table);
    add_kernel_commands(table);
    add_plugin_commands(table);
    add_system_commands(table);
    return table;
}

int usage_error(Context& context, const Error& error) {
    context.terminal.error(error);
    return exit_usage;
}

namespace {

/// The file that runs, with links followed: bangerd is looked for beside it.
std::string own_program() {
    std::array<char, 4096> path{};
    const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
    return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : std::string();
}

int run_command_line(const CommandTable& table, std::span<const std::string> words,
                     Terminal& terminal) {
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

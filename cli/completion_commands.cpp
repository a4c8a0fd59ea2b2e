#include "cli/commands.hpp"
#include "cli/completion.hpp"
#include "cli/render/terminal.hpp"

namespace banger::cli {

namespace {

Result<int> print_script(const Arguments& arguments, Context& context) {
    context.terminal.out(completion_script(arguments.words[0]));
    return 0;
}

}  // namespace

void add_completion_commands(CommandTable& table) {
    table.commands.push_back(
        {"",
         "completion",
         {},
         "print the completion script for a shell",
         "Completes commands, flags and their values, and the names of machines, images and\n"
         "kernels as they are at that moment. Without a daemon that runs there are no names;\n"
         "none is started for them.\n\n"
         "`banger system install` puts the scripts for bash, zsh and fish where these shells look.",
         {"SHELL", 1, 1, completion_shells()},
         false,
         {},
         {{"source <(banger completion bash)", "bash: now, or as a line of ~/.bashrc"},
          {"source <(banger completion zsh)", "zsh: now, or as a line of ~/.zshrc below compinit"},
          {"banger completion fish | source",
           "fish: now, or as a line of ~/.config/fish/config.fish"},
          {"banger completion powershell | Out-String | Invoke-Expression",
           "PowerShell: now, or as a line of $PROFILE"}},
         print_script,
         nullptr});
}

}  // namespace banger::cli

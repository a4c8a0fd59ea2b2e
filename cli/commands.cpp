#include "cli/commands.hpp"

#include "cli/render/terminal.hpp"
#include "cli/vm_forward.hpp"

namespace banger::cli {

CommandTable all_commands() {
    CommandTable table;
    table.details =
        "banger: a real Linux machine in one command\n\n"
        "Makes microVMs on this host in seconds, to throw away or to keep: each has a kernel, a\n"
        "root and a disk of its own, and is reached by ssh.";
    table.examples = {
        {"banger vm run", "make a machine and open a shell in it"},
        {"banger vm run .", "the same, with this git repository in it"},
        {"banger vm run --rm -- uname -a", "run one command in a fresh one, then delete it"},
        {"banger vm list", "see what there is"},
        {"banger doctor", "check that this host can run machines"}};
    add_vm_run_commands(table);
    add_vm_commands(table);
    add_vm_set_command(table);
    add_vm_copy_command(table);
    add_vm_look_commands(table);
    add_vm_forward_command(table);
    add_workspace_commands(table);
    add_image_commands(table);
    add_kernel_commands(table);
    add_publish_commands(table);
    add_catalog_commands(table);
    add_plugin_commands(table);
    add_config_commands(table);
    add_ssh_config_commands(table);
    add_system_commands(table);
    add_completion_commands(table);
    return table;
}

int usage_error(Context& context, const Error& error) {
    context.terminal.error(error);
    return exit_usage;
}

}  // namespace banger::cli

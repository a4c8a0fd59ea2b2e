#pragma once

#include "cli/command.hpp"

/// A file each: the commands of one group.
namespace banger::cli {

void add_vm_commands(CommandTable& table);
void add_vm_look_commands(CommandTable& table);  ///< stats, ports, health
void add_vm_copy_command(CommandTable& table);
void add_vm_set_command(CommandTable& table);
void add_vm_run_commands(CommandTable& table);     ///< run, create, ssh
void add_workspace_commands(CommandTable& table);  ///< prepare, export, exec
void add_image_commands(CommandTable& table);
void add_kernel_commands(CommandTable& table);
void add_publish_commands(CommandTable& table);  ///< of images and kernels
void add_catalog_commands(CommandTable& table);
void add_plugin_commands(CommandTable& table);
void add_config_commands(CommandTable& table);
void add_ssh_config_commands(CommandTable& table);
void add_completion_commands(CommandTable& table);
void add_system_commands(CommandTable& table);  ///< doctor, version

/// `banger --version`.
Result<int> print_version(const Arguments& arguments, Context& context);

}  // namespace banger::cli

#pragma once

#include <string>
#include <vector>

#include "banger/host.hpp"
#include "cli/command.hpp"
#include "core/base/process.hpp"
#include "core/system/install_record.hpp"
#include "core/system/layout.hpp"

/// What the commands of the group `system` share.
namespace banger::cli {

Result<int> system_install(const Arguments& arguments, Context& context);
Result<int> system_uninstall(const Arguments& arguments, Context& context);
Result<int> system_restart(const Arguments& arguments, Context& context);
Result<int> system_status(const Arguments& arguments, Context& context);

/// Root, on a host that systemd runs, on an architecture we have: else an error, before anything is
/// made.
Result<void> check_can_change_system(const Context& context);
/// For who is not root: `words` follow the command in the line that is to be typed instead.
Error needs_root(const Context& context, const std::string& words);
/// Two installations at once would undo each other.
Result<UniqueFd> lock_installation();
/// Connects to bangerd and calls it; connects to bangerd-root. The error has what the journal says
/// since `began`.
Result<void> check_both_answer(std::int64_t began);
/// Whether bangerd-root takes a connection of ours.
Result<void> connect_to_helper(const std::string& path);
/// Rows of doctor, where the services are installed: both of them and how they are confined, the
/// helper's socket, the owner, lingering.
std::vector<Check> system_checks(const std::string& root_socket);
/// Errc::unavailable where there is no installation.
Result<system::InstallRecord> installed(const system::Layout& layout);

}  // namespace banger::cli

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "cli/command.hpp"
#include "core/config/paths.hpp"
#include "core/protocol/vm.hpp"

/// Plain `ssh sandbox.vm`, and with it scp, rsync and editors: a file of ours with an entry for
/// each machine that can be reached, and, when the user asks for it, an Include in ~/.ssh/config.
/// Without `banger ssh-config` neither exists.
namespace banger::cli {

/// What the entries have in common.
struct SshConfigPlaces {
    std::string key;
    std::string known_hosts;
    std::string zone;  ///< "vm": the entry of "sandbox" is for sandbox.vm
};

/// An entry a machine. One whose name or address would not be a plain word is left out. Pure.
std::string ssh_config_text(const std::vector<protocol::Vm>& vms, const SshConfigPlaces& places);

/// ~/.config/banger/ssh_config.
std::string ssh_config_path(const Paths& user_paths);

/// Our lines in ~/.ssh/config, between marks, on top: further down they would belong to the user's
/// last Host. Pure. Errc::corrupt for a first mark without a last one.
Result<std::string> with_include(std::string_view text, const std::string& line, bool is_new_file);
/// What was there before with_include(), byte for byte. `was_ours`: banger had made the file.
struct WithoutInclude {
    std::string text;
    bool was_ours = false;
};
Result<WithoutInclude> without_include(std::string_view text);

/// Writes our file anew when it is there, which means that somebody uses it. Asks a daemon that
/// runs, and starts none. A failure is a note: it must not become that of the command before it.
void refresh_ssh_config(const Context& context);

}  // namespace banger::cli

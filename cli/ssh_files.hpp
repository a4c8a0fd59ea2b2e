#pragma once

#include <string>

#include "banger/result.hpp"
#include "core/protocol/vm.hpp"

/// The user's own ssh material, in ~/.local/state/banger/ssh. Never in ~/.ssh, never removed as a
/// folder. Commands that run at once take turns by a lock file beside it.
namespace banger::cli {

/// The public half of the key as a line for authorized_keys. Makes the pair (Ed25519, no
/// passphrase, by ssh-keygen) when the private file is missing and `may_make`: only at banger's own
/// path, because one that the user named and that is not there is a mistake.
Result<std::string> ensure_ssh_key(const std::string& path, bool may_make);

/// Enters the guest's host key under its alias, in place of what was there.
Result<void> remember_host_key(const std::string& known_hosts,
                               const protocol::SshEndpoint& endpoint);
/// "Not there" is success.
Result<void> forget_host_key(const std::string& known_hosts, const std::string& alias);

}  // namespace banger::cli

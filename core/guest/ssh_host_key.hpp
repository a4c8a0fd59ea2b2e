#pragma once

#include <string_view>

#include "banger/result.hpp"
#include "core/guest/identity.hpp"

namespace banger::guest {

/// A fresh Ed25519 key in OpenSSH's own format (PROTOCOL.key in its source), unencrypted. The host
/// makes it, because a guest under emulation takes long over it, and because the host then knows
/// the public half before the first connection. `comment` ends the public line: one word.
/// Thread-safe.
Result<SshHostKey> generate_ssh_host_key(std::string_view comment);

}  // namespace banger::guest

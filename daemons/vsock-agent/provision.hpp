#pragma once

#include <string>

#include "banger/result.hpp"
#include "core/guest/identity.hpp"
#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

/// Writes the machine's identity into the mounted root (with the work disk at its /root).
///
/// At every boot: host name, name servers, machine id, ssh policy and keys, what keeps the image's
/// own network services off our interface. On the first boot only: /etc/hosts, the ssh host key,
/// files, git identity; the mark for that is /var/lib/banger/provisioned, written last. Goes on
/// after a failure and returns the first one, because a machine with one file less is better than
/// none.
Result<void> provision(const guest::GuestIdentity& identity, const ImageRoot& root);

/// The drop-in for sshd: the first value of a keyword wins (sshd_config(5)), so its name sorts
/// first.
std::string sshd_drop_in();

/// What goes into the tmpfs at /run before the image's init starts: nothing there outlives the
/// boot.
Result<void> prepare_run(const ImageRoot& root);

}  // namespace banger::agent

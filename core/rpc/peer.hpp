#pragma once

#include <sys/types.h>

#include <string>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

namespace banger::rpc {

/// Who is at the other end of a unix socket, as the kernel recorded it when they connected
/// (SO_PEERCRED, unix(7)).
struct PeerCredentials {
    pid_t pid = 0;
    uid_t uid = 0;
    gid_t gid = 0;
};

/// Errc::invalid_argument when the socket is not a connected unix socket.
Result<PeerCredentials> peer_credentials(int socket);

/// A descriptor of the peer's process, by which it can be looked at without its number being
/// reused: SO_PEERPIDFD (Linux 6.5), else pidfd_open(2), which is a guess when the peer has ended
/// already. Authority comes from the uid, never from this.
Result<UniqueFd> peer_pidfd(int socket);

}  // namespace banger::rpc

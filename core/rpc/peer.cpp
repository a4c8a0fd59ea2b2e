#include "core/rpc/peer.hpp"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // asm-generic/socket.h of Linux 6.5; Debian 12 has the headers of 6.1
#endif

namespace banger::rpc {

Result<PeerCredentials> peer_credentials(int socket) {
    ucred credentials{};
    socklen_t length = sizeof credentials;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0)
        return Error::from_errno(errno, "reading who is at the other end of a socket");
    // What the kernel answers for a socket that has no such peer (unix(7)).
    if (credentials.pid == 0 || credentials.uid == static_cast<uid_t>(-1))
        return Error(Errc::invalid_argument, "the socket is not a connected unix socket");
    return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

Result<UniqueFd> peer_pidfd(int socket) {
    int fd = -1;
    socklen_t length = sizeof fd;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &length) == 0) return UniqueFd(fd);
    const PeerCredentials peer = BANGER_TRY(peer_credentials(socket));
    fd = static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0));
    if (fd < 0) return Error::from_errno(errno, "opening the process at the other end of a socket");
    return UniqueFd(fd);
}

}  // namespace banger::rpc

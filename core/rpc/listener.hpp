#pragma once

#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

namespace banger::rpc {

/// Stream: NUL-terminated messages (owner hop). Packets: the kernel frames, and pairs descriptors
/// with their message (root hop).
enum class SocketKind { stream, packets };

/// A listening unix socket at `path`, mode 0600 from the moment it can be found: it is bound under
/// another name in the same folder, given its mode, and renamed into place. A name that is taken by
/// a socket nobody listens on (its daemon died) is replaced; by one that answers is Errc::in_use;
/// by anything else Errc::already_exists. The folder must be owned by this user or root, and
/// writable by nobody else, else Errc::permission_denied. Two callers at once: make them take turns
/// (a lock file). The descriptor is close-on-exec and non-blocking. The path stays when it is
/// closed: unlink it.
Result<UniqueFd> listen_at(const std::string& path, SocketKind kind = SocketKind::stream);

/// The sockets that systemd passed (LISTEN_FDS, sd_listen_fds(3)), in order; none when it passed
/// none. Each is checked to be a listening unix socket of that kind. Takes the variables out of the
/// environment, so call it once, before there are threads.
Result<std::vector<UniqueFd>> inherited_listeners(SocketKind kind = SocketKind::stream);

}  // namespace banger::rpc

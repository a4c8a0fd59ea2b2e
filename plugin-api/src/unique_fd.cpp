#include "banger/unique_fd.hpp"

#include <fcntl.h>
#include <unistd.h>

namespace banger {

void UniqueFd::reset(int fd) {
    // Linux frees the descriptor even when close() reports EINTR; retrying could close another's.
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
}

UniqueFd UniqueFd::duplicate() const { return UniqueFd(::fcntl(fd_, F_DUPFD_CLOEXEC, 3)); }

}  // namespace banger

#include "plugins/storage-dm/base_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>

#include "plugins/storage-dm/layout.hpp"

namespace banger::dm {

namespace {

constexpr unsigned long fuse_magic = 0x65735546;  // FUSE_SUPER_MAGIC, fs/fuse/inode.c

Error refused(Errc code, const std::string& why) {
    return {code, "the disk's base " + why, "Register the image from a plain file of your own."};
}

}  // namespace

Result<BaseFile> examine_base(int fd, std::uint32_t owner_uid) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return Error::from_errno(errno, "looking at the disk's base");
    if (!S_ISREG(status.st_mode)) return refused(Errc::invalid_argument, "is not a plain file");
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0) return Error::from_errno(errno, "looking at the disk's base");
    if ((flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_WRONLY)
        return refused(Errc::invalid_argument, "is not open for reading");
    if (status.st_uid != owner_uid && status.st_uid != 0)
        return refused(Errc::permission_denied, "belongs to another user");
    struct statfs place {};
    if (::fstatfs(fd, &place) != 0) return Error::from_errno(errno, "looking at the disk's base");
    if (static_cast<unsigned long>(place.f_type) == fuse_magic)
        return refused(Errc::permission_denied, "lies on a FUSE file system");
    const BaseFile base{ByteCount::bytes(static_cast<std::uint64_t>(status.st_size)),
                        static_cast<std::uint64_t>(status.st_mtim.tv_sec) * 1'000'000'000 +
                            static_cast<std::uint64_t>(status.st_mtim.tv_nsec)};
    if (!check_size(base.size))
        return refused(Errc::invalid_argument, "has a size that is no whole number of blocks");
    return base;
}

}  // namespace banger::dm

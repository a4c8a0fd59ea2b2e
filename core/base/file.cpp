#include "core/base/file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "core/base/rollback.hpp"

namespace banger {

Result<std::string> read_all(int fd, ByteCount limit) {
    // A plain file in one read, and one that sees its end.
    constexpr std::size_t usual = 16384;
    struct stat status {};
    std::size_t room = usual;
    if (::fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0)
        room = std::max(usual, std::min(static_cast<std::size_t>(status.st_size),
                                        static_cast<std::size_t>(limit.count())) +
                                   1);
    std::string content;
    std::size_t used = 0;
    for (;;) {
        if (used == content.size()) content.resize(std::max(room, 2 * used));
        const ssize_t count = ::read(fd, content.data() + used, content.size() - used);
        if (count < 0) {
            if (errno == EINTR) continue;
            return Error::from_errno(errno, "read");
        }
        used += static_cast<std::size_t>(count);
        if (used > limit.count())
            return Error(Errc::corrupt, "larger than the " + limit.text() + " it may have");
        if (count == 0) {
            content.resize(used);
            return content;
        }
    }
}

Result<UniqueFd> open_read(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY));
    if (!fd) return Error::from_errno(errno, "open " + path);
    return fd;
}

Result<std::string> read_file(const std::string& path, ByteCount limit) {
    const UniqueFd fd = BANGER_TRY(open_read(path));
    return read_all(fd.get(), limit).context("reading " + path);
}

Result<void> write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::write(fd, bytes.data(), bytes.size());
        if (count < 0) {
            if (errno == EINTR) continue;
            return Error::from_errno(errno, "write");
        }
        bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return ok();
}

Result<void> write_file_atomic(const std::string& path, std::string_view content, mode_t mode) {
    std::string temporary = path + ".XXXXXX";
    const UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
    if (!fd) return Error::from_errno(errno, "making a temporary file beside " + path);
    Rollback rollback({});
    rollback.add("removing " + temporary, [&] { return remove_file(temporary); });
    if (::fchmod(fd.get(), mode) != 0) return Error::from_errno(errno, "chmod " + temporary);
    BANGER_TRY(write_all(fd.get(), content).context("writing " + path));
    if (::fsync(fd.get()) != 0) return Error::from_errno(errno, "fsync " + path);
    if (::rename(temporary.c_str(), path.c_str()) != 0)
        return Error::from_errno(errno, "rename to " + path);
    rollback.commit();
    return sync_folder(parent_path(path));
}

std::string parent_path(std::string_view path) {
    while (path.size() > 1 && path.ends_with('/'))
        path.remove_suffix(1);
    const std::size_t slash = path.rfind('/');
    if (slash == path.npos) return ".";
    return std::string(slash == 0 ? "/" : path.substr(0, slash));
}

bool path_exists(const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0;
}

Result<void> ensure_folder(const std::string& path, mode_t mode) {
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0) {
        if (S_ISDIR(status.st_mode)) return ok();
        return Error(Errc::already_exists, path + " is in the way: it is not a folder",
                     "Move it away.");
    }
    if (errno != ENOENT) return Error::from_errno(errno, "stat " + path);
    const std::string parent = parent_path(path);
    if (parent != path && parent != ".") BANGER_TRY(ensure_folder(parent, mode));
    if (::mkdir(path.c_str(), mode) != 0) {
        // Another process may have been quicker.
        if (errno == EEXIST && ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode))
            return ok();
        return Error::from_errno(errno, "mkdir " + path);
    }
    return ok();
}

Result<void> ensure_private_folder(const std::string& path) {
    BANGER_TRY(ensure_folder(path, 0700));
    const UniqueFd fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return Error::from_errno(errno, "open " + path);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return Error::from_errno(errno, "stat " + path);
    if (status.st_uid != ::geteuid() || (status.st_mode & 022) != 0)
        return Error(Errc::permission_denied,
                     path + " belongs to somebody else or can be written by others",
                     "Remove it, or make it yours with mode 0700.");
    return ok();
}

Result<void> remove_file(const std::string& path) {
    if (::unlink(path.c_str()) == 0 || errno == ENOENT || errno == ENOTDIR) return ok();
    return Error::from_errno(errno, "unlink " + path);
}

namespace {

struct CloseDir {
    void operator()(DIR* folder) const { ::closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseDir>;

Result<Folder> open_folder_at(int parent, const std::string& name) {
    UniqueFd fd(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return Error::from_errno(errno, "open " + name);
    Folder folder(::fdopendir(fd.get()));
    if (!folder) return Error::from_errno(errno, "reading folder " + name);
    (void)fd.release();
    return folder;
}

std::vector<std::string> names_in(DIR* folder) {
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(folder)) {
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") names.emplace_back(name);
    }
    std::ranges::sort(names);
    return names;
}

void remove_at(int parent, const std::string& name, dev_t device, ErrorCollector& errors) {
    struct stat status {};
    if (::fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno != ENOENT) errors.add(Error::from_errno(errno, "stat " + name));
        return;
    }
    if (!S_ISDIR(status.st_mode)) {
        if (::unlinkat(parent, name.c_str(), 0) != 0 && errno != ENOENT)
            errors.add(Error::from_errno(errno, "unlink " + name));
        return;
    }
    if (status.st_dev != device) {
        errors.add(Error(Errc::in_use, name + " is a mount point", "Unmount it first."));
        return;
    }
    {
        Result<Folder> folder = open_folder_at(parent, name);
        if (!folder) {
            if (folder.error().code != Errc::not_found) errors.add(folder.error());
            return;
        }
        for (const std::string& child : names_in(folder->get()))
            remove_at(::dirfd(folder->get()), child, device, errors);
    }
    if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
        errors.add(Error::from_errno(errno, "rmdir " + name));
}

}  // namespace

Result<std::vector<std::string>> list_folder(const std::string& path) {
    const Folder folder = BANGER_TRY(open_folder_at(AT_FDCWD, path));
    return names_in(folder.get());
}

Result<void> remove_tree(const std::string& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) return ok();
        return Error::from_errno(errno, "stat " + path);
    }
    ErrorCollector errors;
    remove_at(AT_FDCWD, path, status.st_dev, errors);
    return errors.result().context("removing " + path);
}

Result<void> sync_folder(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return Error::from_errno(errno, "open " + path);
    if (::fsync(fd.get()) != 0) return Error::from_errno(errno, "fsync " + path);
    return ok();
}

Result<UniqueFd> try_lock_file(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) return Error::from_errno(errno, "open " + path);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
    if (errno == EWOULDBLOCK) return Error(Errc::busy, path + " is locked by another process");
    return Error::from_errno(errno, "lock " + path);
}

}  // namespace banger

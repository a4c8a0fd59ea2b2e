#include "daemons/vsock-agent/copy_tree.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "banger/unique_fd.hpp"

namespace banger::agent {

namespace {

constexpr int max_depth = 256;

Result<std::vector<std::string>> entries_of(int folder) {
    const UniqueFd again(openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(dup(again.get())), closedir);
    if (!stream) return Error::from_errno(errno, "reading a folder");
    std::vector<std::string> names;
    while (const dirent* entry = readdir(stream.get())) {
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") names.emplace_back(name);
    }
    return names;
}

UniqueFd open_folder(int folder, const std::string& name) {
    return UniqueFd(openat(folder, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

Result<void> clear_below(int folder, std::string_view keep, int depth) {
    if (depth > max_depth) return Error(Errc::corrupt, "folders nest too deep");
    for (const std::string& name : BANGER_TRY(entries_of(folder))) {
        if (name == keep) continue;
        if (unlinkat(folder, name.c_str(), 0) == 0) continue;
        if (errno != EISDIR) return Error::from_errno(errno, "removing " + name);
        const UniqueFd below = open_folder(folder, name);
        if (!below) return Error::from_errno(errno, "opening " + name);
        BANGER_TRY(clear_below(below.get(), {}, depth + 1));
        if (unlinkat(folder, name.c_str(), AT_REMOVEDIR) != 0)
            return Error::from_errno(errno, "removing " + name);
    }
    return {};
}

class TreeCopy {
public:
    explicit TreeCopy(int target) : target_(target) {}

    /// `path` is that of `to` below the target: "" or "a/b/".
    Result<void> folder(int from, int to, const std::string& path, const struct stat& info,
                        int depth) {
        if (depth > max_depth) return Error(Errc::corrupt, "folders nest too deep");
        for (const std::string& name : BANGER_TRY(entries_of(from)))
            BANGER_TRY(entry(from, to, path, name, depth).context("copying " + path + name));
        if (fchown(to, info.st_uid, info.st_gid) != 0 || fchmod(to, info.st_mode & 07777) != 0)
            return Error::from_errno(errno, "setting owner and mode");
        copy_attributes(from, to);
        const std::array<timespec, 2> times{info.st_atim, info.st_mtim};
        futimens(to, times.data());
        return {};
    }

private:
    Result<void> entry(int from, int to, const std::string& path, const std::string& name,
                       int depth) {
        struct stat info {};
        if (fstatat(from, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
            return Error::from_errno(errno, "stat");
        if (S_ISDIR(info.st_mode)) return sub_folder(from, to, path, name, info, depth);
        if (info.st_nlink > 1) {
            const auto [known, is_new] =
                links_.try_emplace({info.st_dev, info.st_ino}, path + name);
            // When the link cannot be made, a copy is better than nothing.
            if (!is_new && linkat(target_, known->second.c_str(), to, name.c_str(), 0) == 0)
                return {};
        }
        return plain(from, to, name, info);
    }

    Result<void> sub_folder(int from, int to, const std::string& path, const std::string& name,
                            const struct stat& info, int depth) {
        if (mkdirat(to, name.c_str(), 0700) != 0) return Error::from_errno(errno, "mkdir");
        const UniqueFd source = open_folder(from, name);
        const UniqueFd target = open_folder(to, name);
        if (!source || !target) return Error::from_errno(errno, "open");
        return folder(source.get(), target.get(), path + name + "/", info, depth + 1);
    }

    static Result<void> plain(int from, int to, const std::string& name, const struct stat& info) {
        if (S_ISLNK(info.st_mode)) {
            BANGER_TRY(symbolic_link(from, to, name));
        } else if (S_ISREG(info.st_mode)) {
            return file(from, to, name, info);
        } else if (mknodat(to, name.c_str(), info.st_mode, info.st_rdev) != 0) {
            return Error::from_errno(errno, "mknod");
        }
        if (fchownat(to, name.c_str(), info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
            return Error::from_errno(errno, "chown");
        if (!S_ISLNK(info.st_mode) && fchmodat(to, name.c_str(), info.st_mode & 07777, 0) != 0)
            return Error::from_errno(errno, "chmod");
        const std::array<timespec, 2> times{info.st_atim, info.st_mtim};
        utimensat(to, name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW);
        return {};
    }

    static Result<void> symbolic_link(int from, int to, const std::string& name) {
        std::array<char, PATH_MAX> target{};
        const ssize_t size = readlinkat(from, name.c_str(), target.data(), target.size() - 1);
        if (size < 0) return Error::from_errno(errno, "readlink");
        if (symlinkat(target.data(), to, name.c_str()) != 0)
            return Error::from_errno(errno, "symlink");
        return {};
    }

    static Result<void> file(int from, int to, const std::string& name, const struct stat& info) {
        const UniqueFd source(openat(from, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
        const UniqueFd target(
            openat(to, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (!source || !target) return Error::from_errno(errno, "open");
        while (true) {
            const ssize_t count = sendfile(target.get(), source.get(), nullptr, 1U << 30);
            if (count == 0) break;
            if (count < 0 && errno != EINTR) return Error::from_errno(errno, "copy");
        }
        // Owner first: it drops set-id bits and capabilities, which come after.
        if (fchown(target.get(), info.st_uid, info.st_gid) != 0 ||
            fchmod(target.get(), info.st_mode & 07777) != 0)
            return Error::from_errno(errno, "setting owner and mode");
        copy_attributes(source.get(), target.get());
        const std::array<timespec, 2> times{info.st_atim, info.st_mtim};
        futimens(target.get(), times.data());
        return {};
    }

    /// Attributes that this kernel does not take are left out: they meant nothing here.
    static void copy_attributes(int from, int to) {
        std::array<char, 65536> names{};
        const ssize_t size = flistxattr(from, names.data(), names.size());
        std::vector<char> value(65536);
        for (ssize_t at = 0; at < size;) {
            const std::string name = names.data() + at;
            at += static_cast<ssize_t>(name.size()) + 1;
            const ssize_t length = fgetxattr(from, name.c_str(), value.data(), value.size());
            if (length >= 0)
                fsetxattr(to, name.c_str(), value.data(), static_cast<std::size_t>(length), 0);
        }
    }

    int target_;
    std::map<std::pair<dev_t, ino_t>, std::string> links_;  ///< first name of each, below target_
};

}  // namespace

Result<void> copy_tree(int from, int to) {
    struct stat info {};
    if (fstat(from, &info) != 0) return Error::from_errno(errno, "stat");
    return TreeCopy(to).folder(from, to, "", info, 0);
}

Result<void> clear_folder(int folder, std::string_view keep) {
    return clear_below(folder, keep, 0);
}

}  // namespace banger::agent

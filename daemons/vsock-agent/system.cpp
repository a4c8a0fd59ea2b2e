#include "daemons/vsock-agent/system.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

namespace banger::agent {

void say(std::string_view text) {
    const std::string line = "banger-init: " + std::string(text) + "\n";
    if (write(STDERR_FILENO, line.data(), line.size()) >= 0) return;
    const UniqueFd log(open("/dev/kmsg", O_WRONLY | O_CLOEXEC));
    [[maybe_unused]] const ssize_t ignored = write(log.get(), line.data(), line.size());
}

std::uint64_t uptime_ms() {
    timespec now{};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1000 +
           static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
}

Result<std::string> read_text(int fd, std::size_t limit) {
    std::string text;
    while (text.size() <= limit) {
        const std::size_t before = text.size();
        text.resize(before + 16384);
        const ssize_t count = read(fd, text.data() + before, 16384);
        text.resize(before + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
        if (count == 0) return text;
        if (count < 0 && errno != EINTR) return Error::from_errno(errno, "read");
    }
    return Error(Errc::corrupt, "the file is too large");
}

Result<std::string> read_text(const std::string& path, std::size_t limit) {
    const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return Error::from_errno(errno, path);
    return read_text(file.get(), limit).context(path);
}

std::string read_line(const std::string& path) {
    std::string text = read_text(path).value_or("");
    text.resize(std::min(text.size(), text.find('\n')));
    return text;
}

Result<void> write_bytes(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t count = write(fd, bytes.data(), bytes.size());
        if (count < 0 && errno != EINTR) return Error::from_errno(errno, "write");
        if (count > 0) bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return {};
}

std::vector<std::string> names_in(const std::string& path) {
    std::vector<std::string> names;
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), closedir);
    if (!folder) return names;
    while (const dirent* entry = readdir(folder.get())) {
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") names.emplace_back(name);
    }
    return names;
}

Result<void> mount_at(const std::string& source, const std::string& target, const char* type,
                      unsigned long flags, const char* options) {
    if (mount(source.c_str(), target.c_str(), type, flags, options) == 0) return {};
    return Error::from_errno(errno, "mounting " + source + " at " + target);
}

Result<ImageRoot> ImageRoot::open(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return Error::from_errno(errno, path);
    return ImageRoot(std::move(fd));
}

Result<UniqueFd> ImageRoot::open_inside(const std::string& path, int flags) const {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    UniqueFd fd(static_cast<int>(
        syscall(SYS_openat2, fd_.get(), path.empty() ? "." : path.c_str(), &how, sizeof how)));
    if (!fd) return Error::from_errno(errno, "/" + path);
    return fd;
}

bool ImageRoot::has(const std::string& path) const { return open_inside(path, O_PATH).has_value(); }

bool ImageRoot::has_program(const std::string& path) const {
    const Result<UniqueFd> fd = open_inside(path, O_PATH);
    struct stat info {};
    return fd && fstat(fd->get(), &info) == 0 && S_ISREG(info.st_mode) &&
           (info.st_mode & 0111) != 0;
}

Result<std::string> ImageRoot::read(const std::string& path, std::size_t limit) const {
    const UniqueFd fd = BANGER_TRY(open_inside(path, O_RDONLY | O_NONBLOCK));
    struct stat info {};
    if (fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode))
        return Error(Errc::corrupt, "/" + path + " is not a regular file");
    return read_text(fd.get(), limit);
}

Result<UniqueFd> ImageRoot::ensure_folder(const std::string& path) const {
    constexpr int flags = O_PATH | O_DIRECTORY;
    Result<UniqueFd> found = open_inside(path, flags);
    if (found || found.error().code != Errc::not_found) return found;
    const std::size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
    const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    const UniqueFd folder = BANGER_TRY(ensure_folder(parent));
    if (mkdirat(folder.get(), name.c_str(), 0755) != 0 && errno != EEXIST)
        return Error::from_errno(errno, "making /" + path);
    return open_inside(path, flags);
}

Result<void> ImageRoot::write(const std::string& path, std::string_view content, mode_t mode,
                              uid_t uid, gid_t gid) const {
    const std::size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
    const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    const UniqueFd folder = BANGER_TRY(ensure_folder(parent));
    const std::string temporary = ".banger." + std::to_string(getpid());
    unlinkat(folder.get(), temporary.c_str(), 0);
    const UniqueFd file(openat(folder.get(), temporary.c_str(),
                               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file) return Error::from_errno(errno, "writing /" + path);
    Result<void> written = write_bytes(file.get(), content);
    // Owner before mode: chown(2) drops the set-id bits.
    if (written && (fchown(file.get(), uid, gid) != 0 || fchmod(file.get(), mode) != 0 ||
                    renameat(folder.get(), temporary.c_str(), folder.get(), name.c_str()) != 0))
        written = Error::from_errno(errno, "rename");
    if (!written) unlinkat(folder.get(), temporary.c_str(), 0);
    return std::move(written).context("writing /" + path);
}

Result<void> ImageRoot::update(const std::string& path, std::string_view content,
                               mode_t mode) const {
    struct stat info {};
    if (fstatat(fd_.get(), path.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(info.st_mode) && (info.st_mode & 07777) == mode) {
        const Result<std::string> present = read(path);
        if (present && *present == content) return {};
    }
    return write(path, content, mode);
}

Result<void> ImageRoot::remove(const std::string& path) const {
    const std::size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
    const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    const Result<UniqueFd> folder = open_inside(parent, O_PATH | O_DIRECTORY);
    if (!folder)
        return folder.error().code == Errc::not_found ? ok() : Result<void>(folder.error());
    if (unlinkat(folder->get(), name.c_str(), 0) == 0 || errno == ENOENT) return {};
    return Error::from_errno(errno, "removing /" + path);
}

}  // namespace banger::agent

#include "core/vms/file_sync.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <memory>

#include "banger/unique_fd.hpp"
#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/guest/agent_protocol.hpp"

namespace banger {

namespace {

constexpr std::uint32_t default_file_mode = 0600;
constexpr std::uint32_t permission_bits = 0777;

struct CloseDir {
    void operator()(DIR* folder) const { ::closedir(folder); }
};

/// Where an open file lies now, as the kernel sees it: links are behind it.
Result<std::string> real_path_of(const UniqueFd& fd) {
    std::array<char, 4096> target{};
    const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
    const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
    if (length < 0) return Error::from_errno(errno, "reading " + link);
    return std::string(target.data(), static_cast<std::size_t>(length));
}

/// Another descriptor of the same file, with other flags.
UniqueFd reopen(const UniqueFd& fd, int flags) {
    const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
    return UniqueFd(::open(link.c_str(), flags | O_CLOEXEC));
}

bool is_inside(std::string_view path, std::string_view folder) {
    return folder == "/" ||
           (path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/');
}

class Collector {
public:
    Collector(std::string real_home, const FileSyncLimits& limits)
        : real_home_(std::move(real_home)), limits_(limits) {}

    Result<void> add(const FileSync& entry);
    SyncedFiles take();

private:
    Result<void> add_folder(const UniqueFd& folder, const struct stat& status,
                            const std::string& host, const std::string& guest, std::size_t depth);
    Result<void> add_part(int folder, const std::string& name, const std::string& host,
                          const std::string& guest, std::size_t depth);
    Result<void> add_file(const UniqueFd& file, const struct stat& status, std::uint32_t mode,
                          const std::string& host, const std::string& guest);
    Result<void> put(guest::GuestFile file);
    void warn(const std::string& host, const std::string& why) {
        warnings_.push_back("file_sync: " + host + " " + why);
    }
    [[nodiscard]] Error too_large(const std::string& host) const;

    std::string real_home_;
    FileSyncLimits limits_;
    std::size_t bytes_ = 0;
    /// By path in the guest: a folder sorts before what is in it.
    std::map<std::string, guest::GuestFile, std::less<>> files_;
    std::vector<std::string> warnings_;
};

Error Collector::too_large(const std::string& host) const {
    return {Errc::no_space,
            "[[file_sync]] takes more than " + ByteCount::bytes(limits_.bytes).text() + " or " +
                std::to_string(limits_.entries) + " files with " + host,
            "Name fewer files, or copy large ones later: banger vm cp FILE VM:/root/"};
}

Result<void> Collector::put(guest::GuestFile file) {
    const auto before = files_.find(file.path);
    if (before != files_.end()) bytes_ -= before->second.content.size();
    bytes_ += file.content.size();
    if (bytes_ > limits_.bytes || files_.size() >= limits_.entries) return too_large(file.path);
    files_.insert_or_assign(file.path, std::move(file));
    return ok();
}

Result<void> Collector::add(const FileSync& entry) {
    // O_PATH neither reads nor waits, and follows links: what it arrived at is looked at then.
    const UniqueFd found(::open(entry.host.c_str(), O_PATH | O_CLOEXEC));
    if (!found && (errno == ENOENT || errno == ENOTDIR)) {
        warn(entry.host, "is not there");
        return ok();
    }
    if (!found && errno == ELOOP) {
        warn(entry.host, "leads round in links");
        return ok();
    }
    if (!found) return Error::from_errno(errno, "file_sync: opening " + entry.host);
    const std::string real = BANGER_TRY(real_path_of(found));
    if (!is_inside(real, real_home_)) {
        warn(entry.host, "leads out of your home, to " + real + ", and is left out");
        return ok();
    }
    struct stat status {};
    if (::fstat(found.get(), &status) != 0)
        return Error::from_errno(errno, "looking at " + entry.host);
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {
        warn(entry.host, "is neither a file nor a folder, and is left out");
        return ok();
    }
    const UniqueFd opened = reopen(found, O_RDONLY | O_NONBLOCK);
    if (!opened) return Error::from_errno(errno, "file_sync: reading " + entry.host);
    if (S_ISDIR(status.st_mode)) return add_folder(opened, status, entry.host, entry.guest, 0);
    return add_file(opened, status, entry.mode.value_or(default_file_mode), entry.host,
                    entry.guest);
}

Result<void> Collector::add_folder(const UniqueFd& folder, const struct stat& status,
                                   const std::string& host, const std::string& guest,
                                   std::size_t depth) {
    if (depth > limits_.depth) {
        warn(host, "lies in too many folders, and is left out");
        return ok();
    }
    BANGER_TRY(put({.path = guest,
                    .mode = status.st_mode & permission_bits,
                    .content = {},
                    .is_folder = true}));
    UniqueFd listed(::openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const std::unique_ptr<DIR, CloseDir> stream(listed ? ::fdopendir(listed.get()) : nullptr);
    if (!stream) return Error::from_errno(errno, "listing " + host);
    static_cast<void>(listed.release());
    std::vector<std::string> names;
    for (errno = 0; const dirent* each = ::readdir(stream.get()); errno = 0) {
        const std::string_view name = each->d_name;
        if (name == "." || name == "..") continue;
        if (names.size() > limits_.entries) return too_large(host);
        names.emplace_back(name);
    }
    if (errno != 0) return Error::from_errno(errno, "listing " + host);
    // The same folder gives the same machine.
    std::ranges::sort(names);
    for (const std::string& name : names)
        BANGER_TRY(add_part(folder.get(), name, host + "/" + name, guest + "/" + name, depth));
    return ok();
}

Result<void> Collector::add_part(int folder, const std::string& name, const std::string& host,
                                 const std::string& guest, std::size_t depth) {
    // The name travels as JSON.
    if (guest::sanitised(name) != name) {
        warn(quoted(host), "has a name that is not plain UTF-8, and is left out");
        return ok();
    }
    const UniqueFd part(
        ::openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (!part) {
        if (errno == ENOENT) return ok();
        if (errno == ELOOP)
            warn(host, "is a link in a folder, and is left out");
        else if (errno == ENXIO || errno == ENODEV)
            warn(host, "is neither a file nor a folder, and is left out");
        else
            warn(host, "is left out: " + Error::from_errno(errno, "reading it").message);
        return ok();
    }
    struct stat status {};
    if (::fstat(part.get(), &status) != 0) return Error::from_errno(errno, "looking at " + host);
    if (S_ISDIR(status.st_mode)) return add_folder(part, status, host, guest, depth + 1);
    if (S_ISREG(status.st_mode))
        return add_file(part, status, status.st_mode & permission_bits, host, guest);
    warn(host, "is neither a file nor a folder, and is left out");
    return ok();
}

Result<void> Collector::add_file(const UniqueFd& file, const struct stat& status,
                                 std::uint32_t mode, const std::string& host,
                                 const std::string& guest) {
    const std::size_t left = limits_.bytes - bytes_;
    if (static_cast<std::uint64_t>(status.st_size) > left) return too_large(host);
    // It may grow while it is read.
    Result<std::string> content = read_all(file.get(), ByteCount::bytes(left));
    if (!content) return std::move(content).error().context("file_sync: reading " + host);
    return put({.path = guest, .mode = mode, .content = std::move(*content)});
}

SyncedFiles Collector::take() {
    SyncedFiles all;
    for (auto& [path, file] : files_)
        all.files.push_back(std::move(file));
    all.warnings = std::move(warnings_);
    return all;
}

}  // namespace

Result<SyncedFiles> collect_file_sync(const std::vector<FileSync>& entries, const std::string& home,
                                      const FileSyncLimits& limits) {
    if (entries.empty()) return SyncedFiles{};
    const UniqueFd folder(::open(home.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder) return Error::from_errno(errno, "file_sync: opening " + home);
    Collector collector(BANGER_TRY(real_path_of(folder)), limits);
    for (const FileSync& entry : entries)
        BANGER_TRY(collector.add(entry));
    return collector.take();
}

}  // namespace banger

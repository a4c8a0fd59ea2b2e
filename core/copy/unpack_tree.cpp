#include "core/copy/unpack_tree.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <string_view>

#include "banger/unique_fd.hpp"
#include "core/base/file.hpp"
#include "core/copy/tar_source.hpp"

namespace banger::copy {

namespace {

constexpr std::size_t max_path = 4000;
constexpr std::size_t max_name = 255;
constexpr std::size_t max_notes = 10;
/// Names of folders whose mode and time are set at the end.
constexpr std::size_t max_remembered = std::size_t{64} << 20;

using Components = std::vector<std::string>;

Error refused(const std::string& path, const std::string& why) {
    return {Errc::corrupt, "the guest sent \"" + path.substr(0, 200) + "\", " + why,
            "What was copied before it is there; do not trust this machine."};
}

Result<Components> components_of(const std::string& path) {
    if (path.empty() || path[0] == '/') return refused(path, "which is no relative name");
    if (path.size() > max_path) return refused(path, "a name that is too long");
    Components parts;
    for (std::size_t at = 0; at <= path.size();) {
        const std::size_t end = std::min(path.find('/', at), path.size());
        std::string part = path.substr(at, end - at);
        at = end + 1;
        if (part.empty() || part == ".") continue;
        if (part == "..") return refused(path, "which leads out of its folder");
        if (part.size() > max_name) return refused(path, "a name that is too long");
        parts.push_back(std::move(part));
    }
    return parts;
}

std::string joined(const Components& parts, std::size_t count) {
    std::string path;
    for (std::size_t i = 0; i < count; ++i)
        path += (i == 0 ? "" : "/") + parts[i];
    return path.empty() ? "." : path;
}

/// Whether a link in `folder` (components below the top, which counts) stays in the tree.
bool stays_inside(const Components& folder, const std::string& target) {
    if (target.empty() || target[0] == '/' || target.size() > max_path) return false;
    std::size_t depth = folder.size();
    for (std::size_t at = 0; at <= target.size();) {
        const std::size_t end = std::min(target.find('/', at), target.size());
        const std::string_view part = std::string_view(target).substr(at, end - at);
        at = end + 1;
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            if (depth == 0) return false;
            --depth;
        } else {
            ++depth;
        }
    }
    return true;
}

class Tree {
public:
    explicit Tree(const UnpackRequest& request) : request_(request), source_(request.stream) {}
    Result<Unpacked> make();

private:
    Result<void> take(const Entry& entry);
    Result<std::optional<Components>> place_of(const std::string& path);
    Result<int> parent_of(const Components& place);
    Result<UniqueFd> open_below(const std::string& path, std::uint64_t flags);
    Result<void> make_way(int parent, const std::string& name, const std::string& path);
    Result<void> make_folder(const Entry& entry, const Components& place);
    Result<void> make_file(const Entry& entry, const Components& place);
    Result<void> make_symlink(const Entry& entry, const Components& place);
    Result<void> make_hard_link(const Entry& entry, const Components& place);
    Result<void> finish_folders();
    void leave_out(const Entry& entry, const char* why);

    const UnpackRequest& request_;
    TarSource source_;
    Unpacked done_;
    std::string parent_path_;
    UniqueFd parent_;
    struct Folder {
        std::string path;
        std::uint32_t mode;
        std::int64_t modified;
    };
    std::vector<Folder> folders_;
    std::size_t remembered_ = 0;
};

Result<UniqueFd> Tree::open_below(const std::string& path, std::uint64_t flags) {
    open_how how{};
    how.flags = flags | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    for (;;) {
        UniqueFd fd(static_cast<int>(
            ::syscall(SYS_openat2, request_.folder, path.c_str(), &how, sizeof how)));
        if (fd) return fd;
        if (errno == EAGAIN || errno == EINTR) continue;  // somebody renames beside us
        const int error_number = errno;
        if (error_number == ELOOP || error_number == EXDEV)
            return refused(path, "which a symbolic link leads elsewhere");
        return Error::from_errno(error_number, "opening " + path);
    }
}

/// Its parts below the destination folder; none for the folder itself. Nothing at all for a top
/// entry that is the destination folder.
Result<std::optional<Components>> Tree::place_of(const std::string& path) {
    Components parts = BANGER_TRY(components_of(path));
    if (request_.from != ".") {
        if (parts.empty() || parts.front() != request_.from)
            return refused(path, "which was not asked for");
        parts.erase(parts.begin());
    }
    if (request_.to != ".") parts.insert(parts.begin(), request_.to);
    if (parts.empty()) return std::optional<Components>();
    return std::optional(std::move(parts));
}

/// The folder that it goes into. Kept from one entry to the next: they mostly share it.
Result<int> Tree::parent_of(const Components& place) {
    const std::string path = joined(place, place.size() - 1);
    if (parent_ && path == parent_path_) return parent_.get();
    parent_ = BANGER_TRY(open_below(path, O_PATH | O_DIRECTORY));
    parent_path_ = path;
    return parent_.get();
}

/// Takes away what has the name, unless that is a folder.
Result<void> Tree::make_way(int parent, const std::string& name, const std::string& path) {
    if (::unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return ok();
    if (errno == EISDIR || errno == EPERM)
        return Error(Errc::already_exists, path + " is a folder here",
                     "Take it away, or copy to another name.");
    return Error::from_errno(errno, "replacing " + path);
}

Result<void> Tree::make_folder(const Entry& entry, const Components& place) {
    const int parent = BANGER_TRY(parent_of(place));
    const std::string path = joined(place, place.size());
    if (::mkdirat(parent, place.back().c_str(), 0700) != 0) {
        if (errno != EEXIST) return Error::from_errno(errno, "making " + path);
        struct stat status {};
        if (::fstatat(parent, place.back().c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISDIR(status.st_mode))
            return Error(Errc::already_exists, path + " is no folder here",
                         "Take it away, or copy to another name.");
    }
    remembered_ += path.size() + sizeof(Folder);
    if (remembered_ > max_remembered) return refused(path, "one folder too many");
    folders_.push_back({path, entry.mode & 0777, entry.modified});
    return ok();
}

Result<void> set_time(int fd, std::int64_t modified) {
    const timespec times[2] = {{0, UTIME_OMIT}, {modified, 0}};
    // A time that this file system does not know is no reason to fail.
    (void)::futimens(fd, times);
    return ok();
}

Result<void> Tree::make_file(const Entry& entry, const Components& place) {
    const int parent = BANGER_TRY(parent_of(place));
    const std::string path = joined(place, place.size());
    if (entry.size > request_.limit.count() - done_.bytes)
        return refused(path, "more than its disks can hold");
    BANGER_TRY(make_way(parent, place.back(), path));
    const UniqueFd file(::openat(parent, place.back().c_str(),
                                 O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file) return Error::from_errno(errno, "making " + path);
    std::array<char, 65536> buffer;
    for (;;) {
        const std::size_t count = BANGER_TRY(source_.read(buffer.data(), buffer.size()));
        if (count == 0) break;
        BANGER_TRY(write_all(file.get(), {buffer.data(), count}).context("writing " + path));
        done_.bytes += count;
    }
    if (::fchmod(file.get(), entry.mode & 0777) != 0)
        return Error::from_errno(errno, "setting the mode of " + path);
    ++done_.files;
    return set_time(file.get(), entry.modified);
}

Result<void> Tree::make_symlink(const Entry& entry, const Components& place) {
    const Components top = {place.begin() + (request_.to == "." ? 0 : 1), place.end()};
    // A lone link at the top has no tree to stay in.
    const Components folder = top.empty() ? top : Components(top.begin(), top.end() - 1);
    if (top.empty() || !stays_inside(folder, entry.link_target)) {
        leave_out(entry, "a link that leads out of what is copied");
        return ok();
    }
    const int parent = BANGER_TRY(parent_of(place));
    const std::string path = joined(place, place.size());
    BANGER_TRY(make_way(parent, place.back(), path));
    if (::symlinkat(entry.link_target.c_str(), parent, place.back().c_str()) != 0)
        return Error::from_errno(errno, "making the link " + path);
    ++done_.files;
    return ok();
}

Result<void> Tree::make_hard_link(const Entry& entry, const Components& place) {
    const std::optional<Components> target = BANGER_TRY(place_of(entry.link_target));
    const std::string path = joined(place, place.size());
    if (!target || *target == place) return refused(path, "a link to itself");
    const UniqueFd from =
        BANGER_TRY(open_below(joined(*target, target->size() - 1), O_PATH | O_DIRECTORY));
    struct stat status {};
    if (::fstatat(from.get(), target->back().c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
        return refused(path, "a link to a file that is not there");
    if (!S_ISREG(status.st_mode)) return refused(path, "a link to what is no file");
    const int parent = BANGER_TRY(parent_of(place));
    BANGER_TRY(make_way(parent, place.back(), path));
    if (::linkat(from.get(), target->back().c_str(), parent, place.back().c_str(), 0) != 0)
        return Error::from_errno(errno, "making the link " + path);
    ++done_.files;
    return ok();
}

void Tree::leave_out(const Entry& entry, const char* why) {
    ++done_.left_out;
    if (done_.notes.size() < max_notes)
        done_.notes.push_back(entry.path.substr(0, 200) + " is left out: " + why);
}

Result<void> Tree::take(const Entry& entry) {
    const std::optional<Components> place = BANGER_TRY(place_of(entry.path));
    if (!place) {
        if (entry.type == Entry::Type::folder) return ok();
        return refused(entry.path, "which is no folder");
    }
    switch (entry.type) {
        case Entry::Type::folder:
            return make_folder(entry, *place);
        case Entry::Type::file:
            return make_file(entry, *place);
        case Entry::Type::symlink:
            return make_symlink(entry, *place);
        case Entry::Type::hard_link:
            return make_hard_link(entry, *place);
        case Entry::Type::other:
            leave_out(entry, "a device, a pipe or the like");
            return ok();
    }
    return ok();
}

/// From the inside out: a folder that may not be written any more still had to be filled.
Result<void> Tree::finish_folders() {
    for (std::size_t i = folders_.size(); i-- > 0;) {
        const UniqueFd fd = BANGER_TRY(open_below(folders_[i].path, O_RDONLY | O_DIRECTORY));
        BANGER_TRY(set_time(fd.get(), folders_[i].modified));
        if (::fchmod(fd.get(), folders_[i].mode) != 0)
            return Error::from_errno(errno, "setting the mode of " + folders_[i].path);
    }
    return ok();
}

Result<Unpacked> Tree::make() {
    Entry entry;
    std::uint64_t entries = 0;
    while (BANGER_TRY(source_.next(entry))) {
        if (++entries > request_.max_entries) return refused(entry.path, "one file too many");
        BANGER_TRY(take(entry));
    }
    if (entries == 0) return Error(Errc::not_found, "the guest sent nothing");
    BANGER_TRY(finish_folders());
    return std::move(done_);
}

}  // namespace

Result<Unpacked> unpack_tree(const UnpackRequest& request) { return Tree(request).make(); }

}  // namespace banger::copy

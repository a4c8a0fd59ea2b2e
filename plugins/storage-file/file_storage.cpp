#include "plugins/storage-file/file_storage.hpp"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <map>

#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/base/rollback.hpp"
#include "core/base/sparse_copy.hpp"
#include "plugins/storage-file/qcow2.hpp"

namespace banger {

namespace {

constexpr DiskFormat all_formats[] = {DiskFormat::raw, DiskFormat::qcow2};
constexpr char part_suffix[] = ".part";

std::string file_name(VolumeRole role, DiskFormat format) {
    return std::string(to_string(role)) + "." + std::string(to_string(format));
}

Error advised(Error error) {
    if (!error.remedy.empty()) return error;
    error.remedy = error.code == Errc::no_space
                       ? "Free some disk space, or delete machines and images you no longer need."
                       : "Look at the state folder's file system with `banger doctor`.";
    return error;
}

Error failure(int error_number, const std::string& what) {
    return advised(Error::from_errno(error_number, what));
}

Error cancelled() { return {Errc::cancelled, "cancelled"}; }

Error lost(const Volume& volume) {
    return {
        Errc::not_found,
        "the " + std::string(to_string(volume.role)) + " disk of " + volume.vm.str() + " is lost",
        "Delete the machine and create it again."};
}

Error has_it(const VmId& vm, VolumeRole role) {
    return {Errc::already_exists,
            "machine " + vm.str() + " has a " + std::string(to_string(role)) + " disk already",
            "Delete the machine first."};
}

Result<struct stat> status_of(int fd, const std::string& what) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return failure(errno, "looking at " + what);
    return status;
}

/// The path of an open file, when it still leads to that file: an overlay names its base by path.
std::optional<std::string> path_behind(int fd) {
    std::string path(PATH_MAX, '\0');
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    const ssize_t count = ::readlink(link.c_str(), path.data(), path.size());
    if (count <= 0) return std::nullopt;
    path.resize(static_cast<std::size_t>(count));
    struct stat by_path {};
    struct stat by_fd {};
    if (!path.starts_with('/') || ::stat(path.c_str(), &by_path) != 0 || ::fstat(fd, &by_fd) != 0 ||
        by_path.st_dev != by_fd.st_dev || by_path.st_ino != by_fd.st_ino)
        return std::nullopt;
    return path;
}

/// Shares the blocks (ioctl_ficlone(2)). False: this file system, or this pair of files, cannot.
bool try_reflink(int target, int source) { return ::ioctl(target, FICLONE, source) == 0; }

Result<void> set_size(int fd, ByteCount size) {
    if (::ftruncate(fd, static_cast<off_t>(size.count())) == 0) return ok();
    return failure(errno, "sizing the disk");
}

/// A file that becomes a volume when it is whole. Gone with this object unless publish() succeeded.
class PartFile {
public:
    static Result<PartFile> create(const std::string& folder, VolumeRole role) {
        PartFile part;
        part.folder_ = folder;
        part.path_ = folder + "/" + std::string(to_string(role)) + part_suffix;
        part.fd_.reset(
            ::open(part.path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!part.fd_) return failure(errno, "making " + part.path_);
        return part;
    }
    PartFile(PartFile&&) = default;
    PartFile& operator=(PartFile&&) = delete;
    PartFile(const PartFile&) = delete;
    PartFile& operator=(const PartFile&) = delete;
    ~PartFile() {
        if (fd_) (void)remove_file(path_);
    }
    [[nodiscard]] int fd() const { return fd_.get(); }
    /// On disk, with its final name.
    Result<void> publish(const std::string& path, std::uint32_t owner_uid) {
        if (owner_uid != ::geteuid() && ::fchown(fd_.get(), owner_uid, static_cast<gid_t>(-1)) != 0)
            return failure(errno, "giving the disk to uid " + std::to_string(owner_uid));
        if (::fsync(fd_.get()) != 0) return failure(errno, "writing " + path_);
        if (::rename(path_.c_str(), path.c_str()) != 0) return failure(errno, "renaming " + path_);
        fd_.reset();
        return sync_folder(folder_);
    }

private:
    PartFile() = default;
    UniqueFd fd_;
    std::string folder_;
    std::string path_;
};

/// Fills the new file the cheapest way there is and says in which format.
Result<DiskFormat> fill(const PartFile& part, const VolumeRequest& request, off_t base_size,
                        std::stop_token stop) {
    const auto reads = [&](DiskFormat format) {
        return std::ranges::find(request.formats, format) != request.formats.end();
    };
    if (reads(DiskFormat::raw) && try_reflink(part.fd(), request.base_fd)) {
        BANGER_TRY(set_size(part.fd(), request.size));
        return DiskFormat::raw;
    }
    if (reads(DiskFormat::qcow2)) {
        const std::optional<std::string> base = path_behind(request.base_fd);
        if (base) {
            const Result<void> written = qcow2::write_overlay(part.fd(), request.size, *base);
            if (!written) return advised(written.error());
            return DiskFormat::qcow2;
        }
    }
    if (!reads(DiskFormat::raw))
        return Error(Errc::unsupported,
                     "the base has no path that an overlay could name, and the back end wants one",
                     "Pull the image again, or choose another back end.");
    BANGER_TRY(set_size(part.fd(), request.size));
    const Result<void> copied =
        copy_sparse(request.base_fd, part.fd(), 0, base_size, std::move(stop));
    if (!copied) return advised(copied.error());
    return DiskFormat::raw;
}

Result<UniqueFd> open_volume(const std::string& path, int flags, const Volume& volume) {
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW));
    if (fd) return fd;
    if (errno == ENOENT || errno == ENOTDIR) return lost(volume);
    return failure(errno, "opening " + path);
}

/// The size that the guest sees; Errc::not_found when an overlay's base is gone.
Result<ByteCount> size_of(const UniqueFd& fd, const Volume& volume) {
    if (volume.format == DiskFormat::qcow2) {
        const qcow2::Header header = BANGER_TRY(qcow2::read_header(fd.get()));
        if (header.backing_file.empty() || path_exists(header.backing_file)) return header.size;
        return Error(Errc::not_found,
                     "the disk of " + volume.vm.str() + " was made from " + header.backing_file +
                         ", which is gone",
                     "Pull the image again under the same name, or delete the machine.");
    }
    const struct stat status = BANGER_TRY(status_of(fd.get(), volume.path));
    return ByteCount::bytes(static_cast<std::uint64_t>(status.st_size));
}

/// The bytes of the file that it shares with no other (FIEMAP); nothing when the file system cannot
/// tell.
std::optional<std::uint64_t> unshared_bytes(int fd) {
    constexpr std::uint32_t batch = 256;
    std::vector<std::uint64_t> memory((sizeof(fiemap) + batch * sizeof(fiemap_extent)) / 8);
    auto* const map = reinterpret_cast<fiemap*>(memory.data());
    std::uint64_t bytes = 0;
    for (std::uint64_t from = 0;;) {
        std::memset(memory.data(), 0, sizeof(fiemap));
        map->fm_start = from;
        map->fm_length = FIEMAP_MAX_OFFSET - from;
        map->fm_extent_count = batch;
        if (::ioctl(fd, FS_IOC_FIEMAP, map) != 0) return std::nullopt;
        if (map->fm_mapped_extents == 0) return bytes;
        for (std::uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
            const fiemap_extent& extent = map->fm_extents[i];
            if ((extent.fe_flags & FIEMAP_EXTENT_SHARED) == 0) bytes += extent.fe_length;
            if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) return bytes;
            from = extent.fe_logical + extent.fe_length;
        }
    }
}

/// Two unnamed files, and a reflink between them: nothing is left whatever happens.
bool can_reflink(const std::string& folder) {
    const UniqueFd one(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    const UniqueFd two(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    return one && two && ::ftruncate(one.get(), 4096) == 0 && try_reflink(two.get(), one.get());
}

}  // namespace

std::string FileStorage::folder_of(const VmId& vm) const {
    return host_.state_folder() + "/" + vm.str();
}

std::string FileStorage::path_of(const VmId& vm, VolumeRole role, DiskFormat format) const {
    return folder_of(vm) + "/" + file_name(role, format);
}

bool FileStorage::has_volume(const VmId& vm, VolumeRole role) const {
    return std::ranges::any_of(
        all_formats, [&](DiskFormat format) { return path_exists(path_of(vm, role, format)); });
}

Result<Volume> FileStorage::create(const VolumeRequest& request, std::stop_token stop) {
    if (stop.stop_requested()) return cancelled();
    if (has_volume(request.vm, request.role)) return has_it(request.vm, request.role);
    const struct stat base = BANGER_TRY(status_of(request.base_fd, "the disk's base"));
    if (!S_ISREG(base.st_mode))
        return Error(Errc::invalid_argument, "the disk's base is not a file",
                     "Register the image from a plain file.");
    if (request.size.count() < static_cast<std::uint64_t>(base.st_size))
        return Error(Errc::invalid_argument,
                     "a disk of " + request.size.text() + " is smaller than its image",
                     "Ask for a larger --disk-size.");

    const std::string folder = folder_of(request.vm);
    Rollback rollback([this](const Error& error) { host_.log(LogLevel::warning, error.text()); });
    // Fails, rightly, while the other disk is in it.
    rollback.add("removing " + folder, [&] { return (void)::rmdir(folder.c_str()), ok(); });
    BANGER_TRY(ensure_folder(folder, 0700));
    PartFile part = BANGER_TRY(PartFile::create(folder, request.role));
    const DiskFormat format = BANGER_TRY(fill(part, request, base.st_size, std::move(stop)));
    const std::string path = path_of(request.vm, request.role, format);
    BANGER_TRY(part.publish(path, request.owner_uid));
    rollback.commit();
    return Volume{request.vm, request.role, path, format, request.size};
}

Result<Volume> FileStorage::activate(const Volume& volume, const UniqueFd&, std::stop_token stop) {
    if (stop.stop_requested()) return cancelled();
    const std::string path = path_of(volume.vm, volume.role, volume.format);
    const UniqueFd fd = BANGER_TRY(open_volume(path, O_RDONLY, volume));
    // Not inside the braces: g++ 12 leaks the members already made when BANGER_TRY returns there.
    const ByteCount size = BANGER_TRY(size_of(fd, volume));
    return Volume{volume.vm, volume.role, path, volume.format, size};
}

Result<void> FileStorage::deactivate(const VmId&) {
    return ok();  // a file costs nothing while nobody has it open
}

Result<Volume> FileStorage::resize(const Volume& volume, ByteCount size, std::stop_token stop) {
    if (stop.stop_requested()) return cancelled();
    const std::string path = path_of(volume.vm, volume.role, volume.format);
    const UniqueFd fd = BANGER_TRY(open_volume(path, O_RDWR, volume));
    const ByteCount present = BANGER_TRY(size_of(fd, volume));
    if (size < present)
        return Error(Errc::invalid_argument,
                     "a disk only grows: it has " + present.text() + ", more than " + size.text(),
                     "Ask for a larger size.");
    if (size != present)
        BANGER_TRY(volume.format == DiskFormat::qcow2 ? qcow2::grow(fd.get(), size)
                                                      : set_size(fd.get(), size));
    return Volume{volume.vm, volume.role, path, volume.format, size};
}

Result<VolumeUsage> FileStorage::usage(const Volume& volume) {
    const std::string path = path_of(volume.vm, volume.role, volume.format);
    const UniqueFd fd = BANGER_TRY(open_volume(path, O_RDONLY, volume));
    const struct stat status = BANGER_TRY(status_of(fd.get(), path));
    constexpr std::uint64_t bytes_per_block = 512;  // of st_blocks, on any file system: stat(3)
    const std::uint64_t blocks = static_cast<std::uint64_t>(status.st_blocks) * bytes_per_block;
    // An overlay shares nothing; a reflink may share all.
    const std::optional<std::uint64_t> unshared =
        volume.format == DiskFormat::raw ? unshared_bytes(fd.get()) : std::nullopt;
    const ByteCount size = BANGER_TRY(size_of(fd, volume));
    return VolumeUsage{size, ByteCount::bytes(std::min(blocks, unshared.value_or(blocks))),
                       std::nullopt};
}

Result<void> FileStorage::remove(const VmId& vm) { return remove_tree(folder_of(vm)); }

Result<std::vector<VmId>> FileStorage::recover(std::span<const Volume> remembered) {
    std::map<VmId, std::vector<std::string>> expected;
    std::vector<VmId> gone;
    for (const Volume& volume : remembered) {
        expected[volume.vm].push_back(file_name(volume.role, volume.format));
        const Result<Volume> there = activate(volume, {}, {});
        if (there) continue;
        host_.log(LogLevel::warning, there.error().text());
        if (std::ranges::find(gone, volume.vm) == gone.end()) gone.push_back(volume.vm);
    }
    ErrorCollector errors;
    for (const std::string& name : BANGER_TRY(list_folder(host_.state_folder()))) {
        const Result<VmId> vm = VmId::parse(name);
        if (!vm) continue;
        const auto known = expected.find(*vm);
        if (known == expected.end()) {
            errors.add(remove(*vm));
            continue;
        }
        // Files of a create() that did not end, or of which core never heard the end.
        for (const std::string& file : BANGER_TRY(list_folder(folder_of(*vm))))
            if (std::ranges::find(known->second, file) == known->second.end())
                errors.add(remove_file(folder_of(*vm) + "/" + file));
    }
    BANGER_TRY(errors.result());
    return gone;
}

Result<Volume> FileStorage::clone(const Volume& source, const VmId& target, std::stop_token stop) {
    if (stop.stop_requested()) return cancelled();
    const UniqueFd from =
        BANGER_TRY(open_volume(path_of(source.vm, source.role, source.format), O_RDONLY, source));
    if (has_volume(target, source.role)) return has_it(target, source.role);
    const struct stat status = BANGER_TRY(status_of(from.get(), source.path));
    const ByteCount size = BANGER_TRY(size_of(from, source));

    const std::string folder = folder_of(target);
    Rollback rollback([this](const Error& error) { host_.log(LogLevel::warning, error.text()); });
    rollback.add("removing " + folder, [&] { return (void)::rmdir(folder.c_str()), ok(); });
    BANGER_TRY(ensure_folder(folder, 0700));
    PartFile part = BANGER_TRY(PartFile::create(folder, source.role));
    if (!try_reflink(part.fd(), from.get())) {
        if (::ftruncate(part.fd(), status.st_size) != 0) return failure(errno, "sizing the disk");
        const Result<void> copied =
            copy_sparse(from.get(), part.fd(), 0, status.st_size, std::move(stop));
        if (!copied) return advised(copied.error());
    }
    const std::string path = path_of(target, source.role, source.format);
    BANGER_TRY(part.publish(path, status.st_uid));
    rollback.commit();
    return Volume{target, source.role, path, source.format, size};
}

std::vector<Check> FileStorage::checks(std::stop_token) {
    constexpr ByteCount little = ByteCount::gib(4);
    const std::string& folder = host_.state_folder();
    std::vector<Check> rows;
    struct statvfs space {};
    if (::statvfs(folder.c_str(), &space) != 0) {
        const Error error = failure(errno, folder);
        rows.push_back({"disk space", CheckStatus::fail, error.message, error.remedy});
        return rows;
    }
    const ByteCount free = ByteCount::bytes(std::uint64_t{space.f_bavail} * space.f_frsize);
    const std::string detail = free.text() + " free in " + folder;
    if (free < little)
        rows.push_back({"disk space", CheckStatus::warn, detail,
                        "Free some, or delete machines and images you no longer need."});
    else
        rows.push_back({"disk space", CheckStatus::pass, detail, {}});
    rows.push_back({"disks",
                    CheckStatus::pass,
                    can_reflink(folder)
                        ? "made by reflink"
                        : "made as qcow2 overlays: this file system has no reflinks",
                    {}});
    return rows;
}

}  // namespace banger

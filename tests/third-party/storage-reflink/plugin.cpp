#include <banger/plugin.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>

namespace {

using namespace banger;

constexpr VolumeRole all_roles[] = {VolumeRole::root, VolumeRole::work};

Error cancelled() { return {Errc::cancelled, "cancelled"}; }

Error failure(const std::string& what) {
    Error error = Error::from_errno(errno, what);
    if (error.remedy.empty()) error.remedy = "Look at the plugin's state folder.";
    return error;
}

/// Gone with this object unless keep() was called: a disk that is being made.
class Part {
public:
    explicit Part(std::string path)
        : path_(std::move(path)),
          fd_(::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600)) {}
    ~Part() {
        if (!path_.empty()) ::unlink(path_.c_str());
    }
    Part(const Part&) = delete;
    Part& operator=(const Part&) = delete;
    [[nodiscard]] const UniqueFd& fd() const { return fd_; }
    /// On disk, under its own name, and the VMM's.
    Result<void> keep(const std::string& name, std::uint32_t owner_uid) {
        const gid_t same_group = static_cast<gid_t>(-1);
        if (owner_uid != ::geteuid() && ::fchown(fd_.get(), owner_uid, same_group) != 0)
            return failure("giving the disk to uid " + std::to_string(owner_uid));
        if (::fsync(fd_.get()) != 0) return failure("writing " + path_);
        if (::rename(path_.c_str(), name.c_str()) != 0) return failure("renaming " + path_);
        path_.clear();
        return ok();
    }

private:
    std::string path_;
    UniqueFd fd_;
};

/// The data of `source` up to `size`, hole by hole, so that the copy is as sparse.
Result<void> copy(int source, int target, off_t size, const std::stop_token& stop) {
    constexpr off_t step = off_t{16} << 20;
    for (off_t at = 0; at < size;) {
        if (stop.stop_requested()) return cancelled();
        const off_t data = ::lseek(source, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) return ok();  // a hole up to the end
        if (data < 0) return failure("looking for data in the disk's base");
        const off_t hole = ::lseek(source, data, SEEK_HOLE);
        at = data;
        while (at < std::min(hole, size)) {
            if (stop.stop_requested()) return cancelled();
            off_t in = at;
            off_t out = at;
            const std::size_t want =
                static_cast<std::size_t>(std::min({hole, size, at + step}) - at);
            const ssize_t count = ::copy_file_range(source, &in, target, &out, want, 0);
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) return failure("copying the disk's base");
            if (count == 0)
                return Error(Errc::corrupt, "the disk's base became shorter", "Pull it again.");
            at += count;
        }
    }
    return ok();
}

/// Bytes that no other file shares (FIEMAP); nothing when the file system cannot tell.
std::optional<std::uint64_t> own_bytes(int fd) {
    constexpr std::size_t batch = 128;
    std::vector<std::uint64_t> memory((sizeof(fiemap) + batch * sizeof(fiemap_extent)) / 8);
    auto* const map = reinterpret_cast<fiemap*>(memory.data());
    std::uint64_t bytes = 0;
    for (std::uint64_t from = 0;;) {
        std::memset(map, 0, sizeof *map);
        map->fm_start = from;
        map->fm_length = FIEMAP_MAX_OFFSET - from;
        map->fm_extent_count = batch;
        if (::ioctl(fd, FS_IOC_FIEMAP, map) != 0) return std::nullopt;
        if (map->fm_mapped_extents == 0) return bytes;
        for (std::size_t i = 0; i < map->fm_mapped_extents; ++i) {
            const fiemap_extent& extent = map->fm_extents[i];
            if ((extent.fe_flags & FIEMAP_EXTENT_SHARED) == 0) bytes += extent.fe_length;
            if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) return bytes;
            from = extent.fe_logical + extent.fe_length;
        }
    }
}

/// Disks as files VMID-ROLE.raw of the state folder, reflinks of their base where that works. The
/// files are all there is to know, so a new instance knows what the old one knew.
class ReflinkStorage final : public Storage, private StorageCloning {
public:
    ReflinkStorage(Host& host, bool may_copy) : folder_(host.state_folder()), may_copy_(may_copy) {}

    Result<Volume> create(const VolumeRequest& request, std::stop_token stop) override {
        if (stop.stop_requested()) return cancelled();
        if (std::ranges::count(request.formats, DiskFormat::raw) == 0)
            return Error(Errc::unsupported, "the back end opens no raw disks",
                         "Choose another storage plugin for it.");
        struct stat base {};
        if (::fstat(request.base_fd, &base) != 0) return failure("looking at the disk's base");
        if (request.size.count() < static_cast<std::uint64_t>(base.st_size))
            return Error(Errc::invalid_argument,
                         "a disk of " + request.size.text() + " is smaller than its image",
                         "Ask for a larger --disk-size.");
        BANGER_TRY(
            make(request.vm, request.role, request.base_fd, request.size, request.owner_uid, stop));
        return volume(request.vm, request.role, request.size);
    }

    Result<Volume> activate(const Volume& wanted, const UniqueFd&, std::stop_token stop) override {
        if (stop.stop_requested()) return cancelled();
        const UniqueFd fd = BANGER_TRY(open_disk(wanted, O_RDONLY));
        const ByteCount size = BANGER_TRY(size_of(fd));
        return volume(wanted.vm, wanted.role, size);
    }

    Result<void> deactivate(const VmId&) override { return ok(); }

    Result<Volume> resize(const Volume& wanted, ByteCount size, std::stop_token stop) override {
        if (stop.stop_requested()) return cancelled();
        const UniqueFd fd = BANGER_TRY(open_disk(wanted, O_RDWR));
        const ByteCount present = BANGER_TRY(size_of(fd));
        if (size < present)
            return Error(Errc::invalid_argument, "a disk only grows: it has " + present.text(),
                         "Ask for a larger size.");
        if (::ftruncate(fd.get(), static_cast<off_t>(size.count())) != 0)
            return failure("growing the disk");
        return volume(wanted.vm, wanted.role, size);
    }

    Result<VolumeUsage> usage(const Volume& wanted) override {
        const UniqueFd fd = BANGER_TRY(open_disk(wanted, O_RDONLY));
        struct stat status {};
        if (::fstat(fd.get(), &status) != 0) return failure("looking at the disk");
        const std::uint64_t blocks = static_cast<std::uint64_t>(status.st_blocks) * 512;
        const std::uint64_t own = std::min(blocks, own_bytes(fd.get()).value_or(blocks));
        const ByteCount size = BANGER_TRY(size_of(fd));
        return VolumeUsage{size, ByteCount::bytes(own), std::nullopt};
    }

    Result<void> remove(const VmId& vm) override {
        Result<void> result = ok();
        for (const VolumeRole role : all_roles)
            for (const char* suffix : {"", ".part"}) {
                const std::string path = path_of(vm, role) + suffix;
                if (::unlink(path.c_str()) != 0 && errno != ENOENT)
                    result = failure("removing " + path);
            }
        return result;
    }

    Result<std::vector<VmId>> recover(std::span<const Volume> remembered) override {
        std::set<std::string> known;
        std::set<VmId> lost;
        for (const Volume& wanted : remembered) {
            known.insert(path_of(wanted.vm, wanted.role));
            if (!open_disk(wanted, O_RDONLY)) lost.insert(wanted.vm);
        }
        // Disks that core never heard of, and those whose making was cut off.
        for (const std::string& path : BANGER_TRY(files()))
            if (!known.contains(path) && ::unlink(path.c_str()) != 0 && errno != ENOENT)
                return failure("removing " + path);
        return std::vector<VmId>(lost.begin(), lost.end());
    }

    StorageCloning* cloning() override { return this; }

    std::vector<Check> checks(std::stop_token) override {
        const UniqueFd one(::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
        const UniqueFd two(::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
        if (one && two && ::ftruncate(one.get(), 4096) == 0 &&
            ::ioctl(two.get(), FICLONE, one.get()) == 0)
            return {{"reflinks", CheckStatus::pass, "disks share the blocks of their image", ""}};
        return {{"reflinks", may_copy_ ? CheckStatus::warn : CheckStatus::fail,
                 "the file system of " + folder_ + " has none" +
                     (may_copy_ ? ": disks are copies" : ""),
                 "Put the state folder on btrfs or XFS, or choose another storage plugin."}};
    }

private:
    Result<Volume> clone(const Volume& source, const VmId& target, std::stop_token stop) override {
        if (stop.stop_requested()) return cancelled();
        const UniqueFd fd = BANGER_TRY(open_disk(source, O_RDONLY));
        struct stat status {};
        if (::fstat(fd.get(), &status) != 0) return failure("looking at the disk");
        const ByteCount size = BANGER_TRY(size_of(fd));
        BANGER_TRY(make(target, source.role, fd.get(), size, status.st_uid, stop));
        return volume(target, source.role, size);
    }

    [[nodiscard]] std::string path_of(const VmId& vm, VolumeRole role) const {
        return folder_ + "/" + vm.str() + "-" + std::string(to_string(role)) + ".raw";
    }
    [[nodiscard]] Volume volume(const VmId& vm, VolumeRole role, ByteCount size) const {
        return {vm, role, path_of(vm, role), DiskFormat::raw, size};
    }

    Result<void> make(const VmId& vm, VolumeRole role, int source, ByteCount size,
                      std::uint32_t owner_uid, const std::stop_token& stop) {
        const std::string path = path_of(vm, role);
        if (::access(path.c_str(), F_OK) == 0)
            return Error(
                Errc::already_exists,
                "machine " + vm.str() + " has a " + std::string(to_string(role)) + " disk already",
                "Delete the machine first.");
        Part part(path + ".part");
        if (!part.fd()) return failure("making " + path + ".part");
        BANGER_TRY(fill(part.fd().get(), source, stop));
        if (::ftruncate(part.fd().get(), static_cast<off_t>(size.count())) != 0)
            return failure("sizing the disk");
        return part.keep(path, owner_uid);
    }

    Result<void> fill(int target, int source, const std::stop_token& stop) const {
        if (::ioctl(target, FICLONE, source) == 0) return ok();
        const bool cannot = errno == EOPNOTSUPP || errno == EXDEV || errno == ENOTTY ||
                            errno == EINVAL || errno == ENOSYS;
        if (!cannot) return failure("sharing the blocks of the disk's base");
        if (!may_copy_)
            return Error(Errc::unsupported, "the file system of " + folder_ + " has no reflinks",
                         "Put image store and state folder on one btrfs or XFS, or set "
                         "plugin.storage-reflink.without_reflinks to \"copy\".");
        struct stat status {};
        if (::fstat(source, &status) != 0) return failure("looking at the disk's base");
        return copy(source, target, status.st_size, stop);
    }

    [[nodiscard]] Result<UniqueFd> open_disk(const Volume& wanted, int flags) const {
        // Not wanted.path, which came back to us from outside.
        const std::string path = path_of(wanted.vm, wanted.role);
        UniqueFd fd(::open(path.c_str(), flags | O_NOFOLLOW | O_CLOEXEC));
        if (fd) return fd;
        if (errno != ENOENT) return failure("opening " + path);
        return Error(Errc::not_found, path + " is gone", "Delete the machine and create it again.");
    }

    static Result<ByteCount> size_of(const UniqueFd& fd) {
        struct stat status {};
        if (::fstat(fd.get(), &status) != 0) return failure("looking at the disk");
        return ByteCount::bytes(static_cast<std::uint64_t>(status.st_size));
    }

    /// Every file of ours, whole or not.
    [[nodiscard]] Result<std::vector<std::string>> files() const {
        const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(folder_.c_str()), &::closedir);
        if (!folder) return failure("opening " + folder_);
        std::vector<std::string> paths;
        while (const dirent* entry = ::readdir(folder.get())) {
            const std::string name = entry->d_name;
            if (name.ends_with(".raw") || name.ends_with(".raw.part"))
                paths.push_back(folder_ + "/" + name);
        }
        return paths;
    }

    const std::string folder_;
    const bool may_copy_;
};

class ReflinkPlugin final : public Plugin {
public:
    ReflinkPlugin(Host& host, bool may_copy) : storage_(host, may_copy) {}
    Roles roles() override {
        Roles roles;
        roles.storage = &storage_;
        return roles;
    }

private:
    ReflinkStorage storage_;
};

Result<std::unique_ptr<Plugin>> make(Host& host) {
    const bool may_copy = std::get<std::string>(host.settings().at("without_reflinks")) == "copy";
    return std::unique_ptr<Plugin>(std::make_unique<ReflinkPlugin>(host, may_copy));
}

}  // namespace

BANGER_PLUGIN("storage-reflink", make);

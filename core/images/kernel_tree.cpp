#include "core/images/kernel_tree.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "core/images/ext4_image.hpp"
#include "core/images/initramfs.hpp"
#include "core/images/kernel.hpp"
#include "core/images/modules.hpp"
#include "core/images/unpack.hpp"

namespace banger::images {

namespace {

constexpr std::size_t max_kernel_image = 256U << 20;
constexpr std::size_t max_modules_dep = 16U << 20;
constexpr std::size_t max_module = 64U << 20;
constexpr std::uint64_t max_tree = std::uint64_t{4} << 30;

/// Modules that init loads when the condition holds, in the order of these rows. The conditions are
/// init's: daemons/vsock-agent/init_modules.cpp. Device numbers: virtio 1.2, section 5.
struct ModuleGroup {
    std::string_view condition;
    std::vector<std::string_view> names;
};

const std::vector<ModuleGroup>& module_groups() {
    static const std::vector<ModuleGroup> groups{
        {"pci", {"virtio_pci"}},
        {"mmio", {"virtio_mmio"}},
        // Before the first mount, which keeps the checksum driver it finds for as long as it lasts.
        {"always", {"crc32c_intel", "ext4"}},
        {"virtio:2", {"virtio_blk"}},
        {"virtio:3", {"virtio_console"}},
        {"virtio:19", {"vmw_vsock_virtio_transport"}},
        {"virtio:1", {"virtio_net"}},
        {"virtio:4", {"virtio_rng"}},
    };
    return groups;
}

using ArchiveReader = std::unique_ptr<archive, decltype(&archive_read_free)>;
using ArchiveWriter = std::unique_ptr<archive, decltype(&archive_write_free)>;

Error archive_error(archive* handle) {
    const char* why = archive_error_string(handle);
    const int number = archive_errno(handle);
    if (number == ENOSPC || number == EDQUOT || number == EFBIG)
        return Error::from_errno(number, "writing the kernel's modules");
    return {Errc::corrupt, std::string("the kernel tree is damaged: ") + (why ? why : "unknown")};
}

/// What libarchive reads from: a descriptor, with a stop request that ends a wait.
struct Source {
    int fd;
    std::stop_token stop;
    std::vector<char> buffer = std::vector<char>(256U << 10);
    std::optional<Error> error;
};

la_ssize_t read_source(archive* handle, void* context, const void** block) {
    auto& source = *static_cast<Source*>(context);
    while (true) {
        const Result<int> ready =
            poll_fd(source.fd, POLLIN, std::chrono::milliseconds(-1), source.stop);
        if (!ready) {
            source.error = ready.error();
            archive_set_error(handle, ECANCELED, "%s", "stopped");
            return -1;
        }
        const ssize_t count = read(source.fd, source.buffer.data(), source.buffer.size());
        *block = source.buffer.data();
        if (count >= 0) return count;
        if (errno == EINTR || errno == EAGAIN) continue;
        source.error = Error::from_errno(errno, "reading the kernel tree");
        archive_set_error(handle, EIO, "%s", "read failed");
        return -1;
    }
}

Result<std::string> read_content(archive* reader, std::size_t limit) {
    std::string content;
    std::array<char, 65536> block{};
    while (true) {
        const la_ssize_t count = archive_read_data(reader, block.data(), block.size());
        if (count < 0) return archive_error(reader);
        if (count == 0) return content;
        if (static_cast<std::size_t>(count) > limit - content.size())
            return Error(Errc::corrupt, "a file of the kernel tree is too large");
        content.append(block.data(), static_cast<std::size_t>(count));
    }
}

/// "./usr/lib/modules/6.1/x" → "usr/lib/modules/6.1/x".
std::string_view plain(std::string_view path) {
    while (path.starts_with("./") || path.starts_with("/"))
        path.remove_prefix(path.front() == '/' ? 1 : 2);
    while (path.ends_with('/'))
        path.remove_suffix(1);
    return path;
}

/// The rest of `path` below `folder`, or nothing.
std::optional<std::string_view> below(std::string_view path, std::string_view folder) {
    if (!path.starts_with(folder) || path.size() == folder.size()) return std::nullopt;
    return path.substr(folder.size());
}

/// Takes what matters out of the foreign tar: the kernel into memory, the modules into a plain tar
/// of our own, in which VERSION/ lies at the root.
class TreeReader {
public:
    TreeReader(const UniqueFd& tar, const UniqueFd& spool, std::stop_token stop)
        : source_{tar.get(), std::move(stop), std::vector<char>(256U << 10), std::nullopt},
          spool_fd_(spool.get()) {}

    Result<void> read() {
        Result<void> done = read_entries();
        if (!done && source_.error) return *source_.error;
        return done;
    }

    /// The one version that has a kernel and modules.
    Result<std::string> version() const {
        if (kernel_image.empty())
            return Error(Errc::corrupt, "the kernel tree holds no boot/vmlinuz-VERSION");
        if (!modules_dep_.contains(kernel_version_))
            return Error(Errc::corrupt,
                         "the kernel tree holds no lib/modules/" + kernel_version_ + "/modules.dep",
                         "Run 'depmod -b TREE " + kernel_version_ + "' before packing the tree.");
        return kernel_version_;
    }
    const std::string& modules_dep() const { return modules_dep_.at(kernel_version_); }

    std::string kernel_image;

private:
    Result<void> read_entries() {
        const ArchiveReader reader(archive_read_new(), archive_read_free);
        archive* const in = reader.get();
        archive_read_support_format_tar(in);
        archive_read_support_filter_gzip(in);
        archive_read_support_filter_zstd(in);
        archive_read_support_filter_xz(in);
        const ArchiveWriter writer(archive_write_new(), archive_write_free);
        archive* const out = writer.get();
        archive_write_set_format_pax_restricted(out);
        archive_write_add_filter_none(out);
        if (archive_write_open_fd(out, spool_fd_) != ARCHIVE_OK) return archive_error(out);
        if (archive_read_open(in, &source_, nullptr, read_source, nullptr) != ARCHIVE_OK)
            return archive_error(in);
        archive_entry* entry = nullptr;
        while (true) {
            const int status = archive_read_next_header(in, &entry);
            if (status == ARCHIVE_EOF) break;
            if (status != ARCHIVE_OK && status != ARCHIVE_WARN) return archive_error(in);
            BANGER_TRY(take(in, entry, out));
        }
        if (archive_write_close(out) != ARCHIVE_OK) return archive_error(out);
        return {};
    }

    Result<void> take(archive* in, archive_entry* entry, archive* out) {
        const char* raw = archive_entry_pathname(entry);
        if (raw == nullptr)
            return Error(Errc::corrupt, "the kernel tree has an entry without name");
        const std::string path(plain(raw));
        const bool is_file = archive_entry_filetype(entry) == AE_IFREG;
        if (const auto name = below(path, "boot/vmlinuz-"); name && is_file)
            return take_kernel(in, *name);
        std::optional<std::string_view> module = below(path, "lib/modules/");
        if (!module) module = below(path, "usr/lib/modules/");
        if (module && is_file) return take_module(in, entry, out, std::string(*module));
        return {};
    }

    Result<void> take_kernel(archive* in, std::string_view version) {
        if (!kernel_image.empty())
            return Error(Errc::corrupt, "the kernel tree holds more than one kernel");
        kernel_version_ = version;
        kernel_image = BANGER_TRY(read_content(in, max_kernel_image));
        return {};
    }

    Result<void> take_module(archive* in, archive_entry* entry, archive* out,
                             const std::string& path) {
        if (archive_entry_hardlink(entry) != nullptr)
            return Error(Errc::corrupt, "the kernel tree has a hard link: " + path);
        total_ += static_cast<std::uint64_t>(std::max<la_int64_t>(archive_entry_size(entry), 0));
        if (total_ > max_tree) return Error(Errc::corrupt, "the kernel tree is over 4 GiB");
        const std::string content = BANGER_TRY(read_content(in, max_module));
        if (const std::size_t slash = path.find('/');
            slash != std::string::npos && path.substr(slash) == "/modules.dep") {
            if (content.size() > max_modules_dep)
                return Error(Errc::corrupt, "modules.dep is too large");
            modules_dep_[path.substr(0, slash)] = content;
        }
        return write_file(out, path, content);
    }

    /// Owner, mode and time are the same whoever packed the tree, so that the image is, too.
    static Result<void> write_file(archive* out, const std::string& path,
                                   const std::string& content) {
        const std::unique_ptr<archive_entry, decltype(&archive_entry_free)> entry(
            archive_entry_new(), archive_entry_free);
        archive_entry_set_pathname(entry.get(), path.c_str());
        archive_entry_set_filetype(entry.get(), AE_IFREG);
        archive_entry_set_perm(entry.get(), 0644);
        archive_entry_set_mtime(entry.get(), 0, 0);
        archive_entry_set_size(entry.get(), static_cast<la_int64_t>(content.size()));
        if (archive_write_header(out, entry.get()) != ARCHIVE_OK) return archive_error(out);
        for (std::size_t at = 0; at < content.size();) {
            const la_ssize_t count =
                archive_write_data(out, content.data() + at, content.size() - at);
            if (count <= 0) return archive_error(out);
            at += static_cast<std::size_t>(count);
        }
        return {};
    }

    Source source_;
    int spool_fd_;
    std::string kernel_version_;
    std::map<std::string, std::string, std::less<>> modules_dep_;  ///< by version
    std::uint64_t total_ = 0;
};

Result<void> rewind(const UniqueFd& spool) {
    if (lseek(spool.get(), 0, SEEK_SET) < 0)
        return Error::from_errno(errno, "rewinding the kernel's modules");
    return {};
}

/// The content of each of `paths`, unpacked, from the tar that TreeReader wrote.
Result<std::map<std::string, std::string>> pick_modules(const UniqueFd& spool,
                                                        const std::set<std::string>& paths) {
    BANGER_TRY(rewind(spool));
    const ArchiveReader reader(archive_read_new(), archive_read_free);
    archive_read_support_format_tar(reader.get());
    if (archive_read_open_fd(reader.get(), spool.get(), 1U << 20) != ARCHIVE_OK)
        return archive_error(reader.get());
    std::map<std::string, std::string> modules;
    archive_entry* entry = nullptr;
    int status = ARCHIVE_OK;
    while ((status = archive_read_next_header(reader.get(), &entry)) == ARCHIVE_OK) {
        const std::string path = archive_entry_pathname(entry);
        if (!paths.contains(path)) continue;
        std::string content = BANGER_TRY(read_content(reader.get(), max_module));
        if (!path.ends_with(".ko"))
            content = BANGER_TRY(unpack(content, max_module).context("unpacking " + path));
        modules[path] = std::move(content);
    }
    if (status != ARCHIVE_EOF) return archive_error(reader.get());
    for (const std::string& path : paths) {
        if (!modules.contains(path))
            return Error(Errc::corrupt, "modules.dep lists " + path + ", which is not there");
    }
    return modules;
}

/// The base archive: /modules/*.ko and /modules/list with lines "CONDITION FILE".
Result<std::string> build_initramfs(const UniqueFd& spool, const std::string& version,
                                    const ModuleDependencies& dependencies) {
    std::string list;
    std::set<std::string> paths;
    for (const ModuleGroup& group : module_groups()) {
        for (const std::string& path : BANGER_TRY(dependencies.load_order(group.names))) {
            paths.insert(version + "/" + path);
            list += std::string(group.condition) + " " + module_name(path) + ".ko\n";
        }
    }
    CpioWriter cpio;
    BANGER_TRY(cpio.add_file("modules/list", 0644, list));
    for (const auto& [path, content] : BANGER_TRY(pick_modules(spool, paths)))
        BANGER_TRY(cpio.add_file("modules/" + module_name(path) + ".ko", 0644, content));
    return std::move(cpio).finish();
}

Result<UniqueFd> make_file(const UniqueFd& folder, const char* name) {
    UniqueFd file(
        openat(folder.get(), name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!file) return Error::from_errno(errno, std::string("making ") + name);
    return file;
}

Result<void> sync_file(const UniqueFd& file, const char* name) {
    if (fsync(file.get()) != 0) return Error::from_errno(errno, std::string("writing ") + name);
    return {};
}

Result<ByteCount> write_file(const UniqueFd& folder, const char* name, std::string_view content) {
    const UniqueFd file = BANGER_TRY(make_file(folder, name));
    BANGER_TRY(write_all(file.get(), content).context(std::string("writing ") + name));
    BANGER_TRY(sync_file(file, name));
    return ByteCount::bytes(content.size());
}

Result<ByteCount> write_modules_image(const UniqueFd& folder, const UniqueFd& spool,
                                      std::stop_token stop) {
    constexpr const char* name = "modules.ext4";
    BANGER_TRY(rewind(spool));
    const UniqueFd image = BANGER_TRY(make_file(folder, name));
    Ext4Options options;
    options.label = "banger-modules";
    options.headroom_percent = 105;  // it is never written to
    std::array<UniqueFd, 1> layers{spool.duplicate()};
    const Ext4Summary summary =
        BANGER_TRY(write_ext4_from_layers(layers, image, options, std::move(stop)));
    BANGER_TRY(sync_file(image, name));
    return summary.size;
}

}  // namespace

Result<KernelFiles> import_kernel_tree(const UniqueFd& tar, const UniqueFd& folder,
                                       std::stop_token stop) {
    const UniqueFd spool = BANGER_TRY(make_file(folder, "modules.tar"));
    unlinkat(folder.get(), "modules.tar", 0);  // O_TMPFILE is not on every file system

    TreeReader tree(tar, spool, stop);
    BANGER_TRY(tree.read());
    KernelFiles files;
    files.version = BANGER_TRY(tree.version());
    const ModuleDependencies dependencies =
        BANGER_TRY(ModuleDependencies::parse(tree.modules_dep()));
    if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");

    const std::string vmlinux = BANGER_TRY(extract_vmlinux(std::exchange(tree.kernel_image, {})));
    files.pvh = has_pvh_entry(vmlinux);
    files.vmlinux_size = BANGER_TRY(write_file(folder, "vmlinux", vmlinux));
    const std::string initramfs = BANGER_TRY(build_initramfs(spool, files.version, dependencies));
    files.initramfs_size = BANGER_TRY(write_file(folder, "initramfs.img", initramfs));
    files.modules_size = BANGER_TRY(write_modules_image(folder, spool, stop));
    return files;
}

}  // namespace banger::images

#include "core/images/kernel_tree.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
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
#include "core/images/module_index.hpp"
#include "core/images/modules.hpp"
#include "core/images/unpack.hpp"

namespace banger::images {

namespace {

constexpr std::size_t max_kernel_image = 256U << 20;
constexpr std::size_t max_modules_dep = 16U << 20;
constexpr std::size_t max_module = 64U << 20;
constexpr std::uint64_t max_tree = std::uint64_t{4} << 30;
constexpr std::size_t max_modules = 50'000;
constexpr std::size_t max_initrd = 200U << 20;
constexpr int max_folder_depth = 32;

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
    std::optional<Error> error = {};
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

/// "lib/modules/6.1/x" and "usr/lib/modules/6.1/x" → "6.1/x".
std::optional<std::string_view> below_modules(std::string_view path) {
    const std::optional<std::string_view> module = below(path, "lib/modules/");
    return module ? module : below(path, "usr/lib/modules/");
}

/// A plain tar of our own. Owner, mode and time are the same whoever packed the files, so that the
/// image is, too.
class SpoolTar {
public:
    explicit SpoolTar(const UniqueFd& file)
        : writer_(archive_write_new(), archive_write_free), fd_(file.get()) {}

    Result<void> open() {
        archive_write_set_format_pax_restricted(writer_.get());
        archive_write_add_filter_none(writer_.get());
        if (archive_write_open_fd(writer_.get(), fd_) != ARCHIVE_OK)
            return archive_error(writer_.get());
        return {};
    }
    Result<void> add(const std::string& path, std::string_view content) {
        archive* const out = writer_.get();
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
    Result<void> add_folder(const std::string& path) {
        const std::unique_ptr<archive_entry, decltype(&archive_entry_free)> entry(
            archive_entry_new(), archive_entry_free);
        archive_entry_set_pathname(entry.get(), path.c_str());
        archive_entry_set_filetype(entry.get(), AE_IFDIR);
        archive_entry_set_perm(entry.get(), 0755);
        archive_entry_set_mtime(entry.get(), 0, 0);
        if (archive_write_header(writer_.get(), entry.get()) != ARCHIVE_OK)
            return archive_error(writer_.get());
        return {};
    }
    Result<void> close() {
        if (archive_write_close(writer_.get()) != ARCHIVE_OK) return archive_error(writer_.get());
        return {};
    }

private:
    ArchiveWriter writer_;
    int fd_;
};

/// What matters of a foreign tree: the kernel in memory, the modules in a spool, in which VERSION/
/// lies at the root.
class KernelSpool {
public:
    explicit KernelSpool(const UniqueFd& file) : tar_(file) {}
    Result<void> open() { return tar_.open(); }
    Result<void> close() { return tar_.close(); }

    /// How long the file of that path may be; nothing: it does not matter.
    static std::optional<std::size_t> limit_of(std::string_view path) {
        if (below(path, "boot/vmlinuz-")) return max_kernel_image;
        if (below_modules(path)) return max_module;
        return std::nullopt;
    }
    /// A file that matters.
    Result<void> take(std::string_view path, std::string content) {
        if (const auto version = below(path, "boot/vmlinuz-"))
            return take_kernel(*version, std::move(content));
        return take_module(std::string(*below_modules(path)), content);
    }
    Result<void> take_kernel(std::string_view version, std::string image) {
        if (!kernel_image.empty())
            return Error(Errc::corrupt, "the kernel tree holds more than one kernel",
                         "Give a tree with one boot/vmlinuz-VERSION.");
        kernel_version_ = version;
        kernel_image = std::move(image);
        return {};
    }
    /// `path` begins with the version.
    Result<void> take_module(const std::string& path, const std::string& content) {
        total_ += content.size();
        if (total_ > max_tree) return Error(Errc::corrupt, "the kernel tree is over 4 GiB");
        const std::size_t slash = path.find('/');
        const std::string version = path.substr(0, slash);
        const std::string_view rest =
            slash == path.npos ? std::string_view() : std::string_view(path).substr(slash + 1);
        if (rest == "modules.dep") {
            if (content.size() > max_modules_dep)
                return Error(Errc::corrupt, "modules.dep is too large");
            modules_dep_[version] = content;
        }
        if (rest == "modules.builtin") builtin_[version] = content;
        if (rest == "modules.order") order_[version] = content;
        if (is_module(rest)) has_modules_.insert(version);
        return tar_.add(path, content);
    }
    /// For a kernel that brings none.
    Result<void> add_empty_folder() { return tar_.add_folder(kernel_version_); }

    static bool is_module(std::string_view path) {
        return path.ends_with(".ko") || path.find(".ko.") != path.npos;
    }

    /// The one version that has a kernel, and modules unless it `may_lack` them.
    Result<std::string> version(bool may_lack) const {
        if (kernel_image.empty())
            return Error(Errc::corrupt, "the kernel tree holds no boot/vmlinuz-VERSION");
        if (!may_lack && !modules_dep_.contains(kernel_version_) &&
            !has_modules_.contains(kernel_version_))
            return Error(Errc::corrupt,
                         "the kernel tree holds no modules in lib/modules/" + kernel_version_,
                         "Pack both, as `make modules_install` and a Debian package do.");
        return kernel_version_;
    }
    /// What depmod wrote, or nothing when it never ran.
    std::optional<std::string> modules_dep() const { return of_version(modules_dep_); }
    std::string builtin() const { return of_version(builtin_).value_or(""); }
    std::string order() const { return of_version(order_).value_or(""); }

    std::string kernel_image;

private:
    using ByVersion = std::map<std::string, std::string, std::less<>>;
    std::optional<std::string> of_version(const ByVersion& texts) const {
        const auto found = texts.find(kernel_version_);
        return found == texts.end() ? std::nullopt : std::optional(found->second);
    }

    SpoolTar tar_;
    std::string kernel_version_;
    ByVersion modules_dep_;
    ByVersion builtin_;
    ByVersion order_;
    std::set<std::string, std::less<>> has_modules_;
    std::uint64_t total_ = 0;
};

Result<void> take_entry(archive* in, archive_entry* entry, KernelSpool& spool) {
    const char* raw = archive_entry_pathname(entry);
    if (raw == nullptr) return Error(Errc::corrupt, "the kernel tree has an entry without name");
    const std::string path(plain(raw));
    const std::optional<std::size_t> limit = KernelSpool::limit_of(path);
    if (!limit || archive_entry_filetype(entry) != AE_IFREG) return {};
    if (archive_entry_hardlink(entry) != nullptr)
        return Error(Errc::corrupt, "the kernel tree has a hard link: " + path);
    return spool.take(path, BANGER_TRY(read_content(in, *limit)));
}

/// Every entry of the tar that `in` has been given.
Result<void> take_entries(archive* in, KernelSpool& spool, const std::stop_token& stop) {
    archive_entry* entry = nullptr;
    while (true) {
        if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
        const int status = archive_read_next_header(in, &entry);
        if (status == ARCHIVE_EOF) return {};
        if (status != ARCHIVE_OK && status != ARCHIVE_WARN) return archive_error(in);
        BANGER_TRY(take_entry(in, entry, spool));
    }
}

void support_tar(archive* in) {
    archive_read_support_format_tar(in);
    archive_read_support_filter_gzip(in);
    archive_read_support_filter_zstd(in);
    archive_read_support_filter_xz(in);
}

Result<void> read_tar(const UniqueFd& tar, KernelSpool& spool, const std::stop_token& stop) {
    const ArchiveReader reader(archive_read_new(), archive_read_free);
    Source source{tar.get(), stop};
    support_tar(reader.get());
    if (archive_read_open(reader.get(), &source, nullptr, read_source, nullptr) != ARCHIVE_OK)
        return source.error ? *source.error : archive_error(reader.get());
    Result<void> done = take_entries(reader.get(), spool, stop);
    if (!done && source.error) return *source.error;
    return done;
}

// ---- Debian packages ---------------------------------------------------------------------------

/// A tar inside another archive.
struct Member {
    archive* outer;
    std::vector<char> buffer = std::vector<char>(256U << 10);
};

la_ssize_t read_member(archive* handle, void* context, const void** block) {
    auto& member = *static_cast<Member*>(context);
    const la_ssize_t count =
        archive_read_data(member.outer, member.buffer.data(), member.buffer.size());
    *block = member.buffer.data();
    if (count < 0) archive_set_error(handle, EIO, "%s", "the package is cut off");
    return count;
}

/// deb(5): an ar archive of debian-binary, control.tar.* and data.tar.*.
Result<void> read_package(const UniqueFd& package, KernelSpool& spool,
                          const std::stop_token& stop) {
    const ArchiveReader reader(archive_read_new(), archive_read_free);
    archive* const ar = reader.get();
    Source source{package.get(), stop};
    archive_read_support_format_ar(ar);
    if (archive_read_open(ar, &source, nullptr, read_source, nullptr) != ARCHIVE_OK)
        return source.error ? *source.error : archive_error(ar);
    archive_entry* entry = nullptr;
    while (true) {
        const int status = archive_read_next_header(ar, &entry);
        if (status == ARCHIVE_EOF)
            return Error(Errc::corrupt, "the Debian package has no data.tar",
                         "Fetch the package again.");
        if (status != ARCHIVE_OK && status != ARCHIVE_WARN)
            return source.error ? *source.error : archive_error(ar);
        const char* name = archive_entry_pathname(entry);
        if (name == nullptr || !std::string_view(name).starts_with("data.tar")) continue;
        const ArchiveReader inner(archive_read_new(), archive_read_free);
        Member member{ar};
        support_tar(inner.get());
        if (archive_read_open(inner.get(), &member, nullptr, read_member, nullptr) != ARCHIVE_OK)
            return source.error ? *source.error : archive_error(inner.get());
        Result<void> done = take_entries(inner.get(), spool, stop);
        if (!done && source.error) return *source.error;
        return done;
    }
}

// ---- folders -----------------------------------------------------------------------------------

Result<std::string> read_file_at(const UniqueFd& folder, const std::string& name,
                                 std::size_t limit) {
    const UniqueFd file(
        openat(folder.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!file) return Error::from_errno(errno, "open " + name);
    return read_all(file.get(), ByteCount::bytes(limit));
}

UniqueFd open_folder_at(const UniqueFd& folder, const char* name) {
    return UniqueFd(openat(folder.get(), name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
}

/// Every file below, as `path` and its name; links are left out (`build` and `source` lead away).
Result<void> walk(const UniqueFd& folder, const std::string& path, int depth,
                  const std::stop_token& stop,
                  const std::function<Result<void>(const UniqueFd& folder, const std::string& path,
                                                   const std::string& name)>& on_file) {
    if (depth > max_folder_depth) return Error(Errc::corrupt, "the kernel tree is too deep");
    std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(folder.duplicate().release()), closedir);
    if (!listing) return Error::from_errno(errno, "listing " + path);
    std::vector<std::pair<std::string, bool>> names;  // and whether it is a folder
    while (const dirent* entry = readdir(listing.get())) {
        const std::string name = entry->d_name;
        struct stat status {};
        if (name == "." || name == ".." ||
            fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))
            names.emplace_back(name, S_ISDIR(status.st_mode));
    }
    std::ranges::sort(names);
    for (const auto& [name, is_folder] : names) {
        if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
        if (!is_folder) {
            BANGER_TRY(on_file(folder, path + name, name));
            continue;
        }
        const UniqueFd inner = open_folder_at(folder, name.c_str());
        if (!inner) return Error::from_errno(errno, "open " + path + name);
        BANGER_TRY(walk(inner, path + name + "/", depth + 1, stop, on_file));
    }
    return {};
}

Result<void> read_folder(const UniqueFd& tree, KernelSpool& spool, const std::stop_token& stop) {
    const auto take = [&](const UniqueFd& folder, const std::string& path,
                          const std::string& name) -> Result<void> {
        const std::optional<std::size_t> limit = KernelSpool::limit_of(path);
        if (!limit) return {};
        return spool.take(path, BANGER_TRY(read_file_at(folder, name, *limit)));
    };
    if (const UniqueFd boot = open_folder_at(tree, "boot"))
        BANGER_TRY(walk(boot, "boot/", 0, stop, take));
    for (const std::string path : {"lib/modules/", "usr/lib/modules/"}) {
        UniqueFd folder = tree.duplicate();
        // Each step by itself: in a merged tree /lib is a link to usr/lib, and is not taken twice.
        for (std::size_t at = 0; folder && at < path.size(); at = path.find('/', at) + 1)
            folder = open_folder_at(folder, path.substr(at, path.find('/', at) - at).c_str());
        if (folder) BANGER_TRY(walk(folder, path, 0, stop, take));
    }
    return {};
}

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

Result<ByteCount> write_modules_image(const UniqueFd& folder, std::span<const UniqueFd> layers,
                                      std::stop_token stop) {
    constexpr const char* name = "modules.ext4";
    for (const UniqueFd& layer : layers)
        BANGER_TRY(rewind(layer));
    const UniqueFd image = BANGER_TRY(make_file(folder, name));
    Ext4Options options;
    options.label = "banger-modules";
    options.headroom_percent = 105;  // it is never written to
    const Ext4Summary summary =
        BANGER_TRY(write_ext4_from_layers(layers, image, options, std::move(stop)));
    BANGER_TRY(sync_file(image, name));
    return summary.size;
}

/// A file that is gone when it is closed, in the folder of the results: O_TMPFILE is not on every
/// file system.
Result<UniqueFd> make_spool(const UniqueFd& folder) {
    UniqueFd file = BANGER_TRY(make_file(folder, "modules.tar"));
    unlinkat(folder.get(), "modules.tar", 0);
    return file;
}

/// What every module in the spool says about itself, in the order of modules.order.
Result<std::vector<ModuleInfo>> read_modules(const UniqueFd& spool, const std::string& version,
                                             const std::string& order,
                                             const std::stop_token& stop) {
    BANGER_TRY(rewind(spool));
    const ArchiveReader reader(archive_read_new(), archive_read_free);
    archive_read_support_format_tar(reader.get());
    if (archive_read_open_fd(reader.get(), spool.get(), 1U << 20) != ARCHIVE_OK)
        return archive_error(reader.get());
    std::vector<ModuleInfo> modules;
    archive_entry* entry = nullptr;
    int status = ARCHIVE_OK;
    while ((status = archive_read_next_header(reader.get(), &entry)) == ARCHIVE_OK) {
        if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
        const std::string path = archive_entry_pathname(entry);
        const std::optional<std::string_view> inside = below(path, version + "/");
        if (!inside || !KernelSpool::is_module(*inside)) continue;
        std::string content = BANGER_TRY(read_content(reader.get(), max_module));
        if (!path.ends_with(".ko"))
            content = BANGER_TRY(unpack(content, max_module).context("unpacking " + path));
        modules.push_back(BANGER_TRY(read_module_info(std::string(*inside), content)));
        if (modules.size() > max_modules)
            return Error(Errc::corrupt, "the kernel tree has too many modules");
    }
    if (status != ARCHIVE_EOF) return archive_error(reader.get());

    std::map<std::string, std::size_t, std::less<>> place;
    for (std::size_t at = 0; at < order.size();) {
        const std::size_t end = std::min(order.find('\n', at), order.size());
        place.emplace(module_name(std::string_view(order).substr(at, end - at)), place.size());
        at = end + 1;
    }
    const auto key = [&](const ModuleInfo& module) {
        const auto found = place.find(module_name(module.path));
        return std::pair(found == place.end() ? place.size() : found->second, module.path);
    };
    std::ranges::sort(modules, {}, key);
    return modules;
}

/// From the spool to the files that a kernel is in the store.
Result<KernelFiles> finish(KernelSpool& spool, const UniqueFd& spool_file, const UniqueFd& folder,
                           bool may_lack_modules, const std::string& initrd,
                           const std::stop_token& stop) {
    BANGER_TRY(spool.close());
    KernelFiles files;
    files.version = BANGER_TRY(spool.version(may_lack_modules));
    std::vector<UniqueFd> layers;
    layers.push_back(spool_file.duplicate());
    std::optional<std::string> modules_dep = spool.modules_dep();
    if (!modules_dep) {
        const std::vector<ModuleInfo> modules =
            BANGER_TRY(read_modules(spool_file, files.version, spool.order(), stop));
        const std::map<std::string, std::string> indexes =
            BANGER_TRY(make_module_indexes(modules, spool.builtin()));
        layers.push_back(BANGER_TRY(make_spool(folder)));
        SpoolTar tar(layers.back());
        BANGER_TRY(tar.open());
        for (const auto& [name, content] : indexes)
            BANGER_TRY(tar.add(files.version + "/" + name, content));
        BANGER_TRY(tar.close());
        modules_dep = indexes.at("modules.dep");
    }
    const ModuleDependencies dependencies = BANGER_TRY(ModuleDependencies::parse(*modules_dep));
    if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");

    const std::string vmlinux = BANGER_TRY(extract_vmlinux(std::exchange(spool.kernel_image, {})));
    files.pvh = has_pvh_entry(vmlinux);
    files.vmlinux_size = BANGER_TRY(write_file(folder, "vmlinux", vmlinux));
    std::string initramfs = initrd;
    initramfs.append((4 - initramfs.size() % 4) % 4, '\0');
    initramfs += BANGER_TRY(build_initramfs(spool_file, files.version, dependencies));
    files.initramfs_size = BANGER_TRY(write_file(folder, "initramfs.img", initramfs));
    files.modules_size = BANGER_TRY(write_modules_image(folder, layers, stop));
    return files;
}

using Read = std::function<Result<void>(KernelSpool& spool)>;

Result<KernelFiles> import_with(const Read& read, const UniqueFd& folder, bool may_lack_modules,
                                const std::string& initrd, const std::stop_token& stop) {
    const UniqueFd file = BANGER_TRY(make_spool(folder));
    KernelSpool spool(file);
    BANGER_TRY(spool.open());
    BANGER_TRY(read(spool));
    return finish(spool, file, folder, may_lack_modules, initrd, stop);
}

}  // namespace

Result<KernelFiles> import_kernel_tree(const UniqueFd& tar, const UniqueFd& folder,
                                       std::stop_token stop) {
    return import_with([&](KernelSpool& spool) { return read_tar(tar, spool, stop); }, folder,
                       false, {}, stop);
}

Result<KernelFiles> import_kernel_package(const UniqueFd& package, const UniqueFd& folder,
                                          std::stop_token stop) {
    return import_with([&](KernelSpool& spool) { return read_package(package, spool, stop); },
                       folder, false, {}, stop);
}

Result<KernelFiles> import_kernel_folder(const UniqueFd& tree, const UniqueFd& folder,
                                         std::stop_token stop) {
    return import_with([&](KernelSpool& spool) { return read_folder(tree, spool, stop); }, folder,
                       false, {}, stop);
}

Result<KernelFiles> import_kernel_files(const KernelParts& parts, const UniqueFd& folder,
                                        std::stop_token stop) {
    std::string image =
        BANGER_TRY(read_all(parts.kernel.get(), ByteCount::bytes(max_kernel_image)));
    std::optional<std::string> version = kernel_version(image);
    if (!version)
        return Error(Errc::corrupt, "the kernel does not tell its version",
                     "Give a bzImage or an unpacked vmlinux of Linux for x86-64.");
    std::string initrd;
    if (parts.initrd)
        initrd = BANGER_TRY(read_all(parts.initrd.get(), ByteCount::bytes(max_initrd)));
    const auto read = [&](KernelSpool& spool) -> Result<void> {
        BANGER_TRY(spool.take_kernel(*version, std::move(image)));
        if (!parts.modules) return spool.add_empty_folder();
        return walk(parts.modules, *version + "/", 0, stop,
                    [&](const UniqueFd& inner, const std::string& path,
                        const std::string& name) -> Result<void> {
                        return spool.take_module(path,
                                                 BANGER_TRY(read_file_at(inner, name, max_module)));
                    });
    };
    return import_with(read, folder, !parts.modules, initrd, stop);
}

}  // namespace banger::images

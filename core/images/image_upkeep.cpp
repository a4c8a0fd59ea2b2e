#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <set>

#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/base/rollback.hpp"
#include "core/base/sparse_copy.hpp"
#include "core/images/artifact_files.hpp"
#include "core/images/ext4_superblock.hpp"
#include "core/images/image_store.hpp"

/// The part of ImageStore that is about the user's own files, and about room.
namespace banger {

namespace {

/// A disk's size is a whole number of these, whoever makes it.
constexpr std::uint64_t disk_block = 4096;
/// Copied between two reports.
constexpr off_t copy_step = off_t{64} << 20;

/// A file of the user's, with the path that leads to it without links.
struct OwnFile {
    UniqueFd fd;
    std::string path;
    struct stat status {};
};

Result<OwnFile> open_own(const std::string& path, bool is_folder) {
    if (!path.starts_with('/'))
        return Error(Errc::invalid_argument, quoted(path) + " is not an absolute path",
                     "Give the whole path.");
    const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                           std::free);
    const int number = errno;
    OwnFile file;
    if (real) {
        file.path = real.get();
        file.fd.reset(::open(real.get(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK |
                                             (is_folder ? O_DIRECTORY : 0)));
    }
    if (!file.fd) {
        Error error = Error::from_errno(real ? errno : number, path);
        error.remedy =
            "It has to exist and be readable for bangerd, which as a system service has a /tmp of "
            "its own: put it below your home.";
        return error;
    }
    if (::fstat(file.fd.get(), &file.status) != 0) return Error::from_errno(errno, "stat " + path);
    return file;
}

/// An ext4 that a machine's disk can stand on.
Result<OwnFile> open_own_ext4(const std::string& path) {
    OwnFile file = BANGER_TRY(open_own(path, false));
    BANGER_TRY(images::examine_ext4(file.fd).context("looking at " + path));
    if (static_cast<std::uint64_t>(file.status.st_size) % disk_block != 0)
        return Error(Errc::invalid_argument,
                     path + " has " + std::to_string(file.status.st_size) +
                         " bytes, no whole number of 4 KiB blocks",
                     "Make it longer: truncate -s %4096 " + path);
    return file;
}

bool is_package(const UniqueFd& file) {
    constexpr std::string_view magic = "!<arch>\n";
    std::array<char, magic.size()> head{};
    return ::pread(file.get(), head.data(), head.size(), 0) == ssize_t{head.size()} &&
           std::string_view(head.data(), head.size()) == magic;
}

Result<images::KernelFiles> import_tree(const std::string& path, const UniqueFd& folder,
                                        std::stop_token stop) {
    struct stat status {};
    const bool is_folder = ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
    const OwnFile tree = BANGER_TRY(open_own(path, is_folder));
    if (is_folder) return images::import_kernel_folder(tree.fd, folder, std::move(stop));
    if (is_package(tree.fd)) return images::import_kernel_package(tree.fd, folder, std::move(stop));
    return images::import_kernel_tree(tree.fd, folder, std::move(stop));
}

Result<images::KernelFiles> import_files(const KernelOrigin& origin, const UniqueFd& folder,
                                         std::stop_token stop) {
    images::KernelParts parts;
    parts.kernel = std::move(BANGER_TRY(open_own(origin.kernel, false)).fd);
    if (!origin.initrd.empty())
        parts.initrd = std::move(BANGER_TRY(open_own(origin.initrd, false)).fd);
    if (!origin.modules.empty())
        parts.modules = std::move(BANGER_TRY(open_own(origin.modules, true)).fd);
    return images::import_kernel_files(parts, folder, std::move(stop));
}

/// What the files of one folder take.
ByteCount taken_by(const std::string& folder) {
    std::uint64_t blocks = 0;
    for (const std::string& name : list_folder(folder).value_or({})) {
        struct stat status {};
        if (::lstat((folder + "/" + name).c_str(), &status) == 0)
            blocks += static_cast<std::uint64_t>(status.st_blocks);
    }
    return ByteCount::bytes(blocks * 512);
}

/// The copy, with progress. Holes stay holes; blocks are shared where the file system can.
Result<void> copy_with_progress(const UniqueFd& source, const UniqueFd& target, off_t size,
                                const std::string& stage, Call& call) {
    // A step at a time, so that there is something to report between them.
    for (off_t at = 0; at < size; at += copy_step) {
        call.report({stage, static_cast<std::uint64_t>(at), static_cast<std::uint64_t>(size),
                     Progress::Unit::bytes});
        BANGER_TRY(copy_sparse_range(source.get(), target.get(), at, std::min(copy_step, size - at),
                                     call.stop()));
    }
    if (::ftruncate(target.get(), size) != 0) return Error::from_errno(errno, "ftruncate");
    return ok();
}

}  // namespace

std::string_view to_string(DiskUse::Kind kind) {
    switch (kind) {
        case DiskUse::Kind::image:
            return "image";
        case DiskUse::Kind::kernel:
            return "kernel";
        case DiskUse::Kind::blob:
            return "blob";
        case DiskUse::Kind::empty_disk:
            return "empty disk";
    }
    return "image";
}

// ---- the user's own files ----------------------------------------------------------------------

Result<void> ImageStore::check_is_free(ArtifactKind kind, const ArtifactName& name) {
    const std::string word(to_string(kind));
    bool is_taken = false;
    if (kind == ArtifactKind::image)
        for (const ImageRecord& image : BANGER_TRY(store_.images()))
            is_taken = is_taken || image.name == name;
    else
        for (const KernelRecord& kernel : BANGER_TRY(store_.kernels()))
            is_taken = is_taken || kernel.name == name;
    if (!is_taken) return ok();
    return Error(
        Errc::already_exists, "the " + word + " " + quoted(name.str()) + " exists",
        "Choose another name, or delete it with `banger " + word + " delete " + name.str() + "`.");
}

Result<std::string> ImageStore::known_kernel(const std::string& kernel, Call& call) {
    if (kernel.empty()) return std::string();
    Result<KernelRecord> here = store_.find_kernel(kernel);
    if (here) return here->name.str();
    if (here.error().code != Errc::not_found) return here.error();
    BANGER_TRY(resolve(ArtifactKind::kernel, kernel, call));
    return kernel;
}

Result<ImageRecord> ImageStore::register_image(const ImageRegistration& registration, Call& call) {
    const ArtifactName& name = registration.name;
    const KeyedLock::Guard turn =
        BANGER_TRY(locks_.acquire("image name " + name.str(), call.stop()));
    BANGER_TRY(check_is_free(ArtifactKind::image, name));
    const OwnFile file = BANGER_TRY(open_own_ext4(registration.root_file_system));
    std::string kernel = BANGER_TRY(known_kernel(registration.kernel_reference, call));

    Rollback rollback({});
    if (registration.kernel) {
        const KernelRecord own = BANGER_TRY(import_kernel(name, *registration.kernel, call));
        rollback.add("removing kernel " + name.str(), [&]() -> Result<void> {
            BANGER_TRY(remove_kernel(name.str()));
            return ok();
        });
        kernel = own.name.str();
    }
    const ImageRecord record{
        .id = new_artifact_id(),
        .name = name,
        .reference = std::string(own_file_prefix) + file.path,
        .architecture = "amd64",
        .description = "registered from " + file.path,
        .provenance = "the owner's own file",
        .kernel_reference = kernel,
        .size = ByteCount::bytes(static_cast<std::uint64_t>(file.status.st_size)),
        .created_at = time_now(),
        .state = ArtifactState::ready,
        .file = RegisteredFile{file.path, changed_at(file.status)}};
    BANGER_TRY(store_.add_image(record));
    rollback.commit();
    return record;
}

Result<ImageRecord> ImageStore::promote_image(const std::string& name, Call& call) {
    ImageRecord image = BANGER_TRY(store_.find_image(name));
    const KeyedLock::Guard turn =
        BANGER_TRY(locks_.acquire("image name " + image.name.str(), call.stop()));
    image = BANGER_TRY(store_.find_image(image.id));
    if (!image.file) return image;
    // Their disks name the file they stand on.
    const std::vector<std::string> users = BANGER_TRY(store_.machines_using_image(image.id));
    if (!users.empty()) return artifact_in_use(ArtifactKind::image, users);
    const UniqueFd source = BANGER_TRY(open_root_file_system(image));

    const std::string final_folder = places_.images + "/" + image.id;
    const std::string partial = final_folder + std::string(partial_suffix);
    Rollback rollback({});
    rollback.add("removing " + partial, [&] { return remove_tree(partial); });
    rollback.add("removing " + final_folder, [&] { return remove_tree(final_folder); });
    BANGER_TRY(remove_tree(final_folder));
    BANGER_TRY(ensure_folder(partial, 0700));
    const std::string path = partial + "/" + std::string(root_file_system);
    const UniqueFd copy(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!copy) return Error::from_errno(errno, "open " + path);
    BANGER_TRY(copy_with_progress(source, copy, static_cast<off_t>(image.size.count()),
                                  "copying " + image.file->path, call));
    // Changed under the copy: it may be half of each.
    BANGER_TRY(open_root_file_system(image));
    BANGER_TRY(publish(copy, partial, final_folder));
    image.description = "copied from " + image.file->path;
    image.file.reset();
    BANGER_TRY(store_.save_image(image));
    rollback.commit();
    return image;
}

Result<ImageRecord> ImageStore::set_kernel(const std::string& name, const std::string& kernel,
                                           Call& call) {
    ImageRecord image = BANGER_TRY(store_.find_image(name));
    const KeyedLock::Guard turn =
        BANGER_TRY(locks_.acquire("image name " + image.name.str(), call.stop()));
    image = BANGER_TRY(store_.find_image(image.id));
    image.kernel_reference = BANGER_TRY(known_kernel(kernel, call));
    BANGER_TRY(store_.save_image(image));
    return image;
}

Result<KernelRecord> ImageStore::import_kernel(const ArtifactName& name, const KernelOrigin& origin,
                                               Call& call) {
    const KeyedLock::Guard turn =
        BANGER_TRY(locks_.acquire("kernel name " + name.str(), call.stop()));
    BANGER_TRY(check_is_free(ArtifactKind::kernel, name));
    const std::string& path = origin.tree.empty() ? origin.kernel : origin.tree;
    call.report({"importing " + path, 0, 0, Progress::Unit::none});
    const auto fill = [&](const UniqueFd& folder) -> Result<images::KernelFiles> {
        return (origin.tree.empty() ? import_files(origin, folder, call.stop())
                                    : import_tree(origin.tree, folder, call.stop()))
            .context("importing " + path);
    };
    return make_kernel({.id = new_artifact_id(),
                        .name = name,
                        .reference = std::string(own_file_prefix) + path,
                        .architecture = "amd64",
                        .description = "imported from " + path,
                        .provenance = "the owner's own files"},
                       std::nullopt, fill);
}

// ---- room --------------------------------------------------------------------------------------

Result<std::vector<CachedBlob>> ImageStore::prune_blobs(bool all, bool is_dry) {
    std::set<Digest> needed;
    for (const ImageRecord& image : BANGER_TRY(store_.images()))
        for (const PartRecord& part : image.parts)
            needed.insert(part.digest);
    std::vector<CachedBlob> gone;
    ErrorCollector errors;
    for (const CachedBlob& blob : BANGER_TRY(blobs_.list())) {
        if (!all && blob.is_complete && needed.contains(blob.digest)) continue;
        if (!is_dry) {
            const Result<void> removed = blobs_.remove(blob.digest);
            if (!removed && removed.error().code == Errc::busy) continue;  // it is being fetched
            errors.add(removed);
            if (!removed) continue;
        }
        gone.push_back(blob);
    }
    BANGER_TRY(errors.result());
    return gone;
}

Result<std::vector<DiskUse>> ImageStore::disk_use() {
    std::vector<DiskUse> uses;
    const std::vector<ImageRecord> images = BANGER_TRY(store_.images());
    for (const ImageRecord& image : images) {
        std::vector<std::string> users = BANGER_TRY(store_.machines_using_image(image.id));
        const bool is_free = users.empty() && !image.file;
        uses.push_back({DiskUse::Kind::image, image.id, image.name.str(),
                        image.file ? ByteCount() : taken_by(places_.images + "/" + image.id),
                        std::move(users), is_free});
    }
    for (const KernelRecord& kernel : BANGER_TRY(store_.kernels())) {
        std::vector<std::string> users = BANGER_TRY(store_.machines_using_kernel(kernel.id));
        const bool is_free = users.empty() && !is_own_file(kernel.reference);
        uses.push_back({DiskUse::Kind::kernel, kernel.id, kernel.name.str(),
                        taken_by(places_.kernels + "/" + kernel.id), std::move(users), is_free});
    }
    for (const CachedBlob& blob : BANGER_TRY(blobs_.list())) {
        DiskUse use{
            DiskUse::Kind::blob,
            std::string(blob.digest.hex()),
            std::string(blob.digest.hex().substr(0, 12)) + (blob.is_complete ? "" : " (partial)"),
            blob.size,
            {},
            false};
        for (const ImageRecord& image : images)
            if (std::ranges::any_of(image.parts, [&](const PartRecord& part) {
                    return part.digest == blob.digest;
                }))
                use.users.push_back(image.name.str());
        use.is_reclaimable = use.users.empty() || !blob.is_complete;
        uses.push_back(std::move(use));
    }
    for (const std::string& name : list_folder(places_.templates).value_or({})) {
        struct stat status {};
        if (::lstat((places_.templates + "/" + name).c_str(), &status) != 0) continue;
        // Disks of machines may stand on it; which ones, only the storage plugin knows.
        uses.push_back({DiskUse::Kind::empty_disk,
                        name,
                        name,
                        ByteCount::bytes(static_cast<std::uint64_t>(status.st_blocks) * 512),
                        {},
                        false});
    }
    return uses;
}

std::vector<Check> ImageStore::checks() {
    std::vector<Check> rows;
    const auto fail = [&](const std::string& what, const Error& error) {
        rows.push_back({what, CheckStatus::fail, error.message, error.remedy});
    };
    const Result<std::vector<ImageRecord>> images = store_.images();
    for (const ImageRecord& image : images ? *images : std::vector<ImageRecord>())
        if (const Result<UniqueFd> file = open_root_file_system(image); !file)
            fail("image " + image.name.str(), file.error());
    const Result<std::vector<KernelRecord>> kernels = store_.kernels();
    for (const KernelRecord& kernel : kernels ? *kernels : std::vector<KernelRecord>())
        if (const Result<OpenKernel> files = open_kernel(kernel); !files)
            fail("kernel " + kernel.name.str(), files.error());
    return rows;
}

}  // namespace banger

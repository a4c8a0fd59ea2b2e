#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "banger/image_source.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"
#include "core/base/keyed_lock.hpp"
#include "core/images/blob_cache.hpp"
#include "core/images/kernel_tree.hpp"
#include "core/store/store.hpp"

namespace banger {

/// A source under the name the configuration gives it.
struct NamedImageSource {
    std::string name;
    ImageSource* source = nullptr;
    /// A third party's: one that is away or does not answer keeps nobody from the sources after it.
    bool may_be_away = false;
};

/// A line of `image list --available`.
struct AvailableFrom {
    AvailableArtifact artifact;
    std::string source;
};

/// How to pull.
struct PullOptions {
    /// What to call a new one; nothing: what the source suggests.
    std::optional<ArtifactName> name = {};
    /// Of an image's root file system; nothing: its content with room to grow.
    std::optional<ByteCount> size = {};
    /// Fetch it again although it is here.
    bool refresh = false;
};

/// A kernel in the user's own files, by absolute path: a tree, or single files.
struct KernelOrigin {
    std::string tree = {};  ///< a folder or a tar of boot/ and lib/modules/, or a Debian package
    std::string kernel = {};
    std::string initrd = {};   ///< empty: none
    std::string modules = {};  ///< the folder lib/modules/VERSION; empty: none
};

/// What `image register` says.
struct ImageRegistration {
    ArtifactName name;
    std::string root_file_system;             ///< absolute path of a raw ext4
    std::string kernel_reference = {};        ///< empty: the default kernel
    std::optional<KernelOrigin> kernel = {};  ///< imported under the image's name
};

/// What one thing takes on the disk. Each byte is counted once.
struct DiskUse {
    enum class Kind { image, kernel, blob, empty_disk };
    Kind kind = Kind::image;
    std::string id;
    std::string name;
    ByteCount size;
    /// What stands on it: machines, or for a blob the images made from it.
    std::vector<std::string> users;
    /// It could go without anything being lost that is in use.
    bool is_reclaimable = false;
};
std::string_view to_string(DiskUse::Kind kind);

/// Images and kernels on disk: finds them, pulls them, hands them out as open files.
///
/// An artifact is a folder named by its id (`images/ID/rootfs.ext4`; `kernels/ID/` as
/// kernel_tree.hpp says) and a row in the store. The folder is complete and on the disk before it
/// gets its final name, and the row is written last, so an artifact that can be found is whole.
/// What a crash leaves is a folder without a row: recover() removes it.
///
/// A pull is: ask the sources what the reference is; fetch its parts (those with a digest into the
/// blob cache, where other images find them; those without through pipes); make the file system
/// from them; give it its name; write the row. A refresh makes the new one beside the old and then
/// swaps their rows, so that there is always one of the two.
///
/// Safe from any thread. Two pulls of one reference, or of one name, do the work once: the second
/// waits, and takes what the first made. Waiting and pulling end with Errc::cancelled soon after
/// `call.stop()`.
class ImageStore {
public:
    struct Places {
        std::string images;     ///< folder of folders
        std::string kernels;    ///< folder of folders
        std::string templates;  ///< empty file systems, one for each size
        std::string blobs;      ///< the blob cache
    };

    ImageStore(Store& store, std::vector<NamedImageSource> sources, Places places);

    /// The image of that name, id or reference; pulled when it is not here. Errc::already_exists
    /// when options.name is that of something else, or it is here with another options.size. With
    /// options.refresh it is pulled again under its name, unless it is the same still;
    /// Errc::in_use, before anything is fetched, while a machine uses the old one.
    Result<ImageRecord> ensure_image(const std::string& reference, const PullOptions& options,
                                     Call& call);
    /// The same for kernels; options.size means nothing.
    Result<KernelRecord> ensure_kernel(const std::string& reference, const PullOptions& options,
                                       Call& call);

    /// Takes an existing file as an image, without copying: it stays the user's, who must leave it
    /// as it is while the image is used. Errc::already_exists (the name), not_found,
    /// permission_denied, invalid_argument (not an ext4; the kernel is unknown).
    Result<ImageRecord> register_image(const ImageRegistration& registration, Call& call);
    /// Copies a registered image's file into the store, which then owns it. Errc::in_use while a
    /// machine stands on the user's file; one that is in the store already stays as it is.
    Result<ImageRecord> promote_image(const std::string& name, Call& call);
    /// Which kernel new machines of the image boot: of the store or one that a source knows.
    Result<ImageRecord> set_kernel(const std::string& name, const std::string& kernel, Call& call);
    /// Makes a kernel of the user's files, which are not needed afterwards.
    Result<KernelRecord> import_kernel(const ArtifactName& name, const KernelOrigin& origin,
                                       Call& call);

    /// The root file system, open for reading. Errc::corrupt when the file is gone or has another
    /// size than it was made with, or, when it is the user's own, was changed; the remedy says how
    /// to get it again.
    Result<UniqueFd> open_root_file_system(const ImageRecord& image);

    struct OpenKernel {
        UniqueFd vmlinux;
        UniqueFd initramfs;
        std::string modules_path;  ///< raw ext4, read-only
    };
    Result<OpenKernel> open_kernel(const KernelRecord& kernel);

    /// An empty ext4 of that size, open for reading; made once for each size and never changed.
    Result<UniqueFd> empty_file_system(ByteCount size);

    /// Errc::in_use names the machines that need it, Errc::not_found when there is none.
    Result<ImageRecord> remove_image(const std::string& name);
    Result<KernelRecord> remove_kernel(const std::string& name);

    /// What the sources can name. A source that fails is left out and told to `report`.
    std::vector<AvailableFrom> available(ArtifactKind kind, Call& call,
                                         const std::function<void(const Error&)>& report);

    /// Bytes on the disk of the image's root file system; what is the user's own counts too.
    Result<ByteCount> allocated(const ImageRecord& image);

    /// Removes blobs that no image needs and what cut-off pulls have left, or `all`; with `is_dry`
    /// only tells. What is being fetched stays. Returns what went.
    Result<std::vector<CachedBlob>> prune_blobs(bool all, bool is_dry);
    /// What images, kernels, blobs and empty disks take. The user's own files do not count.
    Result<std::vector<DiskUse>> disk_use();
    /// A row of `banger doctor` for each image and kernel whose files are not as they should be.
    std::vector<Check> checks();

    /// Called once, before anything else: removes what pulls that died have left. Returns how many.
    Result<int> recover();

private:
    struct Found {
        ArtifactManifest manifest;
        ImageSource* source = nullptr;
        std::string asked_as;  ///< the spelling that led there; empty when it is the canonical one
    };
    Result<Found> resolve(ArtifactKind kind, const std::string& reference, Call& call);
    /// By the name that the user chose for it, else by the spelling that it is known by.
    Result<Found> resolve_again(ArtifactKind kind, const std::string& reference,
                                const std::string& known_as, Call& call);
    Result<ImageRecord> pull_image(const Found& found, const ArtifactName& name,
                                   const PullOptions& options,
                                   const std::optional<ImageRecord>& replaced, Call& call);
    Result<KernelRecord> pull_kernel(const Found& found, const ArtifactName& name,
                                     const std::optional<KernelRecord>& replaced, Call& call);
    Result<ByteCount> make_root_file_system(const Found& found, const ArtifactName& name,
                                            const PullOptions& options, PartFormat format,
                                            const UniqueFd& image, ArtifactManifest& manifest,
                                            Call& call);
    /// Hands the parts to `read` as open descriptors in order: files of the blob cache, or pipes.
    Result<void> with_parts(const Found& found, Call& call,
                            const std::function<Result<void>(std::span<const UniqueFd>)>& read);
    Result<void> with_blobs(const Found& found, Call& call,
                            const std::function<Result<void>(std::span<const UniqueFd>)>& read);
    /// Makes a kernel's folder with `fill`, which gets it open and empty, and the row for it.
    Result<KernelRecord> make_kernel(
        const KernelRecord& planned, const std::optional<KernelRecord>& replaced,
        const std::function<Result<images::KernelFiles>(const UniqueFd& folder)>& fill);
    /// Errc::already_exists when the name is taken.
    Result<void> check_is_free(ArtifactKind kind, const ArtifactName& name);
    /// The name or reference by which ensure_kernel() will find it.
    Result<std::string> known_kernel(const std::string& kernel, Call& call);
    [[nodiscard]] std::string path_of(const ImageRecord& image) const;
    /// The error of a pull. On a full disk what it fetched for nothing is removed; else it spares
    /// the next one the way.
    Error give_back(Error error, std::span<const WantedBlob> missing_before);
    /// Gives up blobs that no image could share.
    void drop_unshared(const ArtifactManifest& manifest);

    Store& store_;
    std::vector<NamedImageSource> sources_;
    Places places_;
    BlobCache blobs_;
    KeyedLock locks_;
};

}  // namespace banger

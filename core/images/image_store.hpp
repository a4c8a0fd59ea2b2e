#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "banger/image_source.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"
#include "core/base/keyed_lock.hpp"
#include "core/store/store.hpp"

namespace banger {

/// A source under the name the configuration gives it.
struct NamedImageSource {
    std::string name;
    ImageSource* source = nullptr;
};

/// A line of `image list --available`.
struct AvailableFrom {
    AvailableArtifact artifact;
    std::string source;
};

/// Images and kernels on disk: finds them, pulls them, hands them out as open files.
///
/// An artifact is a folder named by its id (`images/ID/rootfs.ext4`; `kernels/ID/` as
/// kernel_tree.hpp says) and a row in the store. The folder is complete and on the disk before it
/// gets its final name, and the row is written last, so an artifact that can be found is whole.
/// What a crash leaves is a folder without a row: recover() removes it.
///
/// Safe from any thread. Two pulls of one reference do the work once: the second waits, and takes
/// what the first made. Waiting and pulling end with Errc::cancelled soon after `call.stop()`.
class ImageStore {
public:
    struct Places {
        std::string images;     ///< folder of folders
        std::string kernels;    ///< folder of folders
        std::string templates;  ///< empty file systems, one for each size
    };

    ImageStore(Store& store, std::vector<NamedImageSource> sources, Places places);

    /// The image of that name, id or reference; pulled when it is not here. With `refresh` it is
    /// pulled again under the same name, which fails with Errc::in_use while a machine uses it.
    /// `name` is what to call a new one; nothing: what the source suggests.
    Result<ImageRecord> ensure_image(const std::string& reference,
                                     const std::optional<ArtifactName>& name, bool refresh,
                                     Call& call);
    Result<KernelRecord> ensure_kernel(const std::string& reference,
                                       const std::optional<ArtifactName>& name, bool refresh,
                                       Call& call);

    /// The root file system, open for reading. Errc::corrupt when the file is gone or has another
    /// size than it was made with; the remedy says how to get it again.
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

    /// Bytes on the disk of the image's own files.
    Result<ByteCount> allocated(const ImageRecord& image);

    /// Called once, before anything else: removes what pulls that died have left. Returns how many.
    Result<int> recover();

private:
    struct Found {
        ArtifactManifest manifest;
        ImageSource* source = nullptr;
    };
    Result<Found> resolve(ArtifactKind kind, const std::string& reference, Call& call);
    Result<ImageRecord> pull_image(const Found& found, const ArtifactName& name,
                                   const std::optional<ImageRecord>& replaced, Call& call);
    Result<KernelRecord> pull_kernel(const Found& found, const ArtifactName& name,
                                     const std::optional<KernelRecord>& replaced, Call& call);

    Store& store_;
    std::vector<NamedImageSource> sources_;
    Places places_;
    KeyedLock locks_;
};

}  // namespace banger

#pragma once

#include <functional>
#include <optional>
#include <string>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "core/images/bundle.hpp"
#include "core/images/image_store.hpp"
#include "core/store/store.hpp"
#include "core/vms/machines.hpp"

namespace banger {

/// Makes bundles (core/images/bundle.hpp) of images, kernels and stopped machines.
///
/// A bundle is written into a folder of the daemon's own and is there as long as its Publication:
/// whoever asked for it moves it to where they want it, as the user that they are. What a crash
/// leaves there goes at the next start. Safe from any thread.
class Publisher {
public:
    struct Parts {
        Store& store;
        ImageStore& images;
        Machines& machines;
        std::string folder;  ///< for bundles that nobody has taken yet
    };
    explicit Publisher(Parts parts) : parts_(std::move(parts)) {}

    /// What its publisher says of it instead of what the store knows.
    struct Wishes {
        std::optional<ArtifactName> name;
        std::optional<std::string> description;
    };

    /// A bundle on the disk, removed with this unless somebody has moved it away.
    class Publication {
    public:
        Publication(std::string path, images::WrittenBundle bundle)
            : path_(std::move(path)), bundle_(std::move(bundle)) {}
        ~Publication();
        Publication(Publication&& other) noexcept
            : path_(std::exchange(other.path_, {})), bundle_(std::move(other.bundle_)) {}
        Publication& operator=(Publication&&) = delete;
        Publication(const Publication&) = delete;

        [[nodiscard]] const std::string& path() const { return path_; }
        [[nodiscard]] const images::WrittenBundle& bundle() const { return bundle_; }
        [[nodiscard]] std::string file_name() const;
        /// The lines for a catalog, with the bundle beside it.
        [[nodiscard]] std::string catalog_entry() const;

    private:
        std::string path_;
        images::WrittenBundle bundle_;
    };

    Result<Publication> image(const std::string& name, const Wishes& wishes, Call& call);
    Result<Publication> kernel(const std::string& name, const Wishes& wishes, Call& call);
    /// The root disk of a machine that is stopped, as its last run left it. What is not in it: the
    /// work disk (/root). The machine's private host key is blanked out wherever a block begins
    /// with it; every identity is made anew by the first boot of whoever uses the image.
    Result<Publication> machine(const std::string& vm, const Wishes& wishes, Call& call);

    /// Called once, before anything else.
    Result<void> recover();

private:
    Result<Publication> write(images::BundleManifest manifest,
                              std::span<images::DiskBytes* const> files, Call& call);
    Parts parts_;
};

}  // namespace banger

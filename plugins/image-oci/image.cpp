#include "plugins/image-oci/image.hpp"

#include "core/base/names.hpp"
#include "plugins/image-oci/bytes.hpp"

namespace banger::image_oci {

namespace {

/// An index of indices is rare, one of indices of indices unheard of.
constexpr int max_nesting = 3;

}  // namespace

Result<void> check_bytes(std::string_view bytes, const Descriptor& descriptor,
                         const std::string& what) {
    constexpr const char* remedy =
        "Try again; if it stays so, the source is damaged or was tampered with.";
    if (bytes.size() != descriptor.size.count())
        return Error(Errc::corrupt,
                     what + " has " + std::to_string(bytes.size()) + " bytes instead of " +
                         std::to_string(descriptor.size.count()),
                     remedy);
    const Digest digest = digest_of(bytes);
    if (digest == descriptor.digest) return ok();
    return Error(
        Errc::corrupt,
        what + " has the digest " + digest.str() + " instead of " + descriptor.digest.str(),
        remedy);
}

Result<void> check_config(const ImageConfig& config, std::size_t layers,
                          const std::string& architecture) {
    if (config.platform.os != "linux" || config.platform.architecture != architecture)
        return Error(Errc::unsupported,
                     "the image is made for " + quoted(config.platform.text()) +
                         ", not for linux/" + architecture,
                     "Choose another image or tag.");
    if (config.diff_ids.size() == layers) return ok();
    return Error(Errc::corrupt,
                 "the image has " + std::to_string(layers) + " layers, but its config names " +
                     std::to_string(config.diff_ids.size()),
                 "Report this to whoever publishes the image.");
}

Result<Image> find_image(ManifestDocument document, const Digest& digest,
                         const std::string& architecture, Documents& documents, Call& call) {
    Digest found = digest;
    for (int nesting = 0; std::holds_alternative<Index>(document); ++nesting) {
        if (nesting == max_nesting)
            return Error(Errc::corrupt,
                         "the image is behind more than " + std::to_string(max_nesting) +
                             " indices, one in the other",
                         "Report this to whoever publishes the image.");
        const Descriptor entry =
            BANGER_TRY(choose_platform(std::get<Index>(document), architecture));
        if (entry.size > max_document)
            return Error(Errc::corrupt, "the manifest is larger than " + max_document.text(),
                         "Report this to whoever publishes the image.");
        const std::string body = BANGER_TRY(documents.manifest(entry, call));
        BANGER_TRY(check_bytes(body, entry, "the manifest"));
        document = BANGER_TRY(parse_manifest(body, entry.media_type));
        found = entry.digest;
    }
    Manifest manifest = std::get<Manifest>(std::move(document));
    const std::string text = BANGER_TRY(documents.config(manifest.config, call));
    BANGER_TRY(check_bytes(text, manifest.config, "the image's config"));
    ImageConfig config = BANGER_TRY(parse_config(text));
    BANGER_TRY(check_config(config, manifest.layers.size(), architecture));
    return Image{std::move(found), std::move(manifest), std::move(config)};
}

}  // namespace banger::image_oci

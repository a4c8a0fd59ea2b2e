#pragma once

#include <string>
#include <vector>

#include "banger/image_source.hpp"
#include "banger/result.hpp"
#include "plugins/image-oci/documents.hpp"

namespace banger::image_oci {

/// Where the documents of one image come from: a registry, a layout, an archive.
class Documents {
public:
    virtual ~Documents() = default;
    /// The bytes of a manifest or index, of a config; not yet checked. At most max_document.
    virtual Result<std::string> manifest(const Descriptor& descriptor, Call& call) = 0;
    virtual Result<std::string> config(const Descriptor& descriptor, Call& call) = 0;
};

struct Image {
    Digest digest;  ///< of its manifest
    Manifest manifest;
    ImageConfig config;
};

/// From the first document down to the image for linux and the architecture: through indices to the
/// manifest and its config, each checked against the size and digest that asked for it.
Result<Image> find_image(ManifestDocument document, const Digest& digest,
                         const std::string& architecture, Documents& documents, Call& call);

/// Errc::corrupt unless the bytes have the descriptor's size and digest. `what`: "the manifest".
Result<void> check_bytes(std::string_view bytes, const Descriptor& descriptor,
                         const std::string& what);

/// The image must be for linux and `architecture`, and have as many layers as it says.
Result<void> check_config(const ImageConfig& config, std::size_t layers,
                          const std::string& architecture);

}  // namespace banger::image_oci

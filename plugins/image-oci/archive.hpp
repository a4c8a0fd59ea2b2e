#pragma once

#include <memory>
#include <string>

#include "banger/image_source.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "plugins/image-oci/image.hpp"
#include "plugins/image-oci/reference.hpp"

namespace banger::image_oci {

/// An image in a file or folder of this host, as skopeo, buildah, podman and docker save write
/// them.
struct FiledImage {
    Digest digest;  ///< of its manifest; of its config in a docker archive, which has none
    ImageConfig config;
    std::vector<Part> parts;
    /// The name that goes with it: the reference's own, else what the archive calls it; may be
    /// empty.
    std::string name;
};

/// Reads index, manifest and config; the layers are only found. Errors name the file and what to
/// write instead.
Result<FiledImage> read_filed_image(const FileReference& reference, const std::string& architecture,
                                    Call& call);

/// The bytes of one part, found again by its locator. Errc::invalid_argument for a locator that
/// read_filed_image() did not write.
Result<void> send_filed_part(const FileReference& reference, const Part& part,
                             std::uint64_t resume_from, const UniqueFd& sink,
                             const std::string& stage, Call& call);

}  // namespace banger::image_oci

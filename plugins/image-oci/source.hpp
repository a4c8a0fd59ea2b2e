#pragma once

#include <memory>

#include "banger/plugin.hpp"
#include "plugins/image-oci/registry.hpp"

namespace banger::image_oci {

/// Images of registries, OCI layouts and saved archives.
///
/// Speaks for everything that can be meant as an image's name, so it comes last among the image
/// sources: a plain word that no other has is an image of the default registry. Layers keep their
/// digests, so core checks every byte; index, manifest and config are checked here. Nothing is
/// kept but tokens, in memory.
class OciSource : public Plugin, public ImageSource {
public:
    OciSource(Host& host, Web& web, Options options) : registries_(host, web, std::move(options)) {}

    Roles roles() override;
    Result<Resolution> resolve(const ResolveRequest& request, Call& call) override;
    Result<void> fetch(const ArtifactManifest& manifest, std::size_t part,
                       std::uint64_t resume_from, const UniqueFd& sink, Call& call) override;
    Result<std::vector<AvailableArtifact>> available(Call& call) override;
    std::vector<Check> checks(std::stop_token stop) override;

private:
    Result<ArtifactManifest> resolve_image(const ImageReference& reference,
                                           const std::string& architecture, Call& call);
    [[nodiscard]] const std::string& default_registry() const {
        return registries_.options().default_registry;
    }

    RegistryClient registries_;
};

Result<std::unique_ptr<Plugin>> make_image_oci(Host& host);

}  // namespace banger::image_oci

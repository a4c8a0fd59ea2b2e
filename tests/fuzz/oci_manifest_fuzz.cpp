#include <cstddef>
#include <cstdint>

#include "plugins/image-oci/image.hpp"
#include "tests/fuzz/require.hpp"

/// Whatever a registry sends as a manifest, index, config or complaint is taken within its bounds
/// or refused with a remedy. The first byte chooses what it is announced as.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace banger;
    using namespace banger::image_oci;
    if (size == 0) return 0;
    constexpr const char* types[] = {"",
                                     "application/vnd.oci.image.manifest.v1+json",
                                     "application/vnd.oci.image.index.v1+json",
                                     "application/vnd.docker.distribution.manifest.v2+json",
                                     "application/vnd.docker.distribution.manifest.list.v2+json",
                                     "application/vnd.docker.distribution.manifest.v1+json"};
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    const Result<ManifestDocument> document = parse_manifest(text, types[data[0] % 6]);
    if (!document) {
        require(!document.error().remedy.empty() && is_plain(document.error().message));
    } else if (const auto* manifest = std::get_if<Manifest>(&*document)) {
        require(!manifest->layers.empty() && manifest->layers.size() <= max_layers);
        require(manifest->config.size <= max_document);
    } else {
        const Index& index = std::get<Index>(*document);
        require(index.entries.size() <= max_index_entries);
        const Result<Descriptor> chosen = choose_platform(index, "amd64");
        require(chosen || is_plain(chosen.error().message));
    }
    if (const Result<ImageConfig> config = parse_config(text))
        for (const std::string& variable : config->run.environment)
            require(variable.find('=') != std::string::npos &&
                    variable.find('\0') == variable.npos);
    static_cast<void>(registry_complaint(text));
    if (const Result<TokenReply> reply = parse_token(text)) require(is_plain(reply->token));
    return 0;
}

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "banger/image_source.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"

/// The JSON documents of registries, layouts and archives. All are foreign: bounded in size, depth
/// and number, a name twice in one object refused, every digest and size well-formed or refused.
/// Fields that are not needed are not looked at. Pure; safe from any thread. Sources: OCI image
/// specification 1.1; Docker image manifest version 2, schema 2; moby/docker image/spec/v1.2.
namespace banger::image_oci {

/// Larger ones are refused before they are read, as registries themselves do.
inline constexpr ByteCount max_document = ByteCount::mib(4);
inline constexpr std::size_t max_layers = 512;
inline constexpr std::size_t max_index_entries = 1024;

/// What Docker and OCI call the same things.
enum class MediaType { index, manifest, schema_1, config, layer, foreign_layer, other };
MediaType media_type_of(std::string_view text);
/// For the Accept header of a request for a manifest.
std::string_view accepted_manifests();

struct Platform {
    std::string os;
    std::string architecture;
    std::string variant;
    [[nodiscard]] std::string text() const;  ///< "linux/arm64/v8"
    friend bool operator==(const Platform&, const Platform&) = default;
};

/// A document or layer by its digest.
struct Descriptor {
    std::string media_type;
    Digest digest;
    ByteCount size;
    std::optional<Platform> platform;
    std::string name;  ///< annotation org.opencontainers.image.ref.name
    friend bool operator==(const Descriptor&, const Descriptor&) = default;
};

struct Index {
    std::vector<Descriptor> entries;
    friend bool operator==(const Index&, const Index&) = default;
};

struct Manifest {
    Descriptor config;
    std::vector<Descriptor> layers;
    friend bool operator==(const Manifest&, const Manifest&) = default;
};

/// What parse_manifest() makes of a document. `content_type` is what its bearer calls it (a header,
/// a descriptor), empty when he does not say; it must agree with what the document says of itself,
/// and the document must have the shape of the one alone (CVE-2021-41190).
using ManifestDocument = std::variant<Index, Manifest>;
Result<ManifestDocument> parse_manifest(std::string_view text, std::string_view content_type);

/// Errc::corrupt when `content_type` says that a document is something else than its descriptor
/// says.
Result<void> check_content_type(std::string_view content_type, const Descriptor& descriptor);

/// An index.json of a layout: an index that need not say what it is.
Result<Index> parse_layout_index(std::string_view text);
/// Errc::unsupported for a layout of another version than 1.
Result<void> check_layout_file(std::string_view text);

/// The entry for linux and the architecture; the plainest when there are several variants, because
/// it runs everywhere. Errc::unsupported names the platforms that there are.
Result<Descriptor> choose_platform(const Index& index, std::string_view architecture);

struct ImageConfig {
    Platform platform;
    std::vector<Digest> diff_ids;  ///< of the layers, unpacked
    RunConfig run;
    std::string description;  ///< label org.opencontainers.image.description, or title
    friend bool operator==(const ImageConfig&, const ImageConfig&) = default;
};
Result<ImageConfig> parse_config(std::string_view text);

/// One image of a docker-archive's manifest.json; paths are of the archive.
struct ArchivedImage {
    std::string config;
    std::vector<std::string> names;
    std::vector<std::string> layers;
    friend bool operator==(const ArchivedImage&, const ArchivedImage&) = default;
};
Result<std::vector<ArchivedImage>> parse_archive_manifest(std::string_view text);

/// What a token server answered.
struct TokenReply {
    std::string token;
    std::int64_t seconds = 60;  ///< for which it holds
    friend bool operator==(const TokenReply&, const TokenReply&) = default;
};
Result<TokenReply> parse_token(std::string_view text);

/// What a credential helper printed.
struct HelperReply {
    std::string user;
    std::string secret;
    friend bool operator==(const HelperReply&, const HelperReply&) = default;
};
Result<HelperReply> parse_helper_reply(std::string_view text);

/// One entry of `auths`.
struct StoredLogin {
    std::string registry;  ///< the key, as it stands
    std::string user;
    std::string password;
    std::string identity_token;
    friend bool operator==(const StoredLogin&, const StoredLogin&) = default;
};
struct DockerConfig {
    std::vector<StoredLogin> logins;
    std::vector<std::pair<std::string, std::string>> helpers;  ///< registry → name of a helper
    std::string store;                                         ///< helper for all others, or empty
    friend bool operator==(const DockerConfig&, const DockerConfig&) = default;
};
Result<DockerConfig> parse_docker_config(std::string_view text);

/// The sentence in a registry's error answer; empty when there is none.
std::string registry_complaint(std::string_view body);

}  // namespace banger::image_oci

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "banger/result.hpp"
#include "banger/values.hpp"

/// What people type for an image. Pure; safe from any thread.
namespace banger::image_oci {

/// An image of a registry, every part spelled out.
struct ImageReference {
    std::string registry;    ///< "docker.io", "ghcr.io", "localhost:5000", "[::1]:5000"
    std::string repository;  ///< "library/alpine"
    std::string tag;         ///< empty when there is a digest
    std::optional<Digest> digest;

    /// "docker.io/library/alpine:3.20".
    [[nodiscard]] std::string text() const;
    /// What the registry is asked for: the digest, else the tag.
    [[nodiscard]] const std::string& version() const { return digest ? digest->str() : tag; }
    friend bool operator==(const ImageReference&, const ImageReference&) = default;
};

/// An image in a file or folder of this host. Its path has no colon: that is where it ends.
struct FileReference {
    enum class Kind { layout, oci_archive, docker_archive };
    Kind kind = Kind::layout;
    std::string path;
    /// Which of several: the tag in a layout, the whole reference in a docker archive; may be
    /// empty.
    std::string name;
    std::optional<Digest> digest;

    [[nodiscard]] std::string text() const;
    friend bool operator==(const FileReference&, const FileReference&) = default;
};

using Reference = std::variant<ImageReference, FileReference>;

/// The rules of Docker: an image without a registry is one of `default_registry`, one of Docker Hub
/// without a slash is in library/, one without a tag is "latest", a digest outweighs a tag.
/// Errc::not_found for what is no reference of ours ("debian-kernel:…", an empty one); Errc::
/// invalid_argument, with what to write instead, for one of ours that is wrong. Source:
/// github.com/distribution/reference, grammar at its head.
Result<Reference> parse_reference(std::string_view text, std::string_view default_registry);

/// A registry as it stands in a reference: a name or an address, perhaps with a port.
Result<void> check_registry(std::string_view registry);
/// A repository as it stands in a reference, without the registry.
Result<void> check_repository(std::string_view repository);

/// "localhost" of "localhost:5000", "::1" of "[::1]:5000".
std::string host_of(std::string_view registry);
/// localhost, 127.0.0.0/8 and ::1, as written.
bool is_loopback(std::string_view registry);

/// What to call the image in the store: "alpine-3.20", "ghcr.io-o-r". Always an ArtifactName. Two
/// references have the same one only when they differ in nothing but punctuation.
std::string suggested_name(const Reference& reference);

}  // namespace banger::image_oci

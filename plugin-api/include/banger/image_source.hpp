#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

namespace banger {

/// What a reference may lead to.
enum class ArtifactKind { image, kernel };
std::string_view to_string(ArtifactKind kind);
std::optional<ArtifactKind> parse_artifact_kind(std::string_view word);

/// What the bytes of one part are.
enum class PartFormat {
    tar_layer,    ///< tar (plain, gzip, zstd or xz, told by its first bytes) applied over those
                  ///< before
    ext4,         ///< a ready root file system, raw
    bundle,       ///< .tar.zst of rootfs.ext4 and manifest.json
    kernel_tree,  ///< tar that holds boot/vmlinuz-VERSION and [usr/]lib/modules/VERSION
};
std::string_view to_string(PartFormat format);
std::optional<PartFormat> parse_part_format(std::string_view word);

/// One stream of bytes to fetch.
struct Part {
    PartFormat format = PartFormat::tar_layer;
    /// Of the bytes as fetched. Nothing when they are made on demand: then the source itself
    /// vouches for them, and the manifest's `provenance` says how.
    std::optional<Digest> digest;
    std::optional<ByteCount> size;
    /// The source's own note to find the part again; core hands it back unread.
    std::string locator;
    friend bool operator==(const Part&, const Part&) = default;
};

/// How the image wants its command to run. As in the OCI image configuration.
struct RunConfig {
    std::vector<std::string> environment;  ///< NAME=value
    std::string working_folder;
    std::string user;
    std::vector<std::string> entrypoint;
    std::vector<std::string> command;
    friend bool operator==(const RunConfig&, const RunConfig&) = default;
};

/// What a reference leads to.
struct ArtifactManifest {
    ArtifactKind kind = ArtifactKind::image;
    /// Canonical spelling, as to be shown and to be asked for again.
    std::string reference;
    /// What to call it in the store when the user gave no name.
    std::string suggested_name;
    std::string distro;
    std::string architecture;  ///< "amd64"
    std::string description;
    /// One sentence on why the bytes can be trusted: "signed Debian archive, key …", "sha256 pinned
    /// in the built-in catalog".
    std::string provenance;
    /// The kernel that goes with an image; empty for the default one.
    std::string kernel_reference;
    std::vector<Part> parts;  ///< in order of application
    RunConfig run_config;
    friend bool operator==(const ArtifactManifest&, const ArtifactManifest&) = default;
};

/// "Ask for that instead": a catalog entry that another source builds.
struct Redirect {
    std::string reference;
    /// Fields that the redirecting source knows better; empty ones leave the target's.
    std::string suggested_name;
    std::string distro;
    std::string description;
    std::string kernel_reference;
    friend bool operator==(const Redirect&, const Redirect&) = default;
};

using Resolution = std::variant<ArtifactManifest, Redirect>;

struct ResolveRequest {
    ArtifactKind kind = ArtifactKind::image;
    std::string reference;  ///< as the user typed it; hostile until parsed
    std::string architecture = "amd64";
};

/// A line of `image list --available` and `kernel list --available`.
struct AvailableArtifact {
    ArtifactKind kind = ArtifactKind::image;
    std::string reference;
    std::string distro;
    std::string architecture;
    std::string description;
    friend bool operator==(const AvailableArtifact&, const AvailableArtifact&) = default;
};

/// Finds images and kernels.
///
/// Core asks the configured sources in order. It calls every method from worker threads, also
/// several at once. Methods may block; each ends with Errc::cancelled soon after `call.stop()` is
/// triggered, and ends its child processes. None throws. A source keeps nothing that needs undoing;
/// what it caches lies in Host::cache_folder().
class ImageSource {
public:
    virtual ~ImageSource() = default;
    /// Errc::not_found means "not mine": the next source is asked. Every other error ends the
    /// search, because the reference is this source's and something is wrong with it.
    virtual Result<Resolution> resolve(const ResolveRequest& request, Call& call) = 0;
    /// Writes the part's bytes to `sink` (a pipe or a file) and returns when all are written; the
    /// caller closes its own copy. Core checks digest and size; the source must not trust them
    /// either. `resume_from` is a byte offset, only ever given for a part that has a digest; a
    /// source that cannot resume answers Errc::unsupported before it writes anything. A reader that
    /// went away (EPIPE) is Errc::cancelled; a part past the last is Errc::invalid_argument.
    virtual Result<void> fetch(const ArtifactManifest& manifest, std::size_t part,
                               std::uint64_t resume_from, const UniqueFd& sink, Call& call) = 0;
    /// What can be pulled by name; empty for a source that cannot enumerate (a registry).
    virtual Result<std::vector<AvailableArtifact>> available(Call& call) = 0;
    /// Rows for `banger doctor`. Changes nothing, and does not wait for a remote host.
    virtual std::vector<Check> checks(std::stop_token stop) = 0;
};

}  // namespace banger

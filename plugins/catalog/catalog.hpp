#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "banger/image_source.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"

/// A catalog: a YAML file that gives images and kernels short names.
///
///     version: 1
///     images:
///       - name: debian-bookworm-slim
///         distro: debian
///         arch: amd64
///         description: Debian 12, systemd, ssh and git
///         kernel: debian-cloud                # what to boot it with, any kernel reference
///         recipe: debian:bookworm-slim        # built by the source that speaks for this reference
///         …
///       - name: team-base
///         distro: debian
///         arch: amd64
///         description: what the team works on
///         bundle:                             # … or fetched from here
///           url: https://images.example/team-base.tar.zst
///           sha256: 64 hexadecimal digits
///           size: 734003200
///     kernels:
///       - …                                   # the same without `kernel`
///
/// Strict: an unknown key, a wrong type, a missing or doubled field, a doubled name, an anchor, an
/// alias, a tag, more than one document, nesting or size beyond need are refused with file and
/// line. A catalog is taken whole or not at all. Everything here is pure; safe from any thread.
namespace banger::catalog {

inline constexpr ByteCount max_catalog_size = ByteCount::mib(1);

/// Bytes of a server that are known before they are fetched.
struct Bundle {
    std::string url;  ///< https, or http to this host
    Digest digest;
    ByteCount size;
    friend bool operator==(const Bundle&, const Bundle&) = default;
};

/// Ask for that reference instead.
struct Recipe {
    std::string reference;
    friend bool operator==(const Recipe&, const Recipe&) = default;
};

struct Entry {
    ArtifactKind kind;
    ArtifactName name;
    std::string architecture;
    std::string distro;
    std::string description;
    std::string kernel;  ///< images only; empty for the default one
    std::variant<Bundle, Recipe> content;
    friend bool operator==(const Entry&, const Entry&) = default;
};

/// Reads a catalog. `file` is for messages only, which begin with "FILE:LINE: ".
/// Errc::invalid_argument, or Errc::corrupt for what is not YAML.
Result<std::vector<Entry>> parse_catalog(std::string_view text, std::string_view file);

/// A URL that a bundle may have. The digest makes the bytes safe whatever the way; https keeps
/// private what is fetched. Plain http is for a server on this host. (The HTTP client of core holds
/// the same rule; here it gets a line number.)
bool is_fetchable(std::string_view url);

/// A catalog file that could not be used, and why.
struct BrokenCatalog {
    std::string file;
    Error error;
};

/// All catalogs together: the built-in one, then the files in their order. An entry replaces an
/// earlier one of the same kind, name and architecture. A broken file takes part with nothing.
struct Catalogs {
    std::vector<Entry> entries;
    std::vector<BrokenCatalog> broken;

    /// Null when no readable catalog has it.
    [[nodiscard]] const Entry* find(ArtifactKind kind, std::string_view name,
                                    std::string_view architecture) const;
};

/// The catalog that is compiled in (builtin.yaml).
std::string_view builtin_catalog();

/// Reads the files anew at every call, so that an edit counts at once. Blocks on the disk only.
Catalogs load_catalogs(const std::vector<std::string>& files);

}  // namespace banger::catalog

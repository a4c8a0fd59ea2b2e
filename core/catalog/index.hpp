#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
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
///     serial: 7                               # of a signed catalog: higher with each version
///     expires: 2027-06-30                     # optional: the last day on which to use it
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
///           url: https://images.example/team-base.tar.zst    # or relative to the catalog
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
    std::string url;  ///< https, http to this host, or relative to the catalog's own place
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

/// A catalog as its file says it.
struct Index {
    /// Counts up with every version of a signed one, so that an old one is known as such.
    std::optional<std::uint64_t> serial;
    /// The last day, in UTC, on which it is to be used: an update that somebody holds back is then
    /// noticed.
    std::optional<std::chrono::sys_days> expires;
    std::vector<Entry> entries;
};

/// Reads a catalog. `file` is for messages only, which begin with "FILE:LINE: ".
/// Errc::invalid_argument, or Errc::corrupt for what is not YAML.
Result<Index> parse_catalog(std::string_view text, std::string_view file);

/// A URL that a bundle may have. The digest makes the bytes safe whatever the way; https keeps
/// private what is fetched. Plain http is for a server on this host. (The HTTP client of core holds
/// the same rule; here it gets a line number.)
bool is_fetchable(std::string_view url);

/// "team-base.tar.zst", "images/team-base.tar.zst": below the catalog's own place, and nowhere
/// else.
bool is_relative_path(std::string_view path);

}  // namespace banger::catalog

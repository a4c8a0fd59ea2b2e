#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "banger/image_source.hpp"
#include "banger/result.hpp"

/// What this source can build. Fixed at build time: a reference only ever chooses from this table,
/// so nothing that a user typed reaches a command line.
///
///     image   "debian:"        RELEASE "-" VARIANT     debian:bookworm-slim
///     kernel  "debian-kernel:" RELEASE "-" FLAVOUR     debian-kernel:bookworm-cloud
///
/// A reference that is written so but is not in the table is Errc::not_found, "not mine": container
/// registries use the same spelling (debian:bookworm-20260101), and the next source may have it.
namespace banger::image_debian {

inline constexpr std::string_view image_scheme = "debian:";
inline constexpr std::string_view kernel_scheme = "debian-kernel:";

struct Recipe {
    ArtifactKind kind = ArtifactKind::image;
    std::string_view reference;  ///< the canonical and only spelling
    std::string_view release;    ///< Debian's code name
    std::string_view distro;
    std::string_view description;
    /// What is installed besides Debian's required packages. Kernel: the one meta package that
    /// depends on the newest kernel.
    std::span<const std::string_view> packages;
    /// Left out of every package, now and in the guest: paths as dpkg's path-exclude takes them.
    std::span<const std::string_view> excluded_paths;
    /// Shell script that fetches packages beyond what mmdebstrap installs; may be empty.
    std::string_view fetch_script;
    /// Shell scripts that run at the end, in order, with the folder of the new root as $1.
    std::span<const std::string_view> scripts;
    /// Whether `image list --available` shows it.
    bool is_listed = true;
};

std::span<const Recipe> recipes();

/// Errc::not_found for whatever is not exactly the reference of a recipe of that kind. The text is
/// hostile: it is compared, never used.
Result<const Recipe*> find_recipe(ArtifactKind kind, std::string_view reference);

/// "debian:bookworm-slim" → "debian-bookworm-slim"; an ArtifactName.
std::string suggested_name(const Recipe& recipe);

}  // namespace banger::image_debian

#pragma once

#include <string>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "core/base/child.hpp"
#include "plugins/image-debian/recipe.hpp"

/// The command line of mmdebstrap for a recipe: a value, checked by tests without running it.
///
/// Always `--mode=unshare`. For root that keeps the user namespace but makes mount and process
/// namespaces of its own: whatever ends mmdebstrap ends everything that it started, and no mount
/// stays on the host. For anybody else it adds a user namespace, whose owners come from
/// /etc/subuid. Both make the same archive.
///
/// No mirror is named: mmdebstrap knows Debian's own, and for a stable release adds the suites of
/// security and other updates. A mirror from the settings replaces the host part of those lines in
/// a setup hook, so the list of suites stays mmdebstrap's.
///
/// Downloaded packages are copied in before and out after, because the namespace has no right to
/// see the owner's cache folder; apt checks sizes against the signed index before it uses one.
namespace banger::image_debian {

/// The plugin's settings, checked.
struct Options {
    std::string mmdebstrap = "mmdebstrap";  ///< a name for PATH, or an absolute path
    std::string mirror;                     ///< empty: mmdebstrap's default
    std::string security_mirror;            ///< empty: mmdebstrap's default
    std::string work_folder = "/var/tmp";   ///< where the root is laid out while it is built
    friend bool operator==(const Options&, const Options&) = default;
};

/// Errc::invalid_argument for a mirror that is no plain URL (http, https, file, copy) and for a
/// work folder that is not absolute.
Result<Options> read_options(const Settings& settings);

struct BuildFolders {
    std::string temporary;     ///< becomes TMPDIR
    std::string packages_in;   ///< *.deb of earlier builds; empty: none
    std::string packages_out;  ///< gets the *.deb of this build; empty: they are not kept
};

/// `program` is absolute. Standard output (the tar) and error are the caller's to set.
Command build_command(const Recipe& recipe, const std::string& program, const Options& options,
                      const BuildFolders& folders);

}  // namespace banger::image_debian

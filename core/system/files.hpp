#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/plugins/manifest.hpp"
#include "core/system/install_record.hpp"
#include "core/system/layout.hpp"

/// Which files an installation puts where.
namespace banger::system {

/// What is installed: a build tree, an unpacked release or the installed copy itself.
struct Release {
    std::string binaries;  ///< folder of banger, bangerd, bangerd-root
    std::string agent;
    std::string plugin_host;
    std::string plugins;  ///< folder
    std::vector<Manifest> manifests;
};

/// Found from where `program` (banger's real path) lies. Errc::not_found with the first file that
/// is missing; Errc::unavailable for a program or plugin whose shared libraries this host lacks,
/// with the Debian packages that have them.
Result<Release> find_release(const std::string& program);

/// One file that shall be there, root's.
struct PlannedFile {
    std::string path;
    mode_t mode = 0644;
    std::string source;   ///< a file to copy; else
    std::string content;  ///< this
};

/// Every file but install.toml, in the order in which to put them.
std::vector<PlannedFile> plan_files(const Release& release, const Layout& layout,
                                    const Owner& owner, const std::string& helper_config,
                                    bool has_kvm_group);

/// For people: a completion script and the shell that it is for, or a manual page of section 1.
PlannedFile completion_file(const Layout& layout, std::string_view shell, std::string script);
PlannedFile man_file(const Layout& layout, const std::string& name, std::string page);

/// Puts one in place: written beside it under a fixed name, flushed, renamed. A run that was cut
/// off leaves at most that one, and the next replaces it. False when it was there already, byte for
/// byte.
Result<bool> put_file(const PlannedFile& file);

/// Checks, before anything is made, that nobody but root can change the folders that lead to what
/// is installed: plugins there would be refused later.
Result<void> check_folders(const Layout& layout);

/// Takes away what plan_files(), completion_file() and man_file() name whatever the version was,
/// except the state. Goes on when one fails. Folders that hold files of others stay.
Result<void> remove_files(const Layout& layout);

/// State, cache, run folders and /etc/banger.
Result<void> remove_state(const Layout& layout);

/// sonames that the dynamic linker does not find for `file`.
Result<std::vector<std::string>> missing_libraries(const std::string& file);
/// "libldns3 libsystemd0": for the remedy; a soname that is not known stays as it is.
std::string packages_of(const std::vector<std::string>& sonames);

}  // namespace banger::system

#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "banger/plugin.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"
#include "core/plugins/library.hpp"
#include "core/plugins/manifest.hpp"

/// Brings plugins in, one check after the other, so that what is wrong with one is a sentence and
/// never a crash:
///
/// 1. `PluginFiles::find`: folder, manifest and library are files of root or of the owner, writable
/// by
///    no one else, and so is every folder above. All looked at through descriptors that stay open:
///    what was checked is what is read and loaded, whatever happens to the names meanwhile.
/// 2. The manifest is read (manifest.hpp).
/// 3. `Library::open`: the ELF headers fit the file (a truncated library would end the process with
///    SIGBUS inside ld.so), the library is opened by its descriptor, and every field of the door is
///    compared before a function is called.
/// 4. `LoadedPlugin::create`: create() is called, and roles() must be the manifest's.
///
/// The parts that need no manifest are in library.hpp: bangerd-root has no TOML parser.
///
/// A library is never unloaded. All functions may block on the disk; safe from any thread.
namespace banger {

/// What one folder holds for one plugin, checked but not opened. Move-only; holds one descriptor.
struct PluginFiles {
    Manifest manifest;
    std::string library;  ///< path of the .so, or of the executable, for people
    UniqueFd library_fd;
    uid_t owner_uid = 0;  ///< of the library

    /// Of the library's bytes as they are now. Reads all of them.
    [[nodiscard]] Result<Digest> digest() const;
};

/// The plugins of one folder, each admitted or refused, sorted by name. A folder that does not
/// exist has none. A folder that others can write to is one Refusal for the folder. `owner` is
/// trusted beside root.
std::vector<Admission<PluginFiles>> find_plugins(const std::string& folder, uid_t owner);
/// One of them. `stem` is its files' name.
Admission<PluginFiles> find_plugin(const std::string& folder, const std::string& stem, uid_t owner);

}  // namespace banger

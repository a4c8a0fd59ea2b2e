#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "banger/result.hpp"

/// Landlock (landlock(7)), by its system calls: glibc has no wrappers, and Debian 12's header knows
/// less than newer kernels do.
namespace banger::plugin_host {

/// The version of its interface; 0 where this kernel has none, or was started without.
int landlock_version();

/// What a process may still do with files.
struct FileRights {
    std::vector<std::string> programs;  ///< beneath: read, list, run
    std::vector<std::string> read;      ///< this, or beneath: read, list
    std::vector<std::string> devices;   ///< these: read, write
    std::vector<std::string> write;     ///< beneath: everything but run, link and make devices
    std::vector<int> plugin_files;      ///< these open files: read, run
};

/// Takes every other right to files from the calling thread and those it makes from now on, for
/// good; with newer kernels also TCP, abstract sockets and signals to others. What does not exist
/// is left out. Needs no_new_privs. Does nothing where landlock_version() is 0.
Result<void> restrict_files(const FileRights& rights);

}  // namespace banger::plugin_host

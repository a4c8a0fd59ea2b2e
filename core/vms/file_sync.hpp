#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "core/config/config.hpp"
#include "core/guest/identity.hpp"

/// `[[file_sync]]`: what of the owner's home goes into a machine when it is made.
namespace banger {

/// For one machine, all entries together. What is larger goes into the running machine by
/// `banger vm cp`: these files travel in the initramfs, which lives in the guest's RAM.
struct FileSyncLimits {
    std::size_t bytes = 6U << 20;  ///< under guest::max_files_bytes
    std::size_t entries = 2000;    ///< files and folders
    std::size_t depth = 32;        ///< folders in folders
};

struct SyncedFiles {
    /// A folder before what is in it; paths as in the guest, each once: of two entries the later.
    std::vector<guest::GuestFile> files;
    /// What was left out and why, a sentence each.
    std::vector<std::string> warnings;
};

/// Reads the files now, through descriptors: what is checked is what is read, whoever renames or
/// links meanwhile. `home` is the owner's; nothing outside is opened for reading.
///
/// An entry that is not there is a warning, so is a link that leads out of the home. In a folder,
/// links (wherever they lead), sockets, pipes and devices are left out with a warning, and so is a
/// file that cannot be read. Errc::no_space when a limit is passed; Errc::permission_denied when an
/// entry itself cannot be read. Blocks as long as reading takes.
Result<SyncedFiles> collect_file_sync(const std::vector<FileSync>& entries, const std::string& home,
                                      const FileSyncLimits& limits);

}  // namespace banger

#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "banger/result.hpp"

namespace banger::images {

/// Writes a newc cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst of Linux)
/// in memory, byte for byte the same for the same calls: inode numbers count up, times are 0, owner
/// is root.
///
/// The kernel unpacks archives that follow one another, so the initramfs of a machine is the base
/// archive of its kernel and its own small one, concatenated: both are padded to 512 bytes.
class CpioWriter {
public:
    /// `path` is relative, without ".." or empty components. Missing parents are made (0755).
    /// A path given twice, a bad path and more than 4 GiB are Errc::invalid_argument.
    Result<void> add_folder(std::string_view path, std::uint32_t mode);
    Result<void> add_file(std::string_view path, std::uint32_t mode, std::string_view content);
    /// Ends the archive and gives it away.
    std::string finish() &&;

private:
    Result<void> add(std::string_view path, std::uint32_t mode, std::string_view content);
    std::string bytes_;
    std::set<std::string, std::less<>> seen_;
    std::uint32_t next_inode_ = 1;
};

}  // namespace banger::images

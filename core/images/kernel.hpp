#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "banger/result.hpp"

namespace banger::images {

/// The ELF vmlinux inside a bzImage, as Firecracker and PVH boot it.
///
/// Where it lies is in the setup header (Documentation/arch/x86/boot.rst of Linux: payload_offset
/// and payload_length at 0x248 and 0x24c, protocol 2.08 and newer); how it is packed is told by its
/// first bytes: gzip, xz, lzma, lz4 (legacy frame), zstd, bzip2. A file that is an ELF already
/// comes back as it is. Nothing in the file is trusted: every offset is checked, and the result is
/// at most `max_vmlinux` bytes. Errc::corrupt, or Errc::unsupported for a packing that is none of
/// these. Pure but for the CPU it takes: about a second for 50 MiB.
Result<std::string> extract_vmlinux(std::string_view kernel_image);

inline constexpr std::size_t max_vmlinux = 512U << 20;

/// As `uname -r` will say it: from the setup header of a bzImage (kernel_version, boot.rst), or
/// from the banner in an ELF vmlinux. Nothing when there is none, or none that could name a folder.
std::optional<std::string> kernel_version(std::string_view kernel_image);

/// True when an ELF vmlinux has the note that lets a VMM enter it directly
/// (XEN_ELFNOTE_PHYS32_ENTRY).
bool has_pvh_entry(std::string_view vmlinux);

}  // namespace banger::images

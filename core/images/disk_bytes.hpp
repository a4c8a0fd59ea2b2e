#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

namespace banger::images {

/// Bytes [offset, offset + length) of a disk.
struct Extent {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    [[nodiscard]] std::uint64_t end() const { return offset + length; }
    friend bool operator==(const Extent&, const Extent&) = default;
};

/// A disk's content to read, wherever it lies. It does not change meanwhile. One thread.
class DiskBytes {
public:
    virtual ~DiskBytes() = default;
    [[nodiscard]] virtual ByteCount size() const = 0;
    /// Fills `into` from `offset` on. The range lies inside the disk; holes read as zeros.
    virtual Result<void> read(std::uint64_t offset, std::span<std::byte> into) = 0;
    /// The next stretch at or after `offset` that may hold something else than zeros; nothing when
    /// there is none. All may be data where the layer below does not know holes.
    virtual Result<std::optional<Extent>> next_data(std::uint64_t offset) = 0;
};

/// The first `size` bytes of a regular file or block device, which stays open as long as this.
/// Errc::corrupt when it is smaller.
Result<std::unique_ptr<DiskBytes>> open_raw_disk(const UniqueFd& file,
                                                 std::optional<ByteCount> size);

/// A qcow2 overlay over `base`, the raw file it was made from; both stay open as long as this.
/// The base's name inside the overlay is not used, so the overlay cannot lead to another file.
/// Errc::unsupported for what banger's overlays never have: compression, encryption, snapshots,
/// an external data file. Errc::corrupt when its tables point outside.
Result<std::unique_ptr<DiskBytes>> open_qcow2_disk(const UniqueFd& overlay, const UniqueFd& base);

/// The first part of another disk, which outlives this.
std::unique_ptr<DiskBytes> part_of_disk(DiskBytes& disk, ByteCount size);

/// The size that the superblock of the ext4 file system on the disk says. Errc::corrupt when there
/// is none, or one that is larger than the disk.
Result<ByteCount> ext4_size(DiskBytes& disk);

}  // namespace banger::images

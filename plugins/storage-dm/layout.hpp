#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/storage.hpp"
#include "banger/values.hpp"
#include "plugins/storage-dm/block_devices.hpp"

/// What a disk is made of. Pure: numbers and text, no system call.
///
///     sectors 0 … base_size             snapshot of the base (read-only), changes in ROLE.cow
///     sectors base_size … size          linear, in ROLE.data
///
/// A root disk has both parts, or only the first when it is as large as its image. A work disk has
/// only the second: what little its base holds is copied. Past the base nothing needs copying on
/// write, so growing a disk is growing a sparse file.
namespace banger::dm {

/// Unused at both ends of a data file and at the end of a store. The host's udev looks for file
/// systems and RAID members at the ends of every loop device: it must not find the guest's.
inline constexpr std::uint64_t margin = std::uint64_t{1} << 20;

/// 64 KiB. Measured: docs/decisions/0007-dm-snapshot-not-thin.md. A disk keeps what it was made
/// with.
inline constexpr std::uint32_t default_chunk_sectors = 128;

/// No disk is larger: keeps every sum below far from 2^63.
inline constexpr ByteCount max_size = ByteCount::gib(std::uint64_t{64} << 10);
/// Sizes are multiples of this, a page. The last chunk of a base may be a part of one.
inline constexpr std::uint64_t granularity = 4096;

/// What is kept of a disk besides its content.
struct DiskRecord {
    ByteCount size;  ///< as the guest sees it
    /// The part that is a snapshot; 0 for a work disk.
    ByteCount base_size;
    /// When the base was last written (st_mtim in nanoseconds): together with its size how the base
    /// is known again. A snapshot over another file would be garbage.
    std::uint64_t base_changed = 0;
    std::uint32_t owner_uid = 0;
    std::uint32_t chunk_sectors = default_chunk_sectors;
    friend bool operator==(const DiskRecord&, const DiskRecord&) = default;

    [[nodiscard]] ByteCount data_size() const {
        return ByteCount::bytes(size.count() - base_size.count());
    }
};

/// Lines of "name value".
std::string encode(const DiskRecord& record);
/// Errc::corrupt for anything that encode() does not write, and for sizes out of range.
Result<DiskRecord> decode(std::string_view text);

/// Errc::invalid_argument for a size that is no multiple of the granularity, zero or too large.
Result<void> check_size(ByteCount size);

/// Of ROLE.cow: room for a change of every chunk of the base, so that the store is never what runs
/// full. It is a sparse file: what is not used takes no space.
std::uint64_t store_size(ByteCount base_size, std::uint32_t chunk_sectors);
/// Of ROLE.data.
std::uint64_t data_file_size(ByteCount data_size);

/// The devices below a disk. `base` and `store` are read when it has a snapshot part, `data` when
/// it has a linear one.
struct Parts {
    DeviceNumber base;
    DeviceNumber store;
    DeviceNumber data;
};
std::vector<Target> table_of(const DiskRecord& record, const Parts& parts);

enum class SnapshotState {
    good,
    full,    ///< no room in the store: cannot happen with ours
    broken,  ///< the store could not be written: what the guest reads is not to be trusted
};
/// The status line of a snapshot target. Errc::corrupt for a line that no kernel writes.
Result<SnapshotState> parse_snapshot_status(std::string_view text);

/// Names, derived from what is checked already.
std::string key_of(const VmId& vm, VolumeRole role);  ///< "VMID-root"
std::string name_of(const VmId& vm, VolumeRole role, std::uint32_t owner_uid);
std::string uuid_of(const VmId& vm, VolumeRole role, std::uint32_t owner_uid);

/// The inverse of key_of() and uuid_of() together; nothing for what is not ours.
struct Identity {
    VmId vm;
    VolumeRole role = VolumeRole::root;
    std::string uuid;
};
std::optional<Identity> parse_identity(std::string_view key, std::string_view uuid);

}  // namespace banger::dm

#pragma once

#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

namespace banger {

/// Which disk of a machine. A machine has at most one of each.
enum class VolumeRole {
    root,  ///< the image's file system, writable
    work,  ///< /root of the guest
};
std::string_view to_string(VolumeRole role);
std::optional<VolumeRole> parse_volume_role(std::string_view word);

/// What a VMM has to understand to open a disk.
enum class DiskFormat {
    raw,    ///< a file or block device with the bytes of the disk
    qcow2,  ///< an overlay in QEMU's format, with a backing file
};
std::string_view to_string(DiskFormat format);
std::optional<DiskFormat> parse_disk_format(std::string_view word);

struct VolumeRequest {
    VmId vm;
    VolumeRole role = VolumeRole::root;
    /// The bytes the disk starts with: an open raw file, readable, that never changes while a
    /// volume of it exists. Borrowed for the length of the call.
    int base_fd = -1;
    /// At least the size of the base; a smaller one is Errc::invalid_argument.
    ByteCount size;
    /// What the back end of this machine can open, best first. Never empty.
    std::vector<DiskFormat> formats;
    /// Who will open the disk: the uid the VMM runs as.
    std::uint32_t owner_uid = 0;
};

/// A disk. A plain value: nothing is freed when it goes out of scope.
struct Volume {
    VmId vm;
    VolumeRole role = VolumeRole::root;
    std::string path;  ///< absolute: what the VMM opens
    DiskFormat format = DiskFormat::raw;
    ByteCount size;  ///< as the guest sees it
    friend bool operator==(const Volume&, const Volume&) = default;
};

struct VolumeUsage {
    ByteCount size;       ///< as the guest sees it
    ByteCount allocated;  ///< taken on the host by this volume alone, not by its base
    /// How much it can still grow before the guest sees I/O errors; nothing when only the host's
    /// free space limits it.
    std::optional<ByteCount> headroom;
    friend bool operator==(const VolumeUsage&, const VolumeUsage&) = default;
};

/// Optional half of Storage: a volume made from the present content of another.
///
/// Same threads and errors as Storage. A clone is independent: removing the source leaves it whole.
class StorageCloning {
public:
    virtual ~StorageCloning() = default;
    /// The machine that owns `source` is stopped or paused. All or nothing; Errc::already_exists
    /// when the target has that volume.
    virtual Result<Volume> clone(const Volume& source, const VmId& target,
                                 std::stop_token stop) = 0;
};

/// Makes disks.
///
/// Core calls every method from a worker thread: one call at a time for one machine, many at once
/// for different ones. Methods may block; those given a stop_token return Errc::cancelled soon
/// after it is triggered. Removal cannot be cancelled. None throws.
class Storage {
public:
    virtual ~Storage() = default;
    /// Makes the disk. All or nothing: on failure nothing of it is left. A machine that has this
    /// volume already gets Errc::already_exists and keeps it. No space is Errc::no_space.
    virtual Result<Volume> create(const VolumeRequest& request, std::stop_token stop) = 0;
    /// Makes a volume usable after a reboot of the host, a stop of the machine or a resize() (maps
    /// devices). `base` is the base of its create(), opened again, for a root volume whose image
    /// core still has; else it is invalid. A plugin that keeps only what differs from the base has
    /// no other way to it. Idempotent. Errc::not_found when the content is lost.
    virtual Result<Volume> activate(const Volume& volume, const UniqueFd& base,
                                    std::stop_token stop) = 0;
    /// The opposite of activate(): frees what only a running machine needs, keeps the content.
    /// Succeeds when it is not active or gone.
    virtual Result<void> deactivate(const VmId& vm) = 0;
    /// Grows the disk of a stopped machine; activate() comes before its next use. A smaller size is
    /// Errc::invalid_argument; the same size succeeds.
    virtual Result<Volume> resize(const Volume& volume, ByteCount size, std::stop_token stop) = 0;
    /// Errc::not_found when the volume is gone.
    virtual Result<VolumeUsage> usage(const Volume& volume) = 0;
    /// Removes every volume of the machine. Succeeds when there is none. Runs every removal step
    /// even when one fails, and then reports them together.
    virtual Result<void> remove(const VmId& vm) = 0;
    /// Called once, before anything else, with every volume core remembers. Adopts those still
    /// there, removes the plugin's own leftovers that core does not know, and returns the machines
    /// of which a volume is lost.
    virtual Result<std::vector<VmId>> recover(std::span<const Volume> remembered) = 0;
    /// The optional half, or null. Owned by the plugin.
    virtual StorageCloning* cloning() = 0;
    /// Rows for `banger doctor`. Changes nothing.
    virtual std::vector<Check> checks(std::stop_token stop) = 0;
};

}  // namespace banger

#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

/// Root file systems: tar streams become an ext4 image in one pass.
///
/// Nothing is extracted on the host: entries go straight into the image, so there is no path to
/// traverse, no owner to lose and nothing to clean up but one file. No root, no mount, no loop
/// device.
///
/// Kept exactly: bytes of names, types (files, folders, symbolic and hard links, devices, fifos),
/// modes with set-id and sticky bits, numeric owners, modification times to the nanosecond,
/// extended attributes (file capabilities, user.*, trusted.*, POSIX ACLs; those of name spaces that
/// ext4 does not have are left out), holes.
///
/// Deterministic: the same layers and options give the same bytes, from files or pipes. No clock
/// and no random number goes in; the UUID and the hash seed come from a digest of all entries'
/// headers and of Ext4Options::identity.
///
/// The result mounts on Debian 12 (Linux 6.1), passes `e2fsck -fn`, has a journal and checksums,
/// and can be grown online (EXT4_IOC_RESIZE_FS) to ext4_growth_limit. Its inode tables are zero
/// already and marked so, hence the guest's kernel has nothing to initialise in the background. The
/// file is sparse.
///
/// Thread: any; a call blocks for its whole length, has at most two threads that unpack layers, and
/// keeps no state between calls. Memory is bounded by about 64 MiB whatever the size of the image,
/// and what the packing of two layers asks for (the window of zstd or xz, at most 128 MiB each). On
/// failure the image file has undefined
/// content and the caller discards it.
namespace banger::images {

/// How far an image can be grown online.
inline constexpr ByteCount ext4_growth_limit = ByteCount::gib(2048);

/// What a stream may ask of this host at most: a few bytes of tar can describe a lot of work.
struct Ext4Limits {
    /// Entries of all layers together.
    std::uint64_t entries = 8'000'000;
    /// Bytes of data (not of holes) of all files together.
    ByteCount data = ByteCount::gib(1024);
    /// Components of one path.
    std::size_t depth = 1024;
};

struct Ext4Progress {
    /// Of the layers as they come, so that a known size gives a share.
    std::uint64_t bytes_read = 0;
    std::uint64_t entries = 0;
    std::uint64_t bytes_written = 0;  ///< data of files
};

struct Ext4Options {
    /// At most 16 bytes.
    std::string label{};
    /// Exactly this size (a rest under 4 KiB stays unused). Too small for the content:
    /// Errc::no_space. Nothing: content × headroom_percent, at least `at_least`, rounded up to
    /// whole 128 MiB.
    std::optional<ByteCount> size{};
    unsigned headroom_percent = 125;
    ByteCount at_least{};
    /// Goes into the UUID; the digest of an image where one is known.
    std::string identity{};
    Ext4Limits limits{};
    /// The layers are known to be whole (their digests were checked), so one that stops without
    /// tar's end mark, as `umoci insert` writes it, is not taken for a broken one.
    bool are_layers_whole = false;
    /// Called on the caller's thread, about once a MiB read. Must not block for long.
    std::function<void(const Ext4Progress&)> on_progress{};
};

struct Ext4Summary {
    ByteCount size;  ///< of the file system, and of the image file when no size was asked for
    ByteCount used;  ///< of that, taken by content and the file system's own structures
    std::uint64_t entries = 0;
    std::array<std::uint8_t, 16> uuid{};
    unsigned readings = 1;  ///< of the layers: 2 where the first guessed wrong what is deleted
};

/// Writes `layers`, in order, into the regular file `image`, which is emptied first. It must be
/// open for reading and writing, needs no name, and is not synced to disk here.
///
/// Each layer is a readable descriptor (pipe, socket or file, read from where it stands) of a tar
/// stream: ustar, PAX or GNU, plain or in gzip, zstd, xz or bzip2, told by the first bytes. In
/// every layer OCI whiteouts (`.wh.NAME`, `.wh..wh..opq`) remove what layers below put there and
/// leave no trace themselves.
///
/// Data that a layer further up replaces or deletes is not written, and neither the image file nor
/// its computed size has room for it. For this the layers are read from the top down, which is why
/// of several those that are no files are first kept in `image`, behind the file system. Whether
/// data will be deleted is guessed from the paths alone; where the outcome was another, the layers
/// are read a second time (Ext4Summary::readings).
///
/// Paths are those inside the image: leading "/" and "./" mean nothing, ".." is refused. Folders
/// that are missing on the way are made (root's, 0755), though not for a whiteout. A symbolic link
/// on the way is followed inside the image, as the guest would; the last component never is: a
/// later entry of the same path replaces the earlier, and a folder that meets a folder keeps its
/// content and takes the new attributes.
///
/// Errors: Errc::corrupt when a stream is no tar, is damaged, ends early, or asks for what ext4
/// cannot hold or Ext4Limits does not allow; Errc::no_space when the host's disk or the given size
/// is full; Errc::cancelled soon after `stop` is triggered, also while waiting for a pipe;
/// Errc::invalid_argument for options or an `image` that cannot be.
Result<Ext4Summary> write_ext4_from_layers(std::span<const UniqueFd> layers, const UniqueFd& image,
                                           const Ext4Options& options, std::stop_token stop);

/// The root folder of an empty file system.
struct EmptyExt4 {
    ByteCount size{};
    std::string label{};
    std::uint32_t root_uid = 0;
    std::uint32_t root_gid = 0;
    std::uint32_t root_mode = 0755;  ///< permission bits
    /// Goes into the UUID: two disks of one machine must differ (the machine's id and the disk's
    /// role).
    std::string identity{};
};

/// Makes an empty file system in the regular file `image`, which is emptied first and becomes
/// `request.size` long. Sparse, deterministic, milliseconds whatever the size. At least 8 MiB.
Result<void> make_empty_ext4(const UniqueFd& image, const EmptyExt4& request);

}  // namespace banger::images

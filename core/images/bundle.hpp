#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "banger/image_source.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"
#include "core/images/disk_bytes.hpp"

/// Bundles: an image or a kernel, ready to use, as one file to hand around.
///
/// A zstd frame around a tar archive (POSIX pax) with exactly these members, in this order:
///
///     image    manifest.json  rootfs.ext4
///     kernel   manifest.json  vmlinux  initramfs.img  modules.ext4    (kernel_tree.hpp)
///
/// There is one right form: regular files, root's, mode 0644, of the time 0; the .ext4 files in
/// GNU's sparse format 1.0, the others plain. So the reader knows every header before it comes and
/// compares bytes; nothing in the archive is ever used as a file name. `tar` can read it too.
///
/// The same content gives the same bytes, whatever the number of processors, with one version of
/// libzstd.
namespace banger::images {

inline constexpr std::uint32_t bundle_version = 1;
inline constexpr ByteCount max_bundle_manifest = ByteCount::mib(1);

/// One file of a bundle, as the manifest has it.
struct BundleFile {
    std::string name;
    ByteCount size;    ///< of the file
    ByteCount stored;  ///< of its bytes in the archive: without holes
    /// Of the bytes as stored; for a sparse file followed by its map, as text.
    Digest digest;
    friend bool operator==(const BundleFile&, const BundleFile&) = default;
};

/// manifest.json, field by field. Strict: an unknown field is refused.
struct BundleManifest {
    std::uint32_t version = bundle_version;
    ArtifactKind kind = ArtifactKind::image;
    ArtifactName name;  ///< what its publisher called it; whoever pulls it decides
    std::string distro;
    std::string architecture;
    std::string description;
    std::string kernel_reference;  ///< of an image; empty for the default kernel
    std::string kernel_version;    ///< of a kernel, as uname -r says it
    RunConfig run_config;          ///< of an image
    std::vector<BundleFile> files;
    friend bool operator==(const BundleManifest&, const BundleManifest&) = default;
};

/// As in the archive. Errc::invalid_argument names the field that is wrong.
std::string encode_bundle_manifest(const BundleManifest& manifest);
Result<BundleManifest> decode_bundle_manifest(std::string_view text);

/// What the files of a bundle may be at most, whatever its manifest says. A few bytes of zstd can
/// ask for a lot.
struct BundleLimits {
    ByteCount root_file_system = ByteCount::gib(2048);
    ByteCount vmlinux = ByteCount::mib(512);
    ByteCount initramfs = ByteCount::mib(512);
    ByteCount modules = ByteCount::gib(8);
    /// Unpacked bytes for each packed one, over what is free.
    std::uint64_t ratio = 1000;
    ByteCount free_of_ratio = ByteCount::mib(64);
};

/// How far: bytes of content out of all.
using BundleProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

struct BundleReadOptions {
    BundleLimits limits{};
    BundleProgress on_progress{};  ///< called on the caller's thread; must not block for long
};

/// Reads a bundle of an image from where `bundle` (a file or a pipe) stands to its end, and fills
/// `image`, an empty regular file, with the root file system: holes stay holes. One pass; memory is
/// bounded by the window (at most 128 MiB, usually 8) and the map. On failure `image` has undefined
/// content and the caller discards it. It is not synced here.
///
/// Errc::corrupt when anything is not as it must be; Errc::unsupported for a manifest of a later
/// version; Errc::no_space; Errc::cancelled soon after `stop` is triggered. Any thread.
Result<BundleManifest> read_image_bundle(const UniqueFd& bundle, const UniqueFd& image,
                                         const BundleReadOptions& options, std::stop_token stop);

/// The same for a kernel, into an open, empty folder: the files of kernel_tree.hpp, each fsynced.
Result<BundleManifest> read_kernel_bundle(const UniqueFd& bundle, const UniqueFd& folder,
                                          const BundleReadOptions& options, std::stop_token stop);

struct BundleWriteOptions {
    unsigned threads = 1;  ///< that compress beside the caller's; changes no byte
    int level = 6;         ///< of zstd
    BundleProgress on_progress{};
};

struct WrittenBundle {
    BundleManifest manifest;
    Digest digest;  ///< of the whole bundle
    ByteCount size;
};

/// Writes a bundle into `target`, an empty file or a pipe. `files` are the contents in the order of
/// the format; `manifest.files` is filled in here. Reads every content twice: its digests come
/// first in the file. A stretch of 64 KiB of zeros becomes a hole, whether it was one or not. Not
/// synced. Errc::corrupt when an .ext4 holds no file system of its size; Errc::no_space;
/// Errc::cancelled.
Result<WrittenBundle> write_bundle(BundleManifest manifest, std::span<DiskBytes* const> files,
                                   const UniqueFd& target, const BundleWriteOptions& options,
                                   std::stop_token stop);

/// "team-base-0123456789ab.tar.zst": a name that changes with the content.
std::string bundle_file_name(const ArtifactName& name, const Digest& digest);

}  // namespace banger::images

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/images/bundle.hpp"

/// The one form of a bundle's archive, for its writer and its reader.
namespace banger::images {

inline constexpr std::size_t tar_block = 512;
inline constexpr std::string_view manifest_name = "manifest.json";
/// What becomes a hole, and is aligned so.
inline constexpr std::uint64_t hole_unit = std::uint64_t{64} << 10;
inline constexpr std::size_t max_extents = std::size_t{1} << 20;

inline std::span<const char> as_chars(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A member after the manifest.
struct BundleMember {
    std::string_view name;
    bool is_sparse;  ///< an ext4 file system
    ByteCount BundleLimits::*limit;
};
std::span<const BundleMember> bundle_members(ArtifactKind kind);

/// The header of a plain regular file.
std::string plain_header(std::string_view name, std::uint64_t size);
/// The two headers and the record of a sparse one of `size` bytes, of which `stored` with the map
/// (`map_size`, padded) are in the archive.
std::string sparse_headers(std::string_view name, ByteCount size, std::uint64_t member_size);
/// "COUNT\nOFFSET\nLENGTH\n…", without padding.
std::string sparse_map(std::span<const Extent> extents);
/// Zeros up to a whole block.
std::uint64_t padding_of(std::uint64_t size);

/// The size field of a tar header: octal, or base-256 for what is larger. Nothing when it is
/// neither.
std::optional<std::uint64_t> read_size_field(std::string_view header);

}  // namespace banger::images

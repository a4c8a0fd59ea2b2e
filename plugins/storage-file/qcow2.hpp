#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/values.hpp"

/// The little of QEMU's disk format (version 3, docs/interop/qcow2 of QEMU) that an empty overlay
/// needs. Written here and not by qemu-img: README.md says why.
namespace banger::qcow2 {

/// What an overlay's header says.
struct Header {
    ByteCount size;                ///< as the guest sees it
    std::uint64_t l1_entries = 0;  ///< each maps 512 MiB
    std::string backing_file;      ///< empty when there is none
};

/// Bytes that an L1 entry maps with 64 KiB clusters.
inline constexpr std::uint64_t bytes_per_l1_entry = std::uint64_t{512} << 20;
/// The most that an overlay may grow to later without moving a table: one cluster of L1 entries.
inline constexpr std::uint64_t room_to_grow = 8192 * bytes_per_l1_entry;

/// Fills an empty file with an overlay over the raw file `backing_file` (absolute, at most 1023
/// bytes). Constant time: 256 KiB, mostly a hole. Errc::invalid_argument, no_space.
Result<void> write_overlay(int fd, ByteCount size, std::string_view backing_file);

/// Errc::corrupt for what is not version 3 as written above.
Result<Header> read_header(int fd);

/// Grows the disk. Nobody has it open. Errc::unsupported past the room that its table has.
Result<void> grow(int fd, ByteCount size);

}  // namespace banger::qcow2

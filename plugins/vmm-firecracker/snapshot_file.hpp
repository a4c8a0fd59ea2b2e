#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "banger/result.hpp"

/// The one file that VmSnapshots::save() writes: a head, then Firecracker's state file, then its
/// memory file, each from a multiple of 4096 on, so that a file system that shares blocks can.
/// Pure, but for host_of_snapshots().
namespace banger::firecracker {

/// What a snapshot is of. Everything in it but the sizes must be the same where it is restored.
struct SnapshotHead {
    std::string firecracker;  ///< version, "1.12.1": what is in the state differs between them
    std::string host;         ///< host_words(): the guest has seen this CPU
    std::string config;       ///< of the machine, as machine_config() writes it
    std::uint64_t state_size = 0;
    std::uint64_t memory_size = 0;

    [[nodiscard]] std::uint64_t state_offset() const;
    [[nodiscard]] std::uint64_t memory_offset() const;
    friend bool operator==(const SnapshotHead&, const SnapshotHead&) = default;
};

inline constexpr std::uint64_t snapshot_head_size = 64U << 10;
inline constexpr std::uint64_t largest_snapshot_state = 64U << 20;
inline constexpr std::uint64_t largest_snapshot_memory = std::uint64_t{1} << 44;

/// Exactly snapshot_head_size bytes. Errc::invalid_argument when the configuration is too long.
Result<std::string> encode(const SnapshotHead& head);
/// Of the first snapshot_head_size bytes of a file; believes nothing. Errc::corrupt.
Result<SnapshotHead> decode_snapshot_head(std::string_view bytes);

/// Processor and kernel of a host, in one printable line: `cpuinfo` is the text of /proc/cpuinfo.
std::string host_words(std::string_view cpuinfo, std::string_view kernel_release);
/// Of this one.
std::string host_of_snapshots();

}  // namespace banger::firecracker

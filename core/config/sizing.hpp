#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"
#include "core/config/config.hpp"

namespace banger {

/// What sizes are worked out from.
struct HostSize {
    std::uint32_t cpus = 0;  ///< that this process may run on
    ByteCount memory;        ///< physical
    /// Reads sched_getaffinity(2) and sysinfo(2).
    static Result<HostSize> of_this_host();
};

/// What a command asked for, e.g. by `--vcpu`; nothing where it left the choice to banger.
struct SizeRequest {
    std::optional<std::uint32_t> vcpus = {};
    std::optional<ByteCount> memory = {};
    std::optional<ByteCount> disk = {};
    std::optional<ByteCount> system_overlay = {};
};

struct MachineSizes {
    Sourced<std::uint32_t> vcpus;
    Sourced<ByteCount> memory;
    Sourced<ByteCount> disk;            ///< the work disk
    Sourced<ByteCount> system_overlay;  ///< the root disk
};

/// For each size: what was asked for, else [vm_defaults], else the host's share (a quarter of the
/// CPUs up to 4, an eighth of the memory up to 8 GiB, 8 GiB of disk), else, where that share is
/// less, the floor (2 vCPU, 2048 MiB, 8 GiB). An explicit size may be below the floor: it is the
/// user's.
///
/// Errc::invalid_argument, with the accepted range as the remedy, for what no machine can run with:
/// 0 or more than 256 vCPU, under 128 MiB or more than the host's memory, disks under 64 MiB or
/// over 16 TiB (the largest ext4 with 4 KiB blocks and 32-bit block numbers). Pure.
Result<MachineSizes> work_out_sizes(const SizeRequest& request, const Config::VmDefaults& defaults,
                                    const HostSize& host);

/// As effective_values(), with the sizes that hold on this host where nobody set them, and a word
/// for programs that are looked up.
std::vector<EffectiveValue> effective_values(const Config& config, const HostSize& host);

/// The first line of `vm run`: "spec: 2 vCPU (floor), 2 GiB RAM (--memory), 8 GiB disk (default)".
std::string spec_line(const MachineSizes& sizes);

}  // namespace banger

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/render/terminal.hpp"
#include "core/protocol/vm.hpp"

/// `banger vm stats`, but for the asking. Pure.
namespace banger::cli {

/// One machine, as `--format json` prints it. What is not known is left out.
struct StatsRow {
    std::string id;
    std::string name;
    std::string state;
    std::optional<std::string> reason;  ///< why the guest's part is not there
    std::optional<double> cpu_percent;  ///< of all the guest's CPUs together, as the guest says
    std::optional<std::uint32_t> cpus;
    std::optional<double> load;
    std::optional<std::uint64_t> memory;
    std::optional<std::uint64_t> memory_used;
    std::optional<protocol::FileSystem> root;
    std::optional<protocol::FileSystem> work;
    std::optional<double> host_cpu_percent;  ///< of one CPU of the host: 200 is two of them
    std::optional<std::uint64_t> host_memory;
    std::vector<protocol::DiskUsage> disks;
};

/// From two answers; without the first, or when the machine was started in between, rates are left
/// out. The guest's numbers are foreign: nothing they say can overflow.
StatsRow stats_row(const std::optional<protocol::StatsOfVm>& before,
                   const protocol::StatsOfVm& now);

std::string stats_table(const std::vector<StatsRow>& rows, const Style& style, unsigned width);

/// A sentence for each disk that can grow by less than a twentieth of its size.
std::string disk_warnings(const std::vector<StatsRow>& rows);

}  // namespace banger::cli

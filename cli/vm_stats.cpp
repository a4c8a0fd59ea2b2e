#include "cli/vm_stats.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cli/render/table.hpp"
#include "cli/render/text.hpp"

namespace banger::cli {

namespace {

using Colour = Style::Colour;
using protocol::StatsOfVm;

constexpr const char* unknown = "-";

std::optional<double> share(std::uint64_t part, std::uint64_t whole) {
    if (whole == 0 || part > whole) return std::nullopt;
    return 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

/// Rounded to tenths, so that JSON shows no noise.
double tenths(double value) { return std::round(value * 10) / 10; }

std::optional<double> guest_cpu(const std::optional<StatsOfVm>& before, const StatsOfVm& now) {
    if (!before || !before->guest || !now.guest) return std::nullopt;
    if (now.guest->cpu_busy_ms < before->guest->cpu_busy_ms ||
        now.guest->cpu_idle_ms < before->guest->cpu_idle_ms)
        return std::nullopt;
    const std::uint64_t busy = now.guest->cpu_busy_ms - before->guest->cpu_busy_ms;
    const std::uint64_t idle = now.guest->cpu_idle_ms - before->guest->cpu_idle_ms;
    if (idle > UINT64_MAX - busy) return std::nullopt;
    const std::optional<double> percent = share(busy, busy + idle);
    return percent ? std::optional(tenths(*percent)) : std::nullopt;
}

std::optional<double> host_cpu(const std::optional<StatsOfVm>& before, const StatsOfVm& now) {
    if (!before || !before->vmm_cpu_ms || !now.vmm_cpu_ms ||
        *now.vmm_cpu_ms < *before->vmm_cpu_ms || now.sampled_at_ms <= before->sampled_at_ms)
        return std::nullopt;
    return tenths(100.0 * static_cast<double>(*now.vmm_cpu_ms - *before->vmm_cpu_ms) /
                  static_cast<double>(now.sampled_at_ms - before->sampled_at_ms));
}

std::string percent_text(const std::optional<double>& percent) {
    if (!percent) return unknown;
    char text[32];
    std::snprintf(text, sizeof text, "%.1f%%", *percent);
    return text;
}

std::string of_text(std::uint64_t used, std::uint64_t size) {
    return size_text(used) + " / " + size_text(size);
}

std::string usage_text(const std::optional<protocol::FileSystem>& usage) {
    return usage ? of_text(usage->used, usage->size) : unknown;
}

std::string host_disk(const StatsRow& row) {
    if (row.disks.empty()) return unknown;
    std::uint64_t sum = 0;
    for (const protocol::DiskUsage& disk : row.disks)
        sum += disk.allocated;
    return size_text(sum);
}

}  // namespace

StatsRow stats_row(const std::optional<StatsOfVm>& before, const StatsOfVm& now) {
    StatsRow row;
    row.id = now.id;
    row.name = now.name;
    row.state = now.state;
    if (!now.reason.empty()) row.reason = now.reason;
    row.cpu_percent = guest_cpu(before, now);
    row.host_cpu_percent = host_cpu(before, now);
    row.host_memory = now.vmm_memory;
    row.disks = now.disks;
    if (!now.guest) return row;
    row.cpus = now.guest->cpus;
    row.load = now.guest->load;
    row.memory = now.guest->memory;
    row.memory_used = now.guest->memory - std::min(now.guest->memory, now.guest->memory_available);
    row.root = now.guest->root;
    row.work = now.guest->work;
    return row;
}

std::string stats_table(const std::vector<StatsRow>& rows, const Style& style, unsigned width) {
    Table table(
        {"NAME", "STATE", "CPU", "MEMORY", "/", "/root", "HOST CPU", "HOST MEMORY", "HOST DISK"});
    for (const StatsRow& row : rows)
        table.add({{row.name, Colour::bold},
                   row.state,
                   percent_text(row.cpu_percent),
                   row.memory ? of_text(*row.memory_used, *row.memory) : unknown,
                   usage_text(row.root),
                   usage_text(row.work),
                   percent_text(row.host_cpu_percent),
                   row.host_memory ? size_text(*row.host_memory) : unknown,
                   host_disk(row)});
    return table.text(style, width);
}

std::string disk_warnings(const std::vector<StatsRow>& rows) {
    std::string text;
    for (const StatsRow& row : rows)
        for (const protocol::DiskUsage& disk : row.disks)
            if (disk.headroom && *disk.headroom < disk.size / 20)
                text += "note: the " + printable(disk.role) + " disk of " + printable(row.name) +
                        " can take " + size_text(*disk.headroom) +
                        " more before its guest sees errors; free some space on this host\n";
    return text;
}

}  // namespace banger::cli

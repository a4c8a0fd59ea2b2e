#include "daemons/vsock-agent/stats.hpp"

#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

using guest::FileSystemUsage;
using guest::GuestStats;

namespace {

std::uint64_t field_kib(std::string_view meminfo, std::string_view name) {
    const std::size_t at = meminfo.find(name);
    if (at == std::string_view::npos) return 0;
    return std::strtoull(std::string(meminfo.substr(at + name.size(), 32)).c_str(), nullptr, 10);
}

void parse_cpu(std::string_view stat, GuestStats& stats) {
    // "cpu  user nice system idle iowait irq softirq steal …" in hundredths of a second.
    constexpr std::size_t idle = 3;
    constexpr std::size_t iowait = 4;
    const std::string line(stat.substr(0, stat.find('\n')));
    const char* rest = line.c_str() + std::min<std::size_t>(line.size(), 4);
    for (std::size_t at = 0; at < 8; ++at) {
        char* end = nullptr;
        const std::uint64_t ms = std::strtoull(rest, &end, 10) * 10;
        if (end == rest) break;
        rest = end;
        (at == idle || at == iowait ? stats.cpu_idle_ms : stats.cpu_busy_ms) += ms;
    }
    for (std::size_t at = 0; (at = stat.find("\ncpu", at)) != std::string_view::npos; ++at)
        ++stats.cpus;
}

FileSystemUsage usage_of(const char* path) {
    struct statvfs info {};
    if (statvfs(path, &info) != 0) return {};
    return {info.f_blocks * info.f_frsize, (info.f_blocks - info.f_bfree) * info.f_frsize};
}

}  // namespace

GuestStats parse_stats(std::string_view stat, std::string_view meminfo, std::string_view loadavg) {
    GuestStats stats;
    parse_cpu(stat, stats);
    stats.memory_total_bytes = field_kib(meminfo, "MemTotal:") * 1024;
    stats.memory_available_bytes = field_kib(meminfo, "MemAvailable:") * 1024;
    const std::string load(loadavg);
    char* rest = nullptr;
    stats.load_1 = std::strtod(load.c_str(), &rest);
    stats.load_5 = std::strtod(rest, &rest);
    stats.load_15 = std::strtod(rest, &rest);
    return stats;
}

GuestStats machine_stats() {
    GuestStats stats =
        parse_stats(read_text("/proc/stat").value_or(""), read_text("/proc/meminfo").value_or(""),
                    read_text("/proc/loadavg").value_or(""));
    stats.root = usage_of("/proc/1/root/.");
    stats.work = usage_of("/proc/1/root/root");
    return stats;
}

}  // namespace banger::agent

#include "core/config/sizing.hpp"

#include <sched.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <cerrno>

namespace banger {

namespace {

constexpr std::uint32_t floor_vcpus = 2;
constexpr std::uint32_t most_shared_vcpus = 4;
constexpr std::uint32_t most_vcpus = 256;
constexpr ByteCount floor_memory = ByteCount::mib(2048);
constexpr ByteCount most_shared_memory = ByteCount::gib(8);
constexpr ByteCount least_memory = ByteCount::mib(128);
constexpr ByteCount usual_disk = ByteCount::gib(8);
constexpr ByteCount least_disk = ByteCount::mib(64);
constexpr ByteCount most_disk = ByteCount::gib(16 * 1024);

Source flag(std::string_view name) { return {Source::Kind::flag, std::string(name)}; }
Source floor_source() { return {Source::Kind::builtin, "floor"}; }

/// Whole MiB: what a VMM takes as memory, and more than any block size.
ByteCount rounded(ByteCount size, std::uint64_t mib = 1) {
    return ByteCount::mib(size.in_mib() / mib * mib);
}

Sourced<std::uint32_t> shared_vcpus(const HostSize& host) {
    const std::uint32_t share = std::min(host.cpus / 4, most_shared_vcpus);
    if (share < floor_vcpus) return {floor_vcpus, floor_source()};
    return {share, {Source::Kind::host, std::to_string(host.cpus) + " CPUs"}};
}

Sourced<ByteCount> shared_memory(const HostSize& host) {
    const ByteCount eighth = ByteCount::bytes(host.memory.count() / 8);
    // A multiple of 256 MiB: the kernel keeps some of the memory, so an eighth is never round.
    const ByteCount share = rounded(std::min(eighth, most_shared_memory), 256);
    if (share < floor_memory) return {floor_memory, floor_source()};
    return {share, {Source::Kind::host, host.memory.text() + " RAM"}};
}

template <class T>
Sourced<T> choose(const std::optional<T>& asked, std::string_view flag_name,
                  const Sourced<std::optional<T>>& configured, Sourced<T> otherwise) {
    if (asked) return {*asked, flag(flag_name)};
    if (configured.value) return {*configured.value, configured.source};
    return otherwise;
}

Error refuse(const std::string& what, const Source& source, const std::string& remedy) {
    return {Errc::invalid_argument, what + " (" + source.text() + ")", remedy};
}

Result<void> check_vcpus(const Sourced<std::uint32_t>& vcpus) {
    if (*vcpus >= 1 && *vcpus <= most_vcpus) return ok();
    return refuse(std::to_string(*vcpus) + " vCPU are more or fewer than a machine can have",
                  vcpus.source, "Use --vcpu with 1 to " + std::to_string(most_vcpus) + ".");
}

Result<void> check_memory(const Sourced<ByteCount>& memory, const HostSize& host) {
    const std::string range =
        "Use --memory with " + least_memory.text() + " to " + host.memory.text() + ".";
    if (*memory < least_memory)
        return refuse("no machine runs in " + memory->text() + " of memory", memory.source, range);
    if (*memory > host.memory)
        return refuse("a machine of " + memory->text() + " is larger than this host, which has " +
                          host.memory.text(),
                      memory.source, range);
    return ok();
}

Result<void> check_disk(const Sourced<ByteCount>& disk, const std::string& setting) {
    if (*disk >= least_disk && *disk <= most_disk) return ok();
    return refuse(
        "a disk of " + disk->text() + " is not possible", disk.source,
        "Use " + setting + " with " + least_disk.text() + " to " + most_disk.text() + ".");
}

}  // namespace

Result<HostSize> HostSize::of_this_host() {
    cpu_set_t cpus;
    if (::sched_getaffinity(0, sizeof cpus, &cpus) != 0)
        return Error::from_errno(errno, "sched_getaffinity");
    struct sysinfo host {};
    if (::sysinfo(&host) != 0) return Error::from_errno(errno, "sysinfo");
    return HostSize{static_cast<std::uint32_t>(CPU_COUNT(&cpus)),
                    ByteCount::bytes(std::uint64_t{host.totalram} * host.mem_unit)};
}

Result<MachineSizes> work_out_sizes(const SizeRequest& request, const Config::VmDefaults& defaults,
                                    const HostSize& host) {
    MachineSizes sizes;
    sizes.vcpus = choose(request.vcpus, "--vcpu", defaults.vcpu, shared_vcpus(host));
    sizes.memory = choose(request.memory, "--memory", defaults.memory, shared_memory(host));
    sizes.disk = choose(request.disk, "--disk-size", defaults.disk_size, {usual_disk, {}});
    sizes.system_overlay = choose(request.system_overlay, "--system-overlay-size",
                                  defaults.system_overlay_size, {usual_disk, {}});
    BANGER_TRY(check_vcpus(sizes.vcpus));
    BANGER_TRY(check_memory(sizes.memory, host));
    BANGER_TRY(check_disk(sizes.disk, "--disk-size"));
    BANGER_TRY(check_disk(sizes.system_overlay, "system_overlay_size"));
    for (Sourced<ByteCount>* size : {&sizes.memory, &sizes.disk, &sizes.system_overlay})
        size->value = rounded(size->value);
    return sizes;
}

std::vector<EffectiveValue> effective_values(const Config& config, const HostSize& host) {
    std::vector<EffectiveValue> values = effective_values(config);
    const Result<MachineSizes> sizes = work_out_sizes({}, config.vm_defaults, host);
    for (EffectiveValue& value : values) {
        if (!value.value.empty()) continue;
        const auto fill = [&](std::string text, const Source& source) {
            value.value = std::move(text);
            value.source = source;
        };
        if (value.key.ends_with("_bin")) value.value = "looked up on PATH";
        if (!sizes) continue;
        if (value.key == "vm_defaults.vcpu")
            fill(std::to_string(*sizes->vcpus), sizes->vcpus.source);
        if (value.key == "vm_defaults.memory_mib")
            fill(std::to_string(sizes->memory->in_mib()), sizes->memory.source);
        if (value.key == "vm_defaults.disk_size")
            fill("\"" + sizes->disk->text() + "\"", sizes->disk.source);
        if (value.key == "vm_defaults.system_overlay_size")
            fill("\"" + sizes->system_overlay->text() + "\"", sizes->system_overlay.source);
    }
    return values;
}

std::string spec_line(const MachineSizes& sizes) {
    return "spec: " + std::to_string(*sizes.vcpus) + " vCPU (" + sizes.vcpus.source.text() + "), " +
           sizes.memory->text() + " RAM (" + sizes.memory.source.text() + "), " +
           sizes.disk->text() + " disk (" + sizes.disk.source.text() + ")";
}

}  // namespace banger

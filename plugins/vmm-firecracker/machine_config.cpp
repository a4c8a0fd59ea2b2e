#include "plugins/vmm-firecracker/machine_config.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace banger::firecracker {

namespace {

using Json = nlohmann::ordered_json;  // as written here, so that a person can read it

/// Firecracker's own bound, CMDLINE_MAX_SIZE of its x86_64 layout, with room for what it appends.
constexpr std::size_t max_command_line = 1536;
constexpr std::size_t max_disks = 8;
constexpr ByteCount least_memory = ByteCount::mib(64);
constexpr ByteCount most_memory = ByteCount::gib(std::uint64_t{1} << 10);

Error bad(std::string what) {
    return {Errc::invalid_argument, std::move(what), "Report it: banger should not ask for that."};
}

bool is_word(std::string_view text) {
    return !text.empty() && text.size() <= 20 && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    });
}

bool is_printable(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

/// Firecracker's token bucket: `size` bytes that come back within `refill_time` ms.
Json limiter(std::uint64_t mib_per_second) {
    return {{"bandwidth", {{"size", mib_per_second << 20}, {"refill_time", 1000}}}};
}

}  // namespace

std::string disk_name(std::string_view serial) { return "disk-" + std::string(serial); }

Result<void> check_spec(const MachineSpec& spec) {
    if (spec.kernel_fd < 0 || spec.initramfs_fd < 0)
        return bad("a machine needs a kernel and an initramfs");
    if (spec.vcpus == 0 || spec.vcpus > max_vcpus)
        return Error(Errc::invalid_argument,
                     "Firecracker runs 1 to " + std::to_string(max_vcpus) + " vCPU",
                     "Ask for fewer with --vcpu.");
    if (spec.memory < least_memory || spec.memory > most_memory)
        return Error(Errc::invalid_argument,
                     spec.memory.text() + " of memory are not between " + least_memory.text() +
                         " and " + most_memory.text(),
                     "Choose another --memory.");
    if (spec.link.kind != LinkKind::tap)
        return Error(Errc::unsupported, "Firecracker joins a network by a tap device only",
                     "Choose the network net-bridge, or the back end vmm-qemu.");
    if (!is_printable(spec.command_line) || command_line(spec).size() > max_command_line)
        return bad("the kernel's command line is too long or has other than printable characters");
    if (spec.disks.size() > max_disks) return bad("a machine has at most 8 disks");
    std::set<std::string_view> serials;
    for (const Disk& disk : spec.disks) {
        if (!is_word(disk.serial) || !serials.insert(disk.serial).second)
            return bad("each disk needs a serial of its own");
        if (disk.format != DiskFormat::raw)
            return Error(Errc::unsupported, "Firecracker opens raw disks only",
                         "Choose the storage storage-dm, or the back end vmm-qemu.");
    }
    return ok();
}

std::string command_line(const MachineSpec& spec) {
    std::string text =
        spec.command_line +
        " reboot=k banger.off=reboot pci=off 8250.nr_uarts=1 i8042.noaux i8042.nomux "
        "i8042.dumbkbd banger.disks=";
    for (std::size_t i = 0; i < spec.disks.size(); ++i)
        text += (i > 0 ? "," : "") + spec.disks[i].serial;
    return text;
}

std::string machine_config(const MachineSpec& spec, const Bandwidth& bandwidth) {
    Json drives = Json::array();
    for (const Disk& disk : spec.disks) {
        Json drive = {{"drive_id", disk.serial},
                      {"path_on_host", "/" + disk_name(disk.serial)},
                      {"is_root_device", false},
                      {"is_read_only", disk.read_only},
                      // The guest's flushes reach the disk.
                      {"cache_type", "Writeback"}};
        if (bandwidth.disk_mib > 0) drive["rate_limiter"] = limiter(bandwidth.disk_mib);
        drives.push_back(std::move(drive));
    }
    Json interface = {{"iface_id", "eth0"},
                      {"host_dev_name", spec.link.device},
                      {"guest_mac", spec.link.mac.text()}};
    if (bandwidth.network_mib > 0) {
        interface["rx_rate_limiter"] = limiter(bandwidth.network_mib);
        interface["tx_rate_limiter"] = limiter(bandwidth.network_mib);
    }
    const Json config = {
        {"boot-source",
         {{"kernel_image_path", "/" + std::string(kernel_name)},
          {"initrd_path", "/" + std::string(initramfs_name)},
          {"boot_args", command_line(spec)}}},
        {"drives", std::move(drives)},
        {"machine-config",
         {{"vcpu_count", spec.vcpus}, {"mem_size_mib", spec.memory.in_mib()}, {"smt", false}}},
        {"network-interfaces", Json::array({std::move(interface)})},
        // Any number will do: Firecracker keeps vsock in the process, nothing on the host sees it.
        {"vsock", {{"guest_cid", 3}, {"uds_path", "/" + std::string(vsock_socket)}}},
        {"entropy", Json::object()},
    };
    return config.dump(2, ' ', true) + "\n";
}

}  // namespace banger::firecracker

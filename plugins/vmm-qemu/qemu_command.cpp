#include "plugins/vmm-qemu/qemu_command.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/names.hpp"

namespace banger::qemu {

namespace {

using nlohmann::ordered_json;

/// COMMAND_LINE_SIZE of an x86 kernel, with its final NUL.
constexpr std::size_t max_command_line = 2047;
/// Slots that a q35's root bus has left beside the devices below.
constexpr std::size_t max_disks = 20;

/// QEMU reads "a,b" as two options and "a,,b" as one with a comma in it.
std::string escaped(const std::string& value) {
    std::string out;
    for (const char c : value) {
        out += c;
        if (c == ',') out += ',';
    }
    return out;
}

bool is_word(std::string_view text, std::string_view more) {
    return !text.empty() && std::ranges::all_of(text, [&](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               more.find(c) != more.npos;
    });
}

bool has_control_character(std::string_view text) {
    return std::ranges::any_of(
        text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

Error invalid(std::string message, std::string remedy) {
    return {Errc::invalid_argument, std::move(message), std::move(remedy)};
}

Result<void> check_disks(const std::vector<Disk>& disks) {
    if (disks.size() > max_disks)
        return Error(Errc::unsupported, "a machine can have at most 20 disks", "Give it fewer.");
    std::set<std::string> serials;
    for (const Disk& disk : disks) {
        if (!disk.path.starts_with('/') || has_control_character(disk.path))
            return invalid("the disk path " + banger::quoted(disk.path) + " is not absolute",
                           "Give an absolute path without control characters.");
        if (disk.serial.size() > max_serial || !is_word(disk.serial, "-_"))
            return invalid("the disk serial " + banger::quoted(disk.serial) + " cannot be used",
                           "Use 1 to 20 letters, digits, '-' or '_'.");
        if (!serials.insert(disk.serial).second)
            return invalid("two disks have the serial " + banger::quoted(disk.serial),
                           "Give each disk a serial of its own.");
    }
    return ok();
}

Result<void> check_link(const NetworkLink& link) {
    // IFNAMSIZ is 16 with the final NUL.
    if (link.kind == LinkKind::tap && (link.device.size() > 15 || !is_word(link.device, "-_.")))
        return invalid(banger::quoted(link.device) + " is not the name of a tap device",
                       "Name a device that the network plugin made.");
    for (const PortForward& forward : link.forwards)
        if (link.kind == LinkKind::user && (forward.host_port == 0 || forward.guest_port == 0))
            return invalid("a port forward without a port",
                           "Let the network plugin choose the port first.");
    return ok();
}

std::string user_netdev(const NetworkLink& link) {
    const Result<Ipv4Prefix> net = Ipv4Prefix::make(link.address.network(), link.address.length());
    std::string out = "user,id=net0,ipv6=off,net=" + net.value().text() +
                      ",host=" + link.gateway.text() + ",dns=" + link.name_server.text() +
                      ",dhcpstart=" + link.address.address().text();
    // Nothing of the host or of the world, and no name server either; forwards still work.
    if (!link.nat) out += ",restrict=on";
    for (const PortForward& forward : link.forwards)
        out += ",hostfwd=tcp:" + forward.host_address.text() + ":" +
               std::to_string(forward.host_port) + "-" + link.address.address().text() + ":" +
               std::to_string(forward.guest_port);
    return out;
}

std::string netdev(const NetworkLink& link) {
    if (link.kind == LinkKind::user) return user_netdev(link);
    return "tap,id=net0,ifname=" + link.device + ",script=no,downscript=no";
}

/// QEMU has a driver for each, and refuses to guess.
const char* driver_of(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode) ? "host_device" : "file";
}

/// JSON, because a path may hold whatever a file name may.
void add_disk(const Disk& disk, std::size_t index, std::vector<std::string>& arguments) {
    const std::string node = "disk" + std::to_string(index);
    const ordered_json file = {{"driver", driver_of(disk.path)},
                               {"filename", disk.path},
                               {"aio", "threads"},
                               {"locking", "auto"},
                               {"discard", "unmap"}};
    // Written back when the guest flushes, as a disk with a volatile cache does.
    const ordered_json drive = {{"driver", to_string(disk.format)},
                                {"node-name", node},
                                {"read-only", disk.read_only},
                                {"discard", disk.read_only ? "ignore" : "unmap"},
                                {"cache", {{"direct", false}, {"no-flush", false}}},
                                {"file", file}};
    const ordered_json device = {{"driver", "virtio-blk-pci"},
                                 {"drive", node},
                                 {"serial", disk.serial},
                                 {"write-cache", "on"}};
    arguments.insert(arguments.end(), {"-blockdev", drive.dump(), "-device", device.dump()});
}

std::string inherited_file(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

std::string socket_chardev(const std::string& id, int fd) {
    return "socket,id=" + id + ",fd=" + std::to_string(fd) + ",server=on,wait=off";
}

}  // namespace

Result<void> check_spec(const MachineSpec& spec) {
    if (spec.vcpus == 0)
        return invalid("a machine needs at least one vCPU", "Ask for 1 or more with --vcpu.");
    if (spec.vcpus > max_vcpus)
        return Error(Errc::unsupported,
                     std::to_string(spec.vcpus) + " vCPUs are more than the 255 QEMU's q35 has",
                     "Ask for fewer with --vcpu.");
    if (spec.memory.in_mib() == 0)
        return invalid("a machine needs at least 1 MiB of memory", "Ask for more with --memory.");
    if (spec.kernel_fd < 0)
        return invalid("no kernel was given", "Choose a kernel with `banger kernel list`.");
    if (spec.command_line.size() > max_command_line || has_control_character(spec.command_line))
        return invalid("the kernel command line is too long or has control characters",
                       "Keep it to 2047 printable characters.");
    BANGER_TRY(check_disks(spec.disks));
    return check_link(spec.link);
}

namespace {

std::string acceleration_of(const HostPart& host) {
    if (host.use_kvm) return "kvm";
    return host.split_code ? "tcg,thread=multi,split-wx=on" : "tcg,thread=multi";
}

}  // namespace

Command build_command(const MachineSpec& spec, const HostPart& host) {
    Command command;
    command.program = host.program;
    // English, because explain_failure() reads it.
    command.environment = {{"LC_ALL", "C"}, {"PATH", "/usr/bin:/bin"}};
    command.standard_error = host.standard_error;
    command.inherited = {spec.kernel_fd, host.qmp_listener, host.agent_listener};
    std::vector<std::string>& arguments = command.arguments;
    arguments = {
        "-name", spec.name.str(),  //
        "-nodefaults", "-no-user-config", "-display", "none",
        // A guest that reboots or panics ends its VMM: every back end does the same then.
        "-no-reboot",  //
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        // Without the controllers that a guest would only spend its boot on finding.
        "-machine", "q35,usb=off,sata=off,smbus=off,vmport=off,i8042=off",  //
        "-accel", acceleration_of(host),                                    //
        // Five levels of page tables make every miss dearer to emulate, and no guest is that large.
        "-cpu", host.use_kvm ? "host" : "max,la57=off",    //
        "-smp", std::to_string(spec.vcpus),                //
        "-m", std::to_string(spec.memory.in_mib()) + "M",  //
        "-kernel", inherited_file(spec.kernel_fd),         //
        // An emulated timer that comes late on a busy host is no broken one: Linux would panic.
        "-append", spec.command_line + (host.use_kvm ? "" : " no_timer_check")};
    if (spec.initramfs_fd >= 0) {
        arguments.insert(arguments.end(), {"-initrd", inherited_file(spec.initramfs_fd)});
        command.inherited.push_back(spec.initramfs_fd);
    }
    arguments.insert(arguments.end(),
                     {"-chardev", socket_chardev("qmp", host.qmp_listener),  //
                      "-mon", "chardev=qmp,mode=control",                    //
                      "-chardev", "file,id=console,append=on,path=" + escaped(host.console_path),
                      "-serial", "chardev:console",    //
                      "-device", "virtio-serial-pci",  //
                      "-chardev", socket_chardev("agent", host.agent_listener), "-device",
                      std::string("virtserialport,chardev=agent,name=") + agent_port_name,
                      "-device", "virtio-rng-pci"});
    for (std::size_t i = 0; i < spec.disks.size(); ++i)
        add_disk(spec.disks[i], i, arguments);
    // An empty romfile: no network boot, no option ROM to run.
    arguments.insert(arguments.end(),
                     {"-netdev", netdev(spec.link), "-device",
                      "virtio-net-pci,netdev=net0,romfile=,mac=" + spec.link.mac.text()});
    return command;
}

bool is_recent_enough(std::string_view version_line) {
    constexpr std::string_view sign = " version ";
    const std::size_t at = version_line.find(sign);
    if (at == version_line.npos) return false;
    const char* const end = version_line.data() + version_line.size();
    unsigned major = 0;
    unsigned minor = 0;
    const auto [dot, failed] = std::from_chars(version_line.data() + at + sign.size(), end, major);
    if (failed != std::errc() || dot == end || *dot != '.') return false;
    if (std::from_chars(dot + 1, end, minor).ec != std::errc()) return false;
    return major > 7 || (major == 7 && minor >= 2);
}

Error explain_failure(std::string_view standard_error, std::string_view what) {
    struct Cause {
        std::string_view sign;
        Errc code;
        const char* remedy;
    };
    static constexpr Cause causes[] = {
        {"Could not set up host forwarding rule", Errc::busy,
         "Another program took the forwarded port; start the machine again."},
        {"Failed to get ", Errc::in_use,
         "Another process has the disk open; stop that machine first."},
        {"Cannot allocate memory", Errc::no_space,
         "Give the machine less memory with --memory, or free some on the host."},
        {"No space left on device", Errc::no_space, "Free some disk space."},
        {"Device or resource busy", Errc::in_use,
         "Another process uses the device; stop that machine first."},
        {"seccomp", Errc::unsupported,
         "Install a QEMU built with seccomp, as Debian's qemu-system-x86 is."},
    };
    std::string message(what);
    if (!standard_error.empty()) {
        message += ": ";
        for (const char c : standard_error)
            message += static_cast<unsigned char>(c) < 0x20 && c != '\n' ? ' ' : c;
        while (message.ends_with('\n'))
            message.pop_back();
    }
    for (const Cause& cause : causes)
        if (standard_error.find(cause.sign) != standard_error.npos)
            return {cause.code, std::move(message), cause.remedy};
    return {Errc::internal, std::move(message),
            "Look at the line above; `banger doctor` checks QEMU itself."};
}

}  // namespace banger::qemu

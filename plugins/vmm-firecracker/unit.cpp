#include "plugins/vmm-firecracker/unit.hpp"

#include <linux/capability.h>

#include "plugins/vmm-firecracker/machine_config.hpp"

namespace banger::firecracker {

namespace {

/// A guest that writes more than this to its console while no helper is there to trim it, is ended.
constexpr ByteCount largest_file = ByteCount::gib(16);
constexpr std::uint64_t most_open_files = 1024;

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }

/// jailer's, for as long as it runs: chroot and mount namespace, device nodes, and the way to
/// another user.
constexpr std::uint64_t jailer_capabilities =
    bit(CAP_SYS_ADMIN) | bit(CAP_SYS_CHROOT) | bit(CAP_MKNOD) | bit(CAP_CHOWN) | bit(CAP_SETUID) |
    bit(CAP_SETGID) | bit(CAP_DAC_OVERRIDE) | bit(CAP_FOWNER);

/// Those of chroot(1), for as long as it runs.
constexpr std::uint64_t chroot_capabilities =
    bit(CAP_SYS_CHROOT) | bit(CAP_SETUID) | bit(CAP_SETGID);

/// Every variable that systemd sets by itself.
const Words known_variables{
    "PATH", "LANG",          "HOME",           "LOGNAME",          "USER",     "SHELL",
    "TERM", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "LC_CTYPE", "LC_ALL"};

void add_jailer(const Launch& launch, std::vector<Property>& out) {
    const std::string uid = std::to_string(launch.uid);
    Executable program{
        launch.programs.jailer->path,
        {"jailer", "--id", launch.vm.str(), "--exec-file", launch.programs.firecracker.path,
         "--uid", uid, "--gid", uid, "--chroot-base-dir", launch.jail_base, "--cgroup-version", "2",
         "--resource-limit", "no-file=" + std::to_string(most_open_files), "--"}};
    for (std::string& argument : firecracker_arguments(launch.is_restored))
        program.arguments.push_back(std::move(argument));
    out.push_back({"ExecStart", std::move(program)});
    out.push_back({"CapabilityBoundingSet", jailer_capabilities});
    // jailer makes the nodes.
    out.push_back({"DeviceAllow", Pairs{{"/dev/kvm", "rwm"},
                                        {"/dev/net/tun", "rwm"},
                                        {"/dev/urandom", "rm"},
                                        {"char-misc", "m"}}});
}

void add_own_jail(const Launch& launch, const OwnJail& own, std::vector<Property>& out) {
    // With the sign nobody looks for an account of that name.
    const std::string user = "+" + std::to_string(launch.uid);
    const std::string group = own.kvm_gid == 0 ? user : "+" + std::to_string(own.kvm_gid);
    const std::string inside = "/" + launch.programs.firecracker.name();
    Executable program{own.chroot,
                       {"chroot", "--userspec=" + user + ":" + user, "--groups=" + group,
                        launch.jail_root, inside, "--id", launch.vm.str()}};
    for (std::string& argument : firecracker_arguments(launch.is_restored))
        program.arguments.push_back(std::move(argument));
    out.push_back({"ExecStart", std::move(program)});
    out.push_back({"BindReadOnlyPaths",
                   Binds{{{launch.programs.firecracker.path, launch.jail_root + inside}}}});
    out.push_back({"BindPaths", Binds{{{"/dev/kvm", launch.jail_root + "/dev/kvm"},
                                       {"/dev/net/tun", launch.jail_root + "/dev/net/tun"}}}});
    out.push_back({"CapabilityBoundingSet", chroot_capabilities});
    out.push_back({"RestrictSUIDSGID", true});
    out.push_back({"DeviceAllow", Pairs{{"/dev/kvm", "rw"}, {"/dev/net/tun", "rw"}}});
}

}  // namespace

std::string unit_name(const VmId& vm) { return "banger-vm-" + vm.str() + ".service"; }

ByteCount memory_limit(ByteCount guest) {
    return ByteCount::bytes(guest.count() + guest.count() / 16 + ByteCount::mib(128).count());
}

std::vector<std::string> firecracker_arguments(bool is_restored) {
    std::vector<std::string> words{"--api-sock", "/" + std::string(api_socket)};
    if (!is_restored) words.insert(words.end(), {"--config-file", "/" + std::string(config_name)});
    words.insert(words.end(), {"--log-path", "/" + std::string(log_name), "--level", "Warning"});
    return words;
}

std::vector<Property> unit_properties(const Launch& launch, const OwnJail& own) {
    std::vector<Property> out{
        {"Description", "banger machine " + launch.name.str()},
        {"Slice", "banger.slice"},
        {"Type", "exec"},
        // Gone as soon as the VMM is, also when it was killed.
        {"CollectMode", "inactive-or-failed"},
        {"StandardInput", "null"},
        {"StandardOutputFileDescriptor", Descriptor{launch.console}},
        {"StandardErrorFileDescriptor", Descriptor{launch.complaints}},
        {"UnsetEnvironment", known_variables},
        {"UMask", std::uint64_t{0077}},
        {"NoNewPrivileges", true},
        {"MemoryMax", memory_limit(launch.memory).count()},
        {"TasksMax", std::uint64_t{32} + launch.vcpus},
        {"LimitFSIZE", largest_file.count() + launch.memory.count()},
        {"LimitNOFILE", most_open_files},
        {"LimitCORE", std::uint64_t{0}},
        // Of the ordinary ones it finds none in its jail.
        {"DevicePolicy", "closed"},
    };
    Pairs disks;
    for (const DeviceNumber& disk : launch.disks)
        disks.push_back({"/dev/block/" + disk.text(), "rw"});
    out.push_back({"DeviceAllow", std::move(disks)});
    if (launch.programs.jailer)
        add_jailer(launch, out);
    else
        add_own_jail(launch, own, out);
    return out;
}

}  // namespace banger::firecracker

// The role's contract on a real Firecracker, with systemd, KVM and guests that boot: run in the lab
// by tests/lab/smoke.py, as root, with a folder that has a kernel's vmlinux and initramfs.img in
// BANGER_TEST_KERNEL. Nothing of Firecracker's is in this repository.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>

#include "banger/contract/vm_backend.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/ledger.hpp"
#include "core/base/process.hpp"
#include "core/guest/identity.hpp"
#include "core/images/initramfs.hpp"
#include "plugins/vmm-firecracker/firecracker_vm_backend.hpp"
#include "plugins/vmm-firecracker/systemd_launcher.hpp"
#include "plugins/vmm-firecracker/unit.hpp"
#include "tests/support/plain_host.hpp"

namespace banger::firecracker {
namespace {

using namespace std::chrono_literals;

constexpr uid_t owner = 1000;

std::string environment(const char* name) {
    const char* text = std::getenv(name);
    return text ? text : "";
}

/// What a program wrote; it must succeed.
std::string output_of(const std::string& program, std::vector<std::string> arguments) {
    Command command;
    command.program = find_program(program).value();
    command.arguments = std::move(arguments);
    const Result<CommandOutput> done = run_command(command, 120s, ByteCount::kib(64), {});
    EXPECT_TRUE(done && done->status.is_success())
        << command.text() << (done ? ": " + done->standard_error : ": " + done.error().text());
    std::string text = done ? done->standard_output : std::string();
    while (text.ends_with('\n'))
        text.pop_back();
    return text;
}

std::string agent_program() {
    return std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path().string() +
           "/bin/banger-vsock-agent";
}

/// A machine's own disk and tap, the owner's.
struct Belongings {
    Belongings(const PlainHost& host, std::size_t number) : tap("bt" + std::to_string(number)) {
        const std::string file = host / ("disk-" + std::to_string(number));
        output_of("mke2fs", {"-q", "-t", "ext4", file, "16M"});
        disk = output_of("losetup", {"--find", "--show", file});
        EXPECT_EQ(::chown(disk.c_str(), owner, owner), 0);
        output_of("ip", {"tuntap", "add", "dev", tap, "mode", "tap", "user", std::to_string(owner),
                         "vnet_hdr"});
    }
    ~Belongings() {
        EXPECT_EQ(::chown(disk.c_str(), 0, 0), 0);
        output_of("losetup", {"--detach", disk});
        output_of("ip", {"link", "delete", tap});
    }
    Belongings(const Belongings&) = delete;
    Belongings& operator=(const Belongings&) = delete;

    std::string tap;
    std::string disk;
    UniqueFd initramfs;
};

class RealSubject final : public contract::VmBackendSubject {
public:
    RealSubject() {
        host_.changeable_settings = {{"firecracker_bin", std::string()},
                                     {"jailer_bin", environment("BANGER_TEST_JAILER")},
                                     {"owner_uid", std::int64_t{owner}},
                                     {"first_uid", std::int64_t{1883400000}}};
        const std::string folder = environment("BANGER_TEST_KERNEL");
        kernel_ = open_read(folder + "/vmlinux").value();
        modules_ = read_file(folder + "/initramfs.img", ByteCount::mib(256)).value();
        agent_ = read_file(agent_program(), ByteCount::mib(64)).value();
        restart();
    }
    VmBackend& role() override { return *backend_; }
    void restart() override {
        backend_.reset();
        backend_ = FirecrackerVmBackend::open(host_, parts_, launcher_,
                                              {.start_deadline = 120s, .agent_deadline = 300s})
                       .value();
    }
    MachineSpec spec(const VmId& vm, const VmName& name) override {
        all_.push_back(std::make_unique<Belongings>(host_, all_.size()));
        Belongings& has = *all_.back();
        has.initramfs = initramfs_of(vm, name);
        units_.insert(unit_name(vm));
        return {.vm = vm,
                .name = name,
                .vcpus = 1,
                .memory = ByteCount::mib(256),
                .kernel_fd = kernel_.get(),
                .initramfs_fd = has.initramfs.get(),
                .command_line = "console=ttyS0 quiet",
                .disks = {{has.disk, DiskFormat::raw, false, "root"}},
                .link = {vm,
                         LinkKind::tap,
                         has.tap,
                         MacAddress::of(vm),
                         Ipv4Prefix::parse("172.16.0.5/24").value(),
                         Ipv4Address::parse("172.16.0.1").value(),
                         Ipv4Address::parse("172.16.0.1").value(),
                         false,
                         {}}};
    }
    /// Files and services.
    std::vector<std::string> exists() override {
        std::vector<std::string> all;
        for (const std::string& folder : {host_.run_folder(), host_.state_folder()})
            for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
                // The folders that all machines share stay, and the copies of kernels.
                const std::string path = entry.path().string().substr(folder.size());
                if (path != "/jail" && path != "/jail/firecracker" && path != "/vm" &&
                    !path.starts_with("/kernels"))
                    all.push_back(entry.path());
            }
        std::istringstream units(output_of(
            "systemctl", {"list-units", "--all", "--plain", "--no-legend", "banger-vm-*"}));
        // Of others there may be machines.
        for (std::string line; std::getline(units, line);)
            if (const std::string unit = line.substr(0, line.find(' ')); units_.contains(unit))
                all.push_back(unit);
        return all;
    }
    bool lose(const VmId& vm) override {
        const Ledger ledger = Ledger::open(host_.run_folder()).value();
        const Record record = decode_record(ledger.read(vm.str()).value()).value();
        EXPECT_TRUE(contract::succeeded(kill_and_wait(record.process.value())));
        return true;
    }

private:
    /// Our init on an empty root: the image has no init, so it stays and serves.
    UniqueFd initramfs_of(const VmId& vm, const VmName& name) {
        images::CpioWriter archive;
        EXPECT_TRUE(contract::succeeded(archive.add_file("init", 0755, agent_)));
        const guest::GuestIdentity identity{.vm = vm,
                                            .name = name,
                                            .machine_id = guest::new_machine_id(),
                                            .network = {},
                                            .authorized_keys = {},
                                            .ssh_host_key = {},
                                            .files = {},
                                            .git = {},
                                            .grow_disks = false};
        for (const guest::ArchiveMember& member : guest::encode_identity(identity).value())
            EXPECT_TRUE(contract::succeeded(archive.add_file(member.path, 0600, member.content)));
        UniqueFd file(::memfd_create("test-initramfs", MFD_CLOEXEC));
        EXPECT_TRUE(
            contract::succeeded(write_all(file.get(), modules_ + std::move(archive).finish())));
        return file;
    }

    PlainHost host_;
    KernelParts parts_;
    SystemdLauncher launcher_;
    UniqueFd kernel_;
    std::string modules_;
    std::string agent_;
    std::vector<std::unique_ptr<Belongings>> all_;
    std::set<std::string> units_;
    std::unique_ptr<FirecrackerVmBackend> backend_;
};

}  // namespace
}  // namespace banger::firecracker

namespace banger::contract {
INSTANTIATE_TEST_SUITE_P(Firecracker, VmBackendContract,
                         testing::Values(Case<VmBackendSubject>{
                             "real", [] { return std::make_unique<firecracker::RealSubject>(); }}),
                         case_name);
}  // namespace banger::contract

#include "plugins/vmm-qemu/qemu_vm_backend.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "banger/contract/vm_backend.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "plugins/vmm-qemu/qmp.hpp"
#include "tests/support/plain_host.hpp"
#include "tests/vmm-qemu/tiny_kernel.hpp"

namespace banger::qemu {
namespace {

using namespace std::chrono_literals;
using contract::failed_with;
using contract::succeeded;

bool has_qemu() { return find_program("qemu-system-x86_64").has_value(); }

TEST(Needs, qemu) {
    const char* const required = std::getenv("BANGER_REQUIRE");
    if (!has_qemu() && !(required && std::string_view(required).find("boot") != std::string::npos))
        GTEST_SKIP() << "qemu-system-x86_64 is not installed: none of the tests here ran";
    EXPECT_TRUE(has_qemu());
}

/// A host on which QEMU is a script that can be told to fail or to hang.
struct QemuHost {
    QemuHost() {
        EXPECT_EQ(::mkfifo(hanging.c_str(), 0600), 0);
        const std::string script =
            "#!/bin/sh\n"
            "if rm " +
            fail +
            " 2>/dev/null; then\n"
            "  echo 'qemu: cannot set up guest memory: Cannot allocate memory' >&2\n"
            "  exit 1\n"
            "fi\n"
            "if rm " +
            hang +
            " 2>/dev/null; then\n"
            "  echo hanging >" +
            hanging +
            "\n"
            "  exec sleep 600\n"
            "fi\n"
            "exec qemu-system-x86_64 \"$@\"\n";
        EXPECT_TRUE(write_file_atomic(host / "qemu", script, 0700));
        host.changeable_settings["qemu_bin"] = host / "qemu";
    }
    /// A machine that halts at once, in as little memory as the firmware takes.
    MachineSpec spec(const VmId& vm, const VmName& name) const {
        const Ipv4Address gateway = Ipv4Address::parse("10.0.2.2").value();
        const Ipv4Address name_server = Ipv4Address::parse("10.0.2.3").value();
        MachineSpec spec{.vm = vm,
                         .name = name,
                         .vcpus = 1,
                         .memory = ByteCount::mib(16),
                         .kernel_fd = kernel.get(),
                         .initramfs_fd = -1,
                         .command_line = "console=ttyS0",
                         .disks = {},
                         .link = {vm,
                                  LinkKind::user,
                                  "",
                                  MacAddress::of(vm),
                                  Ipv4Prefix::parse("10.0.2.15/24").value(),
                                  gateway,
                                  name_server,
                                  false,
                                  {}}};
        return spec;
    }
    MachineSpec spec() const { return spec(VmId::random(), contract::name_of(0)); }
    MachinePaths paths(const VmId& vm) const { return {host, vm}; }
    ProcessId recorded(const VmId& vm) const {
        const Result<MachineRecord> record = read_record(paths(vm));
        return record && record->process ? *record->process : ProcessId{};
    }

    PlainHost host;
    std::string fail = host / "fail";
    std::string hang = host / "hang";
    std::string hanging = host / "hanging";
    UniqueFd kernel = tiny_kernel_fd(TinyGuest::halts, "tiny guest\r\n");
};

void touch(const std::string& path) { EXPECT_TRUE(write_file_atomic(path, "", 0600)); }

class QemuSubject final : public contract::VmBackendSubject {
public:
    VmBackend& role() override { return *backend_; }
    MachineSpec spec(const VmId& vm, const VmName& name) override { return qemu_.spec(vm, name); }
    std::vector<std::string> exists() override {
        std::vector<std::string> things;
        for (const std::string& folder : {qemu_.host.run_folder(), qemu_.host.state_folder()})
            for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
                things.push_back(entry.path());
                if (entry.path().filename() != "record") continue;
                const Result<VmId> vm = VmId::parse(entry.path().parent_path().filename().string());
                if (vm && is_running(qemu_.recorded(*vm)))
                    things.push_back("process of " + vm->str());
            }
        return things;
    }
    void restart() override { backend_ = std::make_unique<QemuVmBackend>(qemu_.host); }
    bool lose(const VmId& vm) override {
        EXPECT_TRUE(succeeded(kill_and_wait(qemu_.recorded(vm))));
        return true;
    }
    bool fail_next() override { return touch(qemu_.fail), true; }
    bool hang_next() override { return touch(qemu_.hang), true; }
    void await_hang() override {
        // Opening the reading end waits for the script to open the other.
        EXPECT_TRUE(read_file(qemu_.hanging, ByteCount::kib(1)));
    }

private:
    QemuHost qemu_;
    std::unique_ptr<QemuVmBackend> backend_ = std::make_unique<QemuVmBackend>(qemu_.host);
};

using Case = contract::Case<contract::VmBackendSubject>;
std::vector<Case> cases() {
    if (!has_qemu()) return {};
    return {Case{"qemu", [] { return std::make_unique<QemuSubject>(); }}};
}

}  // namespace
}  // namespace banger::qemu

namespace banger::contract {
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(VmBackendContract);
INSTANTIATE_TEST_SUITE_P(Qemu, VmBackendContract, testing::ValuesIn(qemu::cases()), case_name);
}  // namespace banger::contract

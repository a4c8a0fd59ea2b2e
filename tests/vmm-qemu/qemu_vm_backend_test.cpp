#include "plugins/vmm-qemu/qemu_vm_backend.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
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

/// Waits until a file is at least this long; false after `deadline`.
bool await_length(const std::string& path, off_t length, std::chrono::milliseconds deadline) {
    const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    EXPECT_GE(::inotify_add_watch(watch.get(), path.c_str(), IN_MODIFY), 0);
    const auto end = std::chrono::steady_clock::now() + deadline;
    for (;;) {
        struct stat status {};
        if (::stat(path.c_str(), &status) == 0 && status.st_size >= length) return true;
        const auto left = end - std::chrono::steady_clock::now();
        if (left <= 0ms) return false;
        EXPECT_TRUE(
            poll_fd(watch.get(), POLLIN, std::chrono::ceil<std::chrono::milliseconds>(left), {}));
        char events[4096];
        while (::read(watch.get(), events, sizeof events) > 0) {
        }
    }
}

class QemuVmBackendTest : public testing::Test {
protected:
    void SetUp() override {
        if (!has_qemu()) GTEST_SKIP() << "qemu-system-x86_64 is not installed";
    }
    void TearDown() override { EXPECT_TRUE(succeeded(backend->recover({}))); }
    void restart() { backend = std::make_unique<QemuVmBackend>(qemu.host); }
    std::vector<std::string> marks() const { return *list_folder(qemu.host.run_folder()); }

    QemuHost qemu;
    std::unique_ptr<QemuVmBackend> backend = std::make_unique<QemuVmBackend>(qemu.host);
};

TEST_F(QemuVmBackendTest, the_guest_runs_and_its_words_reach_the_console) {
    const MachineSpec spec = qemu.spec();
    const Result<VmProcess> vm = backend->start(spec, {});
    ASSERT_TRUE(succeeded(vm));
    const std::string path = qemu.paths(spec.vm).console;
    ASSERT_TRUE(await_length(path, std::strlen("tiny guest\r\n"), 30s));
    Result<UniqueFd> console = backend->console(spec.vm);
    ASSERT_TRUE(succeeded(console));
    EXPECT_EQ(read_all(console->get(), ByteCount::kib(64)).value_or(""), "tiny guest\r\n");
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);

    ASSERT_TRUE(succeeded(backend->kill(*vm)));
    ASSERT_TRUE(succeeded(backend->start(spec, {})));
    EXPECT_TRUE(await_length(path, 2 * std::strlen("tiny guest\r\n"), 30s)) << "a restart appends";
}

TEST_F(QemuVmBackendTest, a_guest_that_never_stops_talking_does_not_fill_the_disk) {
    qemu.kernel = tiny_kernel_fd(TinyGuest::talks, std::string(400, 'x') + "\n");
    MachineSpec spec = qemu.spec();
    spec.console_limit = ByteCount::kib(64);
    const Result<VmProcess> vm = backend->start(spec, {});
    ASSERT_TRUE(succeeded(vm));
    const std::string path = qemu.paths(spec.vm).console;
    // No daemon lives: the limit of the process holds. It is over 1 GiB, too long to wait for here.
    rlimit limit{};
    ASSERT_EQ(::prlimit(static_cast<pid_t>(vm->process.pid), RLIMIT_FSIZE, nullptr, &limit), 0);
    EXPECT_EQ(limit.rlim_max, rlim_t{1} << 30);
    const rlimit small{256 << 10, limit.rlim_max};
    ASSERT_EQ(::prlimit(static_cast<pid_t>(vm->process.pid), RLIMIT_FSIZE, &small, nullptr), 0);
    ASSERT_TRUE(await_length(path, 256 << 10, 60s));
    EXPECT_TRUE(is_running(vm->process)) << "it was told by an error, not by a signal";
    EXPECT_TRUE(succeeded(Qmp::connect(qemu.paths(spec.vm).qmp_socket, 30s, {})));
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_size, 256 << 10);

    restart();  // the next daemon trims first
    ASSERT_TRUE(succeeded(backend->recover(std::vector<VmProcess>{*vm})));
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_LE(status.st_blocks * 512, 136 << 10);
    Result<UniqueFd> console = backend->console(spec.vm);
    ASSERT_TRUE(succeeded(console));
    const Result<std::string> kept = read_all(console->get(), ByteCount::kib(256));
    ASSERT_TRUE(succeeded(kept));
    EXPECT_GT(kept->size(), 60u << 10);
    EXPECT_EQ(kept->find_first_not_of("x\n"), std::string::npos);
    EXPECT_EQ(kept->find('\n'), 400u) << "it begins with a whole line";
    EXPECT_TRUE(succeeded(backend->kill(*vm)));
}

TEST_F(QemuVmBackendTest, a_port_that_was_taken_meanwhile_is_busy) {
    const UniqueFd other(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof where;
    ASSERT_EQ(::bind(other.get(), reinterpret_cast<sockaddr*>(&where), size), 0);
    ASSERT_EQ(::listen(other.get(), 1), 0);
    ASSERT_EQ(::getsockname(other.get(), reinterpret_cast<sockaddr*>(&where), &size), 0);
    MachineSpec spec = qemu.spec();
    spec.link.forwards = {{Ipv4Address(INADDR_LOOPBACK), ntohs(where.sin_port), 22}};
    const Result<VmProcess> vm = backend->start(spec, {});
    EXPECT_TRUE(failed_with(vm, Errc::busy));
    EXPECT_TRUE(contract::has_remedy(vm));
    EXPECT_THAT(marks(), testing::IsEmpty());
}

TEST_F(QemuVmBackendTest, a_forwarded_port_listens_when_start_returns) {
    MachineSpec spec = qemu.spec();
    // Chosen as net-user does, with the same small chance that somebody else is quicker.
    const UniqueFd chosen(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof where;
    ASSERT_EQ(::bind(chosen.get(), reinterpret_cast<sockaddr*>(&where), size), 0);
    ASSERT_EQ(::getsockname(chosen.get(), reinterpret_cast<sockaddr*>(&where), &size), 0);
    const int on = 1;
    ASSERT_EQ(::setsockopt(chosen.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    spec.link.forwards = {{Ipv4Address(INADDR_LOOPBACK), ntohs(where.sin_port), 22}};
    ASSERT_TRUE(succeeded(backend->start(spec, {})));
    const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&where), size), 0);
}

TEST_F(QemuVmBackendTest, a_disk_that_another_machine_writes_is_in_use) {
    const std::string path = qemu.host / "disk.raw";
    ASSERT_TRUE(write_file_atomic(path, std::string(1 << 20, 'd'), 0600));
    MachineSpec one = qemu.spec();
    one.disks = {{path, DiskFormat::raw, false, "root"}};
    MachineSpec two = qemu.spec();
    two.disks = one.disks;
    ASSERT_TRUE(succeeded(backend->start(one, {})));
    const Result<VmProcess> second = backend->start(two, {});
    EXPECT_TRUE(failed_with(second, Errc::in_use));
    EXPECT_TRUE(contract::has_remedy(second));
    two.disks[0].read_only = true;
    EXPECT_TRUE(failed_with(backend->start(two, {}), Errc::in_use)) << "nor read while written";
}

TEST_F(QemuVmBackendTest, a_disk_that_is_read_only_is_shared) {
    const std::string path = qemu.host / "modules.raw";
    ASSERT_TRUE(write_file_atomic(path, std::string(1 << 20, 'm'), 0400));
    for (int i = 0; i < 2; ++i) {
        MachineSpec spec = qemu.spec();
        spec.disks = {{path, DiskFormat::raw, true, "modules"}};
        EXPECT_TRUE(succeeded(backend->start(spec, {})));
    }
}

TEST_F(QemuVmBackendTest, a_kernel_that_is_none_says_what_qemu_said) {
    qemu.kernel = UniqueFd(::memfd_create("no-kernel", MFD_CLOEXEC));
    ASSERT_TRUE(write_all(qemu.kernel.get(), "this is no kernel"));
    const Result<VmProcess> vm = backend->start(qemu.spec(), {});
    ASSERT_FALSE(vm);
    EXPECT_THAT(vm.error().message, testing::HasSubstr("qemu"));
    EXPECT_THAT(vm.error().message, testing::HasSubstr("kernel"));
    EXPECT_TRUE(contract::has_remedy(vm));
    EXPECT_THAT(marks(), testing::IsEmpty());
}

TEST_F(QemuVmBackendTest, without_qemu_there_is_a_remedy) {
    qemu.host.changeable_settings["qemu_bin"] = std::string("no-such-qemu");
    EXPECT_TRUE(failed_with(backend->capabilities(), Errc::unavailable));
    const Result<VmProcess> vm = backend->start(qemu.spec(), {});
    EXPECT_TRUE(failed_with(vm, Errc::unavailable));
    EXPECT_THAT(vm.error().remedy, testing::HasSubstr("apt install"));
    EXPECT_THAT(marks(), testing::IsEmpty());
    EXPECT_EQ(backend->checks({})[0].status, CheckStatus::fail);
}

TEST_F(QemuVmBackendTest, the_agents_channel_takes_one_at_a_time) {
    const Result<VmProcess> vm = backend->start(qemu.spec(), {});
    ASSERT_TRUE(succeeded(vm));
    Result<UniqueFd> first = backend->connect_agent(*vm);
    ASSERT_TRUE(succeeded(first));
    EXPECT_TRUE(failed_with(backend->connect_agent(*vm), Errc::busy));
    first->reset();
    EXPECT_TRUE(succeeded(backend->connect_agent(*vm)));
}

/// A daemon that was killed after it spawned QEMU and before it could note the pid.
TEST_F(QemuVmBackendTest, a_qemu_that_nobody_noted_is_ended) {
    const MachineSpec spec = qemu.spec();
    const Result<VmProcess> vm = backend->start(spec, {});
    ASSERT_TRUE(succeeded(vm));
    const Result<UniqueFd> pidfd = open_pidfd(vm->process);
    ASSERT_TRUE(succeeded(pidfd));
    ASSERT_TRUE(write_record(qemu.paths(spec.vm), {spec.vm, std::nullopt, spec.console_limit}));
    restart();
    ASSERT_TRUE(succeeded(backend->recover({})));
    EXPECT_TRUE(*wait_for_exit(*pidfd, 30s, {}));
    reap_if_child(*pidfd);
    EXPECT_THAT(marks(), testing::IsEmpty());
    EXPECT_TRUE(succeeded(backend->start(spec, {})));
}

TEST_F(QemuVmBackendTest, whatever_a_dead_daemon_left_half_made_is_cleared) {
    const VmId vm = VmId::random();
    const MachinePaths paths = qemu.paths(vm);
    const std::vector<std::function<void()>> steps = {
        [&] { ASSERT_TRUE(ensure_folder(paths.run_folder, 0700)); },
        [&] { ASSERT_TRUE(write_file_atomic(paths.record + ".new", "vm 0", 0600)); },
        [&] {
            ASSERT_TRUE(write_record(paths, {vm, std::nullopt, ByteCount::mib(4)}));
        },
        [&] { ASSERT_TRUE(listen_unix(paths.qmp_socket)); },  // and closed at once
        [&] { ASSERT_TRUE(listen_unix(paths.agent_socket)); },
        [&] {
            ASSERT_TRUE(write_record(paths, {vm, ProcessId{1, 999'999'999'999}, {}}));
        },
        [&] { ASSERT_TRUE(write_file_atomic(paths.record, "garbage", 0600)); },
    };
    for (std::size_t done = 1; done <= steps.size(); ++done) {
        for (std::size_t i = 0; i < done; ++i)
            steps[i]();
        restart();
        ASSERT_TRUE(succeeded(backend->recover({}))) << done;
        EXPECT_THAT(marks(), testing::IsEmpty()) << done;
        for (std::size_t i = 0; i < done; ++i)
            steps[i]();
        const Result<VmProcess> started = backend->start(qemu.spec(vm, contract::name_of(0)), {});
        ASSERT_TRUE(succeeded(started)) << done;
        ASSERT_TRUE(succeeded(backend->kill(*started)));
    }
}

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

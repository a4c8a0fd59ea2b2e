#include "plugins/vmm-firecracker/firecracker_vm_backend.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <map>

#include "banger/contract/vm_backend.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "plugins/vmm-firecracker/machine_config.hpp"
#include "plugins/vmm-firecracker/unit.hpp"
#include "tests/support/plain_host.hpp"

namespace banger::firecracker {
namespace {

using namespace std::chrono_literals;
using contract::failed_with;
using contract::has_remedy;
using contract::succeeded;
using testing::HasSubstr;
using testing::IsEmpty;

/// Starts the stand-in in the jail, as whoever runs the test.
class PlainLauncher final : public Launcher {
public:
    PlainLauncher(std::string program, std::string deeds)
        : program_(std::move(program)), deeds_(std::move(deeds)) {}
    Result<ProcessId> start(const Launch& launch, std::stop_token) override {
        Command command;
        command.program = program_;
        command.arguments = firecracker_arguments(launch.is_restored);
        command.environment = {{"BANGER_STAND_IN", deeds_}};
        command.working_folder = launch.jail_root;
        command.standard_output = launch.console;
        command.standard_error = launch.complaints;
        Child child = BANGER_TRY(spawn(command));
        const std::lock_guard lock(mutex_);
        running_.insert_or_assign(launch.vm.str(), child.id());
        last = launch;
        child.detach();
        return running_.at(launch.vm.str());
    }
    Result<void> end(const VmId& vm) override {
        const std::optional<ProcessId> process = of(vm);
        if (!process) return ok();
        BANGER_TRY(kill_and_wait(*process));
        const std::lock_guard lock(mutex_);
        running_.erase(vm.str());
        return ok();
    }
    Check check() override { return {"machine services", CheckStatus::pass, "plain", {}}; }

    std::optional<ProcessId> of(const VmId& vm) {
        const std::lock_guard lock(mutex_);
        const auto found = running_.find(vm.str());
        return found == running_.end() ? std::nullopt : std::optional(found->second);
    }
    std::vector<std::string> alive() {
        const std::lock_guard lock(mutex_);
        std::vector<std::string> names;
        for (const auto& [vm, process] : running_)
            if (is_running(process)) names.push_back("process of " + vm);
        return names;
    }
    std::optional<Launch> last;

private:
    const std::string program_;
    const std::string deeds_;
    std::mutex mutex_;
    std::map<std::string, ProcessId> running_;
};

/// Disks are files here, and everything is given to nobody.
class PlainParts final : public HostParts {
public:
    Result<DeviceNumber> owned_disk(const std::string& path, std::uint32_t owner_uid) override {
        EXPECT_EQ(owner_uid, 1000u);
        if (path_exists(path)) return DeviceNumber{253, 3};
        return Error(Errc::not_found, path + " does not exist", "Make it.");
    }
    Result<Loop> attach_read_only(int file) override {
        return Loop{UniqueFd(::fcntl(file, F_DUPFD_CLOEXEC, 0)), {7, 1}};
    }
    Result<void> make_node(const UniqueFd& folder, const std::string& name, DeviceNumber,
                           bool read_only, std::uint32_t) override {
        const UniqueFd file(::openat(folder.get(), name.c_str(), O_CREAT | O_EXCL | O_CLOEXEC,
                                     read_only ? 0400 : 0600));
        if (!file) return Error::from_errno(errno, "making " + name);
        return ok();
    }
    Result<void> give(const UniqueFd&, std::uint32_t) override { return ok(); }
    Result<void> give_tap(const std::string& name, std::uint32_t, std::uint32_t) override {
        if (name == "tap0") return ok();
        return Error(Errc::permission_denied, "not the owner's", "Start again.");
    }
};

UniqueFd memory_file(std::string_view content) {
    UniqueFd fd(::memfd_create("test", MFD_CLOEXEC));
    EXPECT_TRUE(succeeded(write_all(fd.get(), content)));
    return fd;
}

/// A host with a stand-in for Firecracker.
struct StandIn {
    StandIn() {
        EXPECT_TRUE(ensure_folder(deeds, 0700));
        EXPECT_EQ(::mkfifo((deeds + "/hanging").c_str(), 0600), 0);
        std::filesystem::copy_file(FAKE_FIRECRACKER, program);
        EXPECT_EQ(::chmod(program.c_str(), 0700), 0);
        EXPECT_TRUE(write_file_atomic(disk, std::string(4096, 'd'), 0600));
        host.changeable_settings = {{"firecracker_bin", program},
                                    {"jailer_bin", std::string("none")},
                                    {"owner_uid", std::int64_t{1000}},
                                    {"first_uid", std::int64_t{100000}}};
        restart();
    }
    void restart() {
        backend.reset();
        backend = FirecrackerVmBackend::open(host, parts, launcher,
                                             {.trusted_uid = ::geteuid(),
                                              .only_uid = ::geteuid(),
                                              .probe_kvm =
                                                  [] {
                                                      return Acceleration{true, {}, {}};
                                                  },
                                              .agent_deadline = 300ms})
                      .value();
    }
    MachineSpec spec(const VmId& vm, const VmName& name) const {
        return {.vm = vm,
                .name = name,
                .vcpus = 1,
                .memory = ByteCount::mib(128),
                .kernel_fd = kernel.get(),
                .initramfs_fd = initramfs.get(),
                .command_line = "console=ttyS0",
                .disks = {{disk, DiskFormat::raw, false, "root"},
                          {"/proc/self/fd/" + std::to_string(modules.get()), DiskFormat::raw, true,
                           "modules"}},
                .link = {vm,
                         LinkKind::tap,
                         "tap0",
                         MacAddress::of(vm),
                         Ipv4Prefix::parse("172.16.0.5/24").value(),
                         Ipv4Address::parse("172.16.0.1").value(),
                         Ipv4Address::parse("172.16.0.1").value(),
                         false,
                         {}}};
    }
    MachineSpec spec() const { return spec(VmId::random(), contract::name_of(0)); }
    std::string jail(const VmId& vm) const {
        return host.state_folder() + "/jail/firecracker/" + vm.str() + "/root";
    }
    void tell(const std::string& deed) {
        EXPECT_TRUE(write_file_atomic(deeds + "/" + deed, "", 0600));
    }
    /// Files and processes.
    std::vector<std::string> things() {
        std::vector<std::string> all = launcher.alive();
        for (const std::string& folder : {host.run_folder(), host.state_folder()})
            for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
                // The folders that all machines share stay.
                const std::string path = entry.path().string().substr(folder.size());
                if (path != "/jail" && path != "/jail/firecracker" && path != "/vm" &&
                    !path.starts_with("/kernels"))
                    all.push_back(entry.path());
            }
        return all;
    }

    PlainHost host;
    std::string deeds = host / "deeds";
    std::string program = host / "firecracker";
    std::string disk = host / "disk";
    UniqueFd kernel = memory_file("kernel");
    UniqueFd initramfs = memory_file("initramfs");
    UniqueFd modules = memory_file("modules");
    PlainParts parts;
    PlainLauncher launcher{program, deeds};
    std::unique_ptr<FirecrackerVmBackend> backend;
};

class FirecrackerSubject final : public contract::VmBackendSubject {
public:
    VmBackend& role() override { return *stand_in_.backend; }
    MachineSpec spec(const VmId& vm, const VmName& name) override {
        return stand_in_.spec(vm, name);
    }
    std::vector<std::string> exists() override { return stand_in_.things(); }
    void restart() override { stand_in_.restart(); }
    bool lose(const VmId& vm) override {
        const std::optional<ProcessId> process = stand_in_.launcher.of(vm);
        EXPECT_TRUE(process);
        EXPECT_TRUE(succeeded(kill_and_wait(*process)));
        return true;
    }
    bool fail_next() override { return stand_in_.tell("refuse"), true; }
    bool hang_next() override { return stand_in_.tell("hang"), true; }
    void await_hang() override {
        // Opening the reading end waits for the stand-in to open the other.
        EXPECT_TRUE(read_file(stand_in_.deeds + "/hanging", ByteCount::kib(1)));
    }

private:
    StandIn stand_in_;
};

class FirecrackerTest : public testing::Test {
protected:
    void TearDown() override {
        ASSERT_TRUE(succeeded(here.backend->recover({})));
        EXPECT_THAT(here.launcher.alive(), IsEmpty());
    }
    VmBackend& backend() { return *here.backend; }
    StandIn here;
};

TEST_F(FirecrackerTest, TheJailHoldsWhatIsNeededAndNoMore) {
    const MachineSpec spec = here.spec();
    const Result<VmProcess> vm = backend().start(spec, {});
    ASSERT_TRUE(succeeded(vm));
    EXPECT_THAT(
        *list_folder(here.jail(spec.vm)),
        testing::ElementsAre("config.json", "disk-modules", "disk-root", "firecracker.log", "run"));
    EXPECT_THAT(*list_folder(here.jail(spec.vm) + "/run"),
                testing::ElementsAre("api.sock", "vsock.sock"));
    struct stat status {};
    ASSERT_EQ(::stat(here.jail(spec.vm).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0711u);
    ASSERT_EQ(::stat((here.host.state_folder() + "/jail").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0700u);
    ASSERT_TRUE(here.launcher.last);
    EXPECT_EQ(here.launcher.last->disks, (std::vector<DeviceNumber>{{253, 3}, {7, 1}}));
}

TEST_F(FirecrackerTest, MachinesShareOneCopyOfTheirKernel) {
    const std::string folder = JailPaths::kernels_of(here.host);
    const auto kernel_of_a_new_jail = [&] {
        const MachineSpec spec = here.spec();
        const JailPaths paths(here.host, spec.vm, "firecracker");
        const KernelCopies kernels = KernelCopies::open(folder).value();
        EXPECT_TRUE(succeeded(
            make_jail(paths, spec, "{}", {}, 1000, ::geteuid(), here.parts, kernels, {})));
        struct stat status {};
        EXPECT_EQ(::stat((paths.root + "/vmlinux").c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 07777, 0444u);
        EXPECT_EQ(::lseek(here.kernel.get(), 0, SEEK_SET), 0);
        EXPECT_EQ(*read_file(paths.root + "/vmlinux", ByteCount::kib(1)),
                  *read_all(here.kernel.get(), ByteCount::kib(1)));
        return status.st_ino;
    };
    const ino_t first = kernel_of_a_new_jail();
    EXPECT_EQ(kernel_of_a_new_jail(), first);
    // Changed in its place, of the same size.
    ASSERT_EQ(::pwrite(here.kernel.get(), "KERNEL", 6, 0), 6);
    const ino_t changed = kernel_of_a_new_jail();
    EXPECT_NE(changed, first);
    EXPECT_EQ(kernel_of_a_new_jail(), changed);
    EXPECT_EQ(list_folder(folder)->size(), 2u);
    for (int i = 0; i < 4; ++i) {
        here.kernel = memory_file("kernel " + std::to_string(i));
        (void)kernel_of_a_new_jail();
    }
    EXPECT_LE(list_folder(folder)->size(), 4u);
    // From another start of the host.
    ASSERT_TRUE(write_file_atomic(folder + "/some-boot_1000_1_2_3", "torn", 0444));
    here.restart();
    EXPECT_LE(list_folder(folder)->size(), 4u);
    EXPECT_FALSE(path_exists(folder + "/some-boot_1000_1_2_3"));
}

TEST_F(FirecrackerTest, EachMachineHasAUserOfItsOwn) {
    // The stand-in runs as us, so only what was reserved can be looked at.
    here.backend.reset();
    here.backend = FirecrackerVmBackend::open(here.host, here.parts, here.launcher,
                                              {.trusted_uid = ::geteuid(),
                                               .probe_kvm =
                                                   [] {
                                                       return Acceleration{true, {}, {}};
                                                   },
                                               .start_deadline = 50ms})
                       .value();
    here.tell("hang");
    // With both ends open here the stand-in does not wait for a reader.
    const UniqueFd fifo(::open((here.deeds + "/hanging").c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_TRUE(failed_with(backend().start(here.spec(), {}), Errc::timed_out));
    ASSERT_TRUE(here.launcher.last);
    EXPECT_EQ(here.launcher.last->uid, 100000u);
    Ledger ledger = Ledger::open(here.host.run_folder()).value();
    ASSERT_TRUE(ledger.write("0123456789ab", encode(Record{100000, "firecracker", {}, {}})));
    ASSERT_TRUE(ledger.write("0123456789ac", encode(Record{100002, "firecracker", {}, {}})));
    here.tell("refuse");
    EXPECT_FALSE(backend().start(here.spec(), {}));
    EXPECT_EQ(here.launcher.last->uid, 100001u);
}

TEST_F(FirecrackerTest, AStartThatFailsCarriesFirecrackersWordsAndLeavesNothing) {
    for (const auto& [deed, words] :
         std::map<std::string, std::string>{{"refuse", "the kernel cannot be loaded"},
                                            {"die", "the guest's memory cannot be made"},
                                            {"gibberish", "something else than HTTP"}}) {
        here.tell(deed);
        const Result<VmProcess> vm = backend().start(here.spec(), {});
        ASSERT_FALSE(vm) << deed;
        EXPECT_THAT(vm.error().message, HasSubstr(words)) << deed;
        EXPECT_TRUE(has_remedy(vm)) << deed;
        EXPECT_THAT(here.things(), IsEmpty()) << deed;
    }
    EXPECT_TRUE(succeeded(backend().start(here.spec(), {})));
}

TEST_F(FirecrackerTest, HalfAnAnswerIsAskedForAgain) {
    here.tell("half");
    EXPECT_TRUE(succeeded(backend().start(here.spec(), {})));
}

TEST_F(FirecrackerTest, ATapOrADiskThatIsNotTheOwnersIsRefused) {
    MachineSpec spec = here.spec();
    spec.link.device = "eth0";
    EXPECT_TRUE(failed_with(backend().start(spec, {}), Errc::permission_denied));
    EXPECT_THAT(here.things(), IsEmpty());
    spec = here.spec();
    // A descriptor is taken for a disk that is read only.
    spec.disks[0].path = "/proc/self/fd/" + std::to_string(here.modules.get()) + "x";
    EXPECT_FALSE(backend().start(spec, {}));
    EXPECT_THAT(here.things(), IsEmpty());
}

TEST_F(FirecrackerTest, TheRealPartsRefuseWhatIsNotTheOwners) {
    KernelParts parts;
    EXPECT_TRUE(failed_with(parts.owned_disk(here.disk, ::geteuid()), Errc::unsupported));
    EXPECT_TRUE(failed_with(parts.owned_disk(here.host / "none", ::geteuid()), Errc::not_found));
    EXPECT_TRUE(has_remedy(parts.owned_disk(here.host / "none", ::geteuid())));
    ASSERT_EQ(::symlink("/dev/null", (here.host / "link").c_str()), 0);
    EXPECT_FALSE(parts.owned_disk(here.host / "link", ::geteuid()));
    for (const char* name : {"", "lo", "../../kernel", "a/b", "sixteen-letters-x", "eth0\n"})
        EXPECT_TRUE(failed_with(parts.give_tap(name, 1000, 100000), Errc::permission_denied))
            << name;
}

TEST_F(FirecrackerTest, TheAgentIsWaitedForAndReachedWithoutANoise) {
    const Result<VmProcess> vm = backend().start(here.spec(), {});
    ASSERT_TRUE(succeeded(vm));
    here.tell("deaf");
    EXPECT_TRUE(failed_with(backend().connect_agent(*vm), Errc::unreachable));
    ASSERT_TRUE(remove_file(here.deeds + "/deaf"));
    const Result<UniqueFd> channel = backend().connect_agent(*vm);
    ASSERT_TRUE(succeeded(channel));
    // The greeting was read to its end, and nothing of what follows.
    char word[6] = {};
    for (std::size_t got = 0; got < 5;) {
        ASSERT_TRUE(poll_fd(channel->get(), POLLIN, 10s, {}));
        const ssize_t count = ::recv(channel->get(), word + got, 5 - got, 0);
        ASSERT_GT(count, 0);
        got += static_cast<std::size_t>(count);
    }
    EXPECT_STREQ(word, "hello");
    VmProcess other = *vm;
    ++other.process.start_time;
    EXPECT_TRUE(failed_with(backend().connect_agent(other), Errc::not_found));
}

/// Whoever took the VMM over can put anything in the place of its sockets.
TEST_F(FirecrackerTest, ASocketThatWasSwappedIsNotUsed) {
    const MachineSpec spec = here.spec();
    const Result<VmProcess> vm = backend().start(spec, {});
    ASSERT_TRUE(succeeded(vm));
    const std::string place = here.jail(spec.vm) + "/run/vsock.sock";
    const std::string elsewhere = here.host / "elsewhere.sock";
    ASSERT_EQ(::rename(place.c_str(), elsewhere.c_str()), 0);
    ASSERT_EQ(::symlink(elsewhere.c_str(), place.c_str()), 0);
    EXPECT_FALSE(backend().connect_agent(*vm));
    ASSERT_TRUE(remove_file(place));
    ASSERT_TRUE(write_file_atomic(place, "", 0600));
    EXPECT_TRUE(failed_with(backend().connect_agent(*vm), Errc::permission_denied));
    // Another user's socket.
    const JailPaths paths(here.host, spec.vm, "firecracker");
    EXPECT_TRUE(succeeded(connect_in_jail(paths, api_socket, ::geteuid())));
    EXPECT_TRUE(
        failed_with(connect_in_jail(paths, api_socket, ::geteuid() + 1), Errc::permission_denied));
}

TEST_F(FirecrackerTest, ARefusedPauseSaysWhy) {
    const Result<VmProcess> vm = backend().start(here.spec(), {});
    ASSERT_TRUE(succeeded(vm));
    here.tell("stubborn");
    const Result<void> paused = backend().pausing()->pause(*vm, {});
    EXPECT_TRUE(failed_with(paused, Errc::wrong_state));
    EXPECT_THAT(paused.error().message, HasSubstr("not now"));
    ASSERT_TRUE(remove_file(here.deeds + "/stubborn"));
    EXPECT_TRUE(succeeded(backend().pausing()->pause(*vm, {})));
}

TEST_F(FirecrackerTest, ASnapshotIsForTheMachineTheHostAndTheVersionItIsOf) {
    const MachineSpec spec = here.spec();
    const Result<VmProcess> vm = backend().start(spec, {});
    ASSERT_TRUE(succeeded(vm));
    ASSERT_TRUE(succeeded(backend().pausing()->pause(*vm, {})));
    VmSnapshots& snapshots = *backend().snapshots();
    const UniqueFd file = memory_file("");
    here.tell("stubborn");
    const Result<void> refused = snapshots.save(*vm, file, {});
    EXPECT_TRUE(failed_with(refused, Errc::wrong_state));
    EXPECT_THAT(refused.error().message, HasSubstr("not now"));
    ASSERT_TRUE(remove_file(here.deeds + "/stubborn"));
    EXPECT_TRUE(failed_with(snapshots.save(*vm, memory_file("x"), {}), Errc::invalid_argument));
    ASSERT_TRUE(succeeded(snapshots.save(*vm, file, {})));
    EXPECT_THAT(*list_folder(here.jail(spec.vm) + "/run"),
                testing::ElementsAre("api.sock", "vsock.sock"));
    ASSERT_TRUE(succeeded(backend().kill(*vm)));

    const auto with = [&](auto change) {
        // Head and state; memory is a hole, and stays one.
        std::string bytes(2 * snapshot_head_size, '\0');
        const ssize_t count = ::pread(file.get(), bytes.data(), bytes.size(), 0);
        EXPECT_EQ(count, static_cast<ssize_t>(bytes.size()));
        SnapshotHead head = decode_snapshot_head(bytes.substr(0, snapshot_head_size)).value();
        change(head);
        bytes.replace(0, snapshot_head_size, encode(head).value());
        UniqueFd changed = memory_file(bytes);
        struct stat status {};
        EXPECT_EQ(::fstat(file.get(), &status), 0);
        EXPECT_EQ(::ftruncate(changed.get(), status.st_size), 0);
        return changed;
    };
    const auto error_of = [&](const UniqueFd& snapshot) {
        const Result<VmProcess> restored = snapshots.restore(spec, snapshot, {});
        EXPECT_TRUE(has_remedy(restored));
        return restored ? "" : restored.error().message;
    };
    EXPECT_THAT(error_of(with([](SnapshotHead& head) { head.firecracker = "1.11.0"; })),
                HasSubstr("by Firecracker 1.11.0, and here is 1.12"));
    EXPECT_THAT(error_of(with([](SnapshotHead& head) { head.host = "an Atari"; })),
                HasSubstr("on another host (an Atari)"));
    EXPECT_THAT(error_of(with([](SnapshotHead& head) { head.config += " "; })),
                HasSubstr("other sizes, disks or network"));
    EXPECT_THAT(error_of(with([](SnapshotHead& head) { head.memory_size -= 4096; })),
                HasSubstr("other sizes, disks or network"));
    EXPECT_THAT(error_of(with([](SnapshotHead& head) { head.memory_size += 4096; })),
                HasSubstr("cut off"));
    here.tell("stubborn");
    EXPECT_THAT(error_of(file), HasSubstr("not now"));
    ASSERT_TRUE(remove_file(here.deeds + "/stubborn"));

    const Result<VmProcess> back = snapshots.restore(spec, file, {});
    ASSERT_TRUE(succeeded(back));
    EXPECT_TRUE(here.launcher.last->is_restored);
    // Nobody needs a name for what is mapped.
    EXPECT_THAT(
        *list_folder(here.jail(spec.vm)),
        testing::ElementsAre("config.json", "disk-modules", "disk-root", "firecracker.log", "run"));
    // One that was restored can be saved again.
    EXPECT_TRUE(succeeded(snapshots.save(*back, memory_file(""), {})));
}

TEST_F(FirecrackerTest, TheGuestsWordsAndFirecrackersAreApart) {
    const MachineSpec spec = here.spec();
    ASSERT_TRUE(succeeded(backend().start(spec, {})));
    const Result<UniqueFd> console = backend().console(spec.vm);
    ASSERT_TRUE(succeeded(console));
    EXPECT_EQ(*read_all(console->get(), ByteCount::kib(4)), "a guest's first words\n");
}

TEST_F(FirecrackerTest, WhateverADeadHelperLeftHalfMadeIsCleared) {
    const VmId vm = VmId::random();
    const std::vector<std::function<void()>> steps = {
        [&] {
            Ledger ledger = Ledger::open(here.host.run_folder()).value();
            ASSERT_TRUE(ledger.write(vm.str(), encode(Record{100000, "firecracker", {}, {}})));
        },
        [&] { ASSERT_TRUE(ensure_folder(here.jail(vm) + "/run", 0700)); },
        [&] { ASSERT_TRUE(write_file_atomic(here.jail(vm) + "/vmlinux", "k", 0400)); },
        [&] {
            Ledger ledger = Ledger::open(here.host.run_folder()).value();
            ASSERT_TRUE(ledger.write(
                vm.str(),
                encode(Record{100000, "firecracker", {}, ProcessId{4711, 999'999'999'999}})));
        },
        [&] {
            Ledger ledger = Ledger::open(here.host.run_folder()).value();
            ASSERT_TRUE(ledger.write(vm.str(), "garbage"));
        },
    };
    for (std::size_t done = 1; done <= steps.size(); ++done) {
        for (std::size_t i = 0; i < done; ++i)
            steps[i]();
        here.restart();
        ASSERT_TRUE(succeeded(backend().recover({}))) << done;
        EXPECT_THAT(here.things(), IsEmpty()) << done;
        for (std::size_t i = 0; i < done; ++i)
            steps[i]();
        const Result<VmProcess> started = backend().start(here.spec(vm, contract::name_of(0)), {});
        ASSERT_TRUE(succeeded(started)) << done;
        ASSERT_TRUE(succeeded(backend().remove(vm)));
        EXPECT_THAT(here.things(), IsEmpty()) << done;
    }
}

TEST_F(FirecrackerTest, WithoutKvmOrFirecrackerThereIsARemedy) {
    here.host.changeable_settings["firecracker_bin"] = here.host / "none";
    EXPECT_TRUE(failed_with(backend().capabilities(), Errc::unavailable));
    EXPECT_TRUE(has_remedy(backend().start(here.spec(), {})));
    EXPECT_EQ(backend().checks({})[0].status, CheckStatus::fail);
    here.host.changeable_settings["firecracker_bin"] = here.program;
    here.backend.reset();
    here.backend =
        FirecrackerVmBackend::open(here.host, here.parts, here.launcher,
                                   {.trusted_uid = ::geteuid(),
                                    .probe_kvm =
                                        [] {
                                            return Acceleration{false, "no vmx", "Buy a CPU."};
                                        }})
            .value();
    EXPECT_TRUE(failed_with(backend().capabilities(), Errc::unavailable));
    EXPECT_TRUE(failed_with(backend().start(here.spec(), {}), Errc::unavailable));
    EXPECT_THAT(here.things(), IsEmpty());
}

using Case = contract::Case<contract::VmBackendSubject>;

}  // namespace
}  // namespace banger::firecracker

namespace banger::contract {
INSTANTIATE_TEST_SUITE_P(Firecracker, VmBackendContract,
                         testing::Values(firecracker::Case{
                             "stand_in",
                             [] { return std::make_unique<firecracker::FirecrackerSubject>(); }}),
                         case_name);
}  // namespace banger::contract

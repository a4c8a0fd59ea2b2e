#include "banger/contract/vm_backend.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "core/base/child.hpp"
#include "core/base/process.hpp"

namespace banger::contract {

const bool vm_backend_suite_is_linked = true;

using testing::Contains;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

namespace {

/// What the descriptors of a process refer to.
std::vector<std::string> descriptors_of(const ProcessId& process) {
    std::vector<std::string> targets;
    std::error_code ignored;
    const std::string folder = "/proc/" + std::to_string(process.pid) + "/fd";
    for (const auto& entry : std::filesystem::directory_iterator(folder, ignored))
        targets.push_back(std::filesystem::read_symlink(entry.path(), ignored).string());
    return targets;
}

bool is_stream_socket(const UniqueFd& fd) {
    int type = 0;
    socklen_t size = sizeof type;
    return ::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

}  // namespace

MachineSpec VmBackendContract::spec(std::size_t i) {
    return subject().spec(VmId::random(), name_of(i));
}

Result<VmProcess> VmBackendContract::start(const MachineSpec& spec, std::stop_token stop) {
    Result<VmProcess> vm = role().start(spec, std::move(stop));
    if (vm) started_.push_back(*vm);
    return vm;
}

void VmBackendContract::TearDown() {
    for (const VmProcess& vm : started_) {
        EXPECT_TRUE(succeeded(role().kill(vm)));
        EXPECT_TRUE(succeeded(role().remove(vm.vm)));
    }
    expect_nothing_left();
}

TEST_P(VmBackendContract, capabilities_are_whole) {
    const Result<BackendCapabilities> capabilities = role().capabilities();
    ASSERT_TRUE(succeeded(capabilities));
    EXPECT_THAT(capabilities->links, Not(IsEmpty()));
    EXPECT_THAT(capabilities->disk_formats, Not(IsEmpty()));
    EXPECT_GE(capabilities->max_vcpus, 1u);
    EXPECT_EQ(capabilities->hardware_accelerated, capabilities->acceleration_note.empty());
    EXPECT_EQ(capabilities->pause, role().pausing() != nullptr);
    EXPECT_EQ(capabilities->snapshots, role().snapshots() != nullptr);
}

TEST_P(VmBackendContract, start_gives_a_process_on_its_own) {
    int fds[2] = {-1, -1};
    ASSERT_EQ(::pipe(fds), 0);  // without close-on-exec: an inherited one would show
    const UniqueFd read_end(fds[0]);
    const UniqueFd write_end(fds[1]);
    struct stat marker = {};
    ASSERT_EQ(::fstat(write_end.get(), &marker), 0);

    const MachineSpec wanted = spec();
    const Result<VmProcess> vm = start(wanted);
    ASSERT_TRUE(succeeded(vm));
    EXPECT_EQ(vm->vm, wanted.vm);
    EXPECT_TRUE(is_running(vm->process));
    EXPECT_NE(::getsid(static_cast<pid_t>(vm->process.pid)), ::getsid(0));
    EXPECT_THAT(descriptors_of(vm->process),
                Not(Contains("pipe:[" + std::to_string(marker.st_ino) + "]")));
}

TEST_P(VmBackendContract, start_twice_is_the_wrong_state) {
    const MachineSpec wanted = spec();
    const Result<VmProcess> vm = start(wanted);
    ASSERT_TRUE(succeeded(vm));
    EXPECT_TRUE(failed_with(start(wanted), Errc::wrong_state));
    EXPECT_TRUE(is_running(vm->process)) << "the first lives on";
}

TEST_P(VmBackendContract, kill_ends_it_and_succeeds_twice) {
    const Result<VmProcess> one = start(spec(0));
    const Result<VmProcess> two = start(spec(1));
    ASSERT_TRUE(succeeded(one));
    ASSERT_TRUE(succeeded(two));
    EXPECT_TRUE(succeeded(role().kill(*one)));
    EXPECT_FALSE(is_running(one->process)) << "it is gone when kill() returns";
    EXPECT_TRUE(succeeded(role().kill(*one)));
    EXPECT_TRUE(is_running(two->process));
    EXPECT_TRUE(succeeded(role().remove(one->vm)));
    EXPECT_TRUE(succeeded(role().remove(one->vm)));
    EXPECT_TRUE(succeeded(role().remove(VmId::random())));
    EXPECT_TRUE(is_running(two->process));
}

TEST_P(VmBackendContract, kill_of_one_that_died_by_itself) {
    const MachineSpec wanted = spec();
    const Result<VmProcess> vm = start(wanted);
    ASSERT_TRUE(succeeded(vm));
    if (!subject().lose(vm->vm)) GTEST_SKIP() << "the VMM cannot be killed from outside here";
    EXPECT_TRUE(succeeded(role().kill(*vm)));
    const Result<VmProcess> again = start(wanted);
    ASSERT_TRUE(succeeded(again)) << "the machine can start again";
    EXPECT_NE(again->process, vm->process);
}

TEST_P(VmBackendContract, kill_never_hits_a_process_that_has_the_number_now) {
    Command command;
    command.program = "/bin/sleep";
    command.arguments = {"600"};
    const Result<Child> bystander = spawn(command);
    ASSERT_TRUE(succeeded(bystander));
    VmProcess stale{VmId::random(), bystander->id(), ""};
    ++stale.process.start_time;
    EXPECT_TRUE(succeeded(role().kill(stale)));
    EXPECT_TRUE(is_running(bystander->id()));
    const Result<std::vector<VmId>> gone = role().recover(std::vector<VmProcess>{stale});
    ASSERT_TRUE(succeeded(gone));
    EXPECT_THAT(*gone, UnorderedElementsAre(stale.vm));
    EXPECT_TRUE(is_running(bystander->id()));
}

TEST_P(VmBackendContract, start_again_after_kill) {
    const MachineSpec wanted = spec();
    for (int i = 0; i < 3; ++i) {
        const Result<VmProcess> vm = start(wanted);
        ASSERT_TRUE(succeeded(vm));
        EXPECT_TRUE(succeeded(role().kill(*vm)));
    }
}

TEST_P(VmBackendContract, console_lives_from_the_first_start_to_remove) {
    const MachineSpec wanted = spec();
    EXPECT_TRUE(failed_with(role().console(wanted.vm), Errc::not_found));
    const Result<VmProcess> vm = start(wanted);
    ASSERT_TRUE(succeeded(vm));
    const Result<UniqueFd> console = role().console(wanted.vm);
    ASSERT_TRUE(succeeded(console));
    EXPECT_EQ(::fcntl(console->get(), F_GETFL) & O_ACCMODE, O_RDONLY);
    EXPECT_NE(::fcntl(console->get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_TRUE(succeeded(role().kill(*vm)));
    EXPECT_TRUE(succeeded(role().console(wanted.vm))) << "the last words stay readable";
    EXPECT_TRUE(succeeded(role().remove(wanted.vm)));
    EXPECT_TRUE(failed_with(role().console(wanted.vm), Errc::not_found));
}

TEST_P(VmBackendContract, the_agents_channel_is_a_stream_socket) {
    const Result<VmProcess> vm = start(spec());
    ASSERT_TRUE(succeeded(vm));
    const Result<UniqueFd> channel = role().connect_agent(*vm);
    ASSERT_TRUE(succeeded(channel));
    EXPECT_TRUE(is_stream_socket(*channel));
    EXPECT_NE(::fcntl(channel->get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_TRUE(succeeded(role().kill(*vm)));
    EXPECT_TRUE(failed_with(role().connect_agent(*vm), Errc::not_found));
}

TEST_P(VmBackendContract, a_start_that_fails_leaves_nothing) {
    MachineSpec wanted = spec();
    wanted.disks.push_back({"/nonexistent/disk.img", DiskFormat::raw, false, "missing"});
    EXPECT_TRUE(has_remedy(start(wanted)));
    EXPECT_TRUE(failed_with(role().console(wanted.vm), Errc::not_found));
    expect_nothing_left();
    wanted.disks.pop_back();
    const int kernel = std::exchange(wanted.kernel_fd, -1);
    EXPECT_FALSE(start(wanted));
    expect_nothing_left();
    wanted.kernel_fd = kernel;
    EXPECT_TRUE(succeeded(start(wanted))) << "the next attempt is unharmed";
}

TEST_P(VmBackendContract, an_injected_failure_leaves_nothing) {
    if (!subject().fail_next()) GTEST_SKIP() << "start() cannot be made to fail here";
    const MachineSpec wanted = spec();
    EXPECT_TRUE(has_remedy(start(wanted)));
    expect_nothing_left();
    EXPECT_TRUE(succeeded(start(wanted)));
}

TEST_P(VmBackendContract, cancelled_before_it_began) {
    EXPECT_TRUE(failed_with(start(spec(), already_stopped()), Errc::cancelled));
    expect_nothing_left();
}

TEST_P(VmBackendContract, cancelled_in_the_middle) {
    if (!subject().hang_next()) GTEST_SKIP() << "start() cannot be made to hang here";
    const MachineSpec wanted = spec();
    const Result<VmProcess> vm = stopped_while_hanging(
        subject(), [&](std::stop_token stop) { return role().start(wanted, stop); });
    EXPECT_TRUE(failed_with(vm, Errc::cancelled));
    expect_nothing_left();
}

TEST_P(VmBackendContract, machines_outlive_the_plugin_and_are_recovered) {
    const Result<VmProcess> kept = start(spec(0));
    ASSERT_TRUE(succeeded(kept));
    const std::vector<std::string> only_kept = existing();
    const Result<VmProcess> orphan = role().start(spec(1), never());
    ASSERT_TRUE(succeeded(orphan));
    const Result<VmProcess> lost = start(spec(2));
    ASSERT_TRUE(succeeded(lost));
    const bool is_lost = subject().lose(lost->vm);

    subject().restart();
    EXPECT_TRUE(is_running(kept->process)) << "the VMM died with the plugin";
    std::vector<VmProcess> remembered{*kept};
    if (is_lost) remembered.push_back(*lost);
    const Result<std::vector<VmId>> gone = role().recover(remembered);
    ASSERT_TRUE(succeeded(gone));
    if (is_lost)
        EXPECT_THAT(*gone, UnorderedElementsAre(lost->vm));
    else
        EXPECT_THAT(*gone, IsEmpty());
    EXPECT_TRUE(is_running(kept->process));
    EXPECT_FALSE(is_running(orphan->process));
    EXPECT_TRUE(succeeded(role().connect_agent(*kept)));
    EXPECT_TRUE(succeeded(role().console(kept->vm)));
    EXPECT_TRUE(succeeded(role().remove(lost->vm)));
    EXPECT_TRUE(succeeded(role().remove(orphan->vm)));
    EXPECT_EQ(existing(), only_kept);
}

TEST_P(VmBackendContract, pause_and_resume_are_idempotent) {
    VmPausing* const pausing = role().pausing();
    if (!pausing) GTEST_SKIP() << "this back end does not pause";
    const Result<VmProcess> vm = start(spec());
    ASSERT_TRUE(succeeded(vm));
    for (int i = 0; i < 2; ++i)
        EXPECT_TRUE(succeeded(pausing->pause(*vm, never())));
    EXPECT_TRUE(is_running(vm->process));
    for (int i = 0; i < 2; ++i)
        EXPECT_TRUE(succeeded(pausing->resume(*vm, never())));
    EXPECT_TRUE(succeeded(pausing->pause(*vm, never())));
    EXPECT_TRUE(succeeded(role().kill(*vm))) << "a paused machine can be killed";
    EXPECT_TRUE(failed_with(pausing->pause(*vm, never()), Errc::not_found));
    EXPECT_TRUE(failed_with(pausing->resume(*vm, never()), Errc::not_found));
}

TEST_P(VmBackendContract, a_saved_machine_comes_back_paused) {
    VmSnapshots* const snapshots = role().snapshots();
    VmPausing* const pausing = role().pausing();
    if (!snapshots || !pausing) GTEST_SKIP() << "this back end saves no machines";
    const UniqueFd file(::memfd_create("snapshot", MFD_CLOEXEC));
    const MachineSpec wanted = spec();
    const Result<VmProcess> vm = start(wanted);
    ASSERT_TRUE(succeeded(vm));
    EXPECT_TRUE(failed_with(snapshots->save(*vm, file, never()), Errc::wrong_state));
    ASSERT_TRUE(succeeded(pausing->pause(*vm, never())));
    const std::vector<std::string> paused = existing();
    ASSERT_TRUE(succeeded(snapshots->save(*vm, file, never())));
    EXPECT_EQ(existing(), paused) << "everything is in the sink";
    EXPECT_TRUE(is_running(vm->process));
    EXPECT_TRUE(failed_with(snapshots->restore(wanted, file, never()), Errc::wrong_state))
        << "it runs";
    ASSERT_TRUE(succeeded(role().kill(*vm)));
    EXPECT_TRUE(failed_with(snapshots->save(*vm, file, never()), Errc::not_found));

    const std::vector<std::string> killed = existing();
    MachineSpec other = wanted;
    other.memory = ByteCount::bytes(2 * wanted.memory.count());
    EXPECT_TRUE(has_remedy(snapshots->restore(other, file, never()))) << "another machine's";
    EXPECT_TRUE(failed_with(snapshots->restore(wanted, file, already_stopped()), Errc::cancelled));
    EXPECT_EQ(existing(), killed);

    for (int i = 0; i < 2; ++i) {
        const Result<VmProcess> back = snapshots->restore(wanted, file, never());
        ASSERT_TRUE(succeeded(back)) << "as often as one likes";
        EXPECT_NE(back->process, vm->process);
        EXPECT_TRUE(is_running(back->process));
        EXPECT_TRUE(succeeded(pausing->resume(*back, never())));
        EXPECT_TRUE(succeeded(role().connect_agent(*back)));
        ASSERT_TRUE(succeeded(role().kill(*back)));
    }
    struct stat status = {};
    ASSERT_EQ(::fstat(file.get(), &status), 0);
    for (const off_t left : {status.st_size / 2, off_t{100}, off_t{0}}) {
        ASSERT_EQ(::ftruncate(file.get(), left), 0);
        EXPECT_TRUE(has_remedy(snapshots->restore(wanted, file, never()))) << left;
        EXPECT_EQ(existing(), killed);
    }
}

TEST_P(VmBackendContract, many_machines_at_once) {
    constexpr std::size_t count = 6;
    std::vector<MachineSpec> specs;
    for (std::size_t i = 0; i < count; ++i)
        specs.push_back(spec(i));
    std::vector<std::string> errors(count);
    all_at_once(count, [&](std::size_t i) {
        const Result<VmProcess> vm = role().start(specs[i], never());
        if (!vm) {
            errors[i] = vm.error().text();
            return;
        }
        const Result<UniqueFd> channel = role().connect_agent(*vm);
        if (!channel) errors[i] = channel.error().text();
        const Result<void> killed = role().kill(*vm);
        if (!killed) errors[i] = killed.error().text();
        const Result<void> removed = role().remove(vm->vm);
        if (!removed) errors[i] = removed.error().text();
    });
    EXPECT_THAT(errors, testing::Each(IsEmpty()));
    expect_nothing_left();
}

TEST_P(VmBackendContract, checks_change_nothing) {
    for (const Check& check : role().checks(never())) {
        EXPECT_FALSE(check.name.empty());
        EXPECT_EQ(check.status == CheckStatus::pass, check.remedy.empty()) << check.name;
    }
    expect_nothing_left();
}

}  // namespace banger::contract

#include "core/vms/machines.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "tests/vms/bench_of_fakes.hpp"

namespace banger {
namespace {

/// Counts role calls and does something at the n-th, counted from 1.
class AtCall {
public:
    AtCall(int n, std::function<std::optional<Error>()> action)
        : n_(n), action_(std::move(action)) {}
    std::optional<Error> operator()(const PluginCall& call) {
        // Only calls that make something: looking and removing are not steps of create().
        if (call.method == "recover" || call.method == "checks" || is_removal(call.method))
            return std::nullopt;
        if (++seen_ != n_) return std::nullopt;
        at_ = call.method;
        return action_();
    }
    [[nodiscard]] bool was_reached() const { return seen_ >= n_; }
    [[nodiscard]] const std::string& at() const { return at_; }

private:
    static bool is_removal(const std::string& method) {
        return method == "detach" || method == "remove" || method == "withdraw" ||
               method == "kill" || method == "deactivate" || method == "unroute";
    }
    std::atomic<int> seen_ = 0;
    int n_;
    std::function<std::optional<Error>()> action_;
    std::string at_;
};

void expect_nothing_left(BenchOfFakes& bench) {
    EXPECT_EQ(bench.inventory(), HostInventory{});
    EXPECT_TRUE(bench.store().machines()->empty());
    EXPECT_TRUE(bench.store().resources()->empty());
}

/// Pulls image and kernel, so that the steps counted afterwards are those of the machine.
void pull(BenchOfFakes& bench) {
    TestCall call;
    ASSERT_TRUE(bench.create(call, "first", false));
    ASSERT_TRUE(bench.machines().remove("first", true, call));
}

TEST(Machines, CreateStartsAndDeleteLeavesNothing) {
    const TempFolder folder;
    BenchOfFakes bench(folder.path());
    TestCall call;
    const Result<VmRecord> vm = bench.create(call);
    ASSERT_TRUE(vm) << vm.error().text();
    EXPECT_EQ(vm->state, VmState::running);
    ASSERT_TRUE(vm->process);
    EXPECT_TRUE(is_running(vm->process->process));
    EXPECT_EQ(bench.watched().size(), 1u);
    EXPECT_FALSE(bench.inventory().empty());
    ASSERT_TRUE(bench.machines().remove("sandbox", true, call));
    expect_nothing_left(bench);
}

TEST(Machines, WithoutAPluginThatMadeItAMachineIsUnavailableAndNeverLost) {
    const TempFolder folder;
    TestCall call;
    VmId id = VmId::random();
    const auto set_storage = [&](BenchOfFakes& bench, const char* plugin) {
        VmRecord vm = bench.store().machine(id).value();
        vm.storage = PluginName::parse(plugin).value();
        ASSERT_TRUE(bench.store().save_machine(vm));
    };
    {
        BenchOfFakes bench(folder.path());
        const Result<VmRecord> made = bench.create(call);
        ASSERT_TRUE(made) << made.error().text();
        id = made->id;
        EXPECT_EQ(bench.machines().why_unavailable(*made), std::nullopt);
        ASSERT_TRUE(bench.machines().stop("sandbox", call));
        set_storage(bench, "storage-gone");
    }
    {
        BenchOfFakes bench(folder.path());
        const VmRecord vm = bench.store().machine(id).value();
        EXPECT_EQ(bench.machines().why_unavailable(vm),
                  "the plugin \"storage-gone\" is not installed");
        EXPECT_FALSE(bench.machines().remove("sandbox", true, call))
            << "nothing of it is forgotten";
        const Result<VmRecord> kept = bench.store().machine(id);
        ASSERT_TRUE(kept);
        EXPECT_EQ(kept->state, VmState::stopped);
        EXPECT_EQ(kept->volumes.size(), vm.volumes.size());
    }
}

/// The property that matters most.
/// [[file_sync]]: the owner's files become part of what the guest is given.
TEST(Machines, FilesOfTheOwnersHomeGoIntoANewMachine) {
    const TempFolder folder;
    const std::string home = folder / "home";
    ASSERT_TRUE(ensure_folder(home + "/bin", 0700));
    ASSERT_TRUE(write_file_atomic(home + "/bin/tool", "#!/bin/sh\n", 0755));
    BenchOfFakes bench(folder.path());
    bench.config().file_sync = {{home + "/bin", "/root/bin", {}, {}},
                                {home + "/gone", "/root/gone", {}, {}}};
    const Result<CreatePlan> plan = bench.machines().plan({});
    ASSERT_TRUE(plan) << plan.error().text();
    EXPECT_THAT(plan->notes, testing::Contains(testing::HasSubstr("gone is not there")));
    TestCall call;
    const Result<VmRecord> vm = bench.create(call, "sandbox", false);
    ASSERT_TRUE(vm) << vm.error().text();
    const std::string given = folder / "state/vms/" + vm->id.str() + "/banger/";
    EXPECT_THAT(read_file(given + "vm.json", ByteCount::mib(1)).value_or(""),
                testing::HasSubstr("\"/root/bin/tool\""));
    EXPECT_EQ(read_file(given + "files/1", ByteCount::mib(1)).value_or(""), "#!/bin/sh\n");
    ASSERT_TRUE(bench.machines().remove("sandbox", true, call));
    EXPECT_TRUE(path_exists(home + "/bin/tool"));

    // Too much is said before anything is made.
    ASSERT_TRUE(write_file_atomic(home + "/bin/large", std::string(7U << 20, 'x'), 0644));
    const Result<VmRecord> none = bench.create(call, "large", false);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, Errc::no_space);
    EXPECT_TRUE(bench.store().machines()->empty());
}

TEST(Machines, WhateverStepOfCreateFailsNothingIsLeft) {
    const TempFolder folder;
    {
        BenchOfFakes bench(folder.path());
        pull(bench);
    }
    for (int n = 1;; ++n) {
        AtCall fail(n, [] { return Error(Errc::internal, "made to fail", "Try again."); });
        BenchOfFakes bench(folder.path(), std::ref(fail));
        TestCall call;
        const Result<VmRecord> vm = bench.create(call);
        if (!fail.was_reached()) {
            ASSERT_TRUE(vm) << vm.error().text();
            EXPECT_GE(n, 7)
                << "create() has fewer steps than it should: the test sees none of them";
            ASSERT_TRUE(bench.machines().remove("sandbox", true, call));
            break;
        }
        ASSERT_FALSE(vm) << "step " << n << ", " << fail.at();
        EXPECT_NE(vm.error().message.find("made to fail"), std::string::npos) << vm.error().text();
        SCOPED_TRACE("step " + std::to_string(n) + ", " + fail.at());
        expect_nothing_left(bench);
    }
}

TEST(Machines, WhereverTheClientGoesAwayNothingIsLeft) {
    const TempFolder folder;
    {
        BenchOfFakes bench(folder.path());
        pull(bench);
    }
    for (int n = 1;; ++n) {
        TestCall call;
        AtCall leave(n, [&]() -> std::optional<Error> {
            call.go_away();
            return std::nullopt;
        });
        BenchOfFakes bench(folder.path(), std::ref(leave));
        const Result<VmRecord> vm = bench.create(call);
        if (!leave.was_reached()) {
            ASSERT_TRUE(vm) << vm.error().text();
            TestCall cleanup;
            ASSERT_TRUE(bench.machines().remove("sandbox", true, cleanup));
            break;
        }
        SCOPED_TRACE("step " + std::to_string(n) + ", " + leave.at());
        ASSERT_FALSE(vm);
        EXPECT_EQ(vm.error().code, Errc::cancelled) << vm.error().text();
        expect_nothing_left(bench);
    }
}

/// kill -9 at every step: a child process dies there, and the next daemon puts things right.
TEST(Machines, WhereverTheDaemonDiesTheNextOneLeavesNothing) {
    const TempFolder folder;
    {
        BenchOfFakes bench(folder.path());
        pull(bench);
    }
    for (int n = 1;; ++n) {
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            AtCall die(n, []() -> std::optional<Error> { ::_exit(9); });
            BenchOfFakes bench(folder.path(), std::ref(die));
            TestCall call;
            (void)bench.create(call);
            ::_exit(0);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        BenchOfFakes bench(folder.path());
        SCOPED_TRACE("step " + std::to_string(n));
        TestCall call;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            // It was never reached: the machine was made, and outlived its daemon.
            const Result<VmRecord> vm = bench.store().find_machine("sandbox");
            ASSERT_TRUE(vm);
            EXPECT_EQ(vm->state, VmState::running);
            EXPECT_EQ(bench.watched().size(), 1u);
            ASSERT_TRUE(bench.machines().remove("sandbox", true, call));
            expect_nothing_left(bench);
            break;
        }
        ASSERT_EQ(WEXITSTATUS(status), 9);
        expect_nothing_left(bench);
        EXPECT_TRUE(bench.create(call)) << "the next command works";
        EXPECT_TRUE(bench.machines().remove("sandbox", true, call));
    }
}

TEST(Machines, AFailingTeardownStepNeverSkipsTheOthers) {
    const TempFolder folder;
    bool fail = false;
    BenchOfFakes bench(folder.path(), [&](const PluginCall& call) -> std::optional<Error> {
        if (fail && (call.method == "detach" || call.method == "withdraw"))
            return Error(Errc::busy, call.method + " made to fail", "Try again.");
        return std::nullopt;
    });
    TestCall call;
    ASSERT_TRUE(bench.create(call));
    const ProcessId vmm = bench.watched().at(0).second;
    fail = true;
    const Result<VmRecord> removed = bench.machines().remove("sandbox", true, call);
    ASSERT_FALSE(removed);
    EXPECT_NE(removed.error().message.find("detach"), std::string::npos);
    EXPECT_NE(removed.error().message.find("withdraw"), std::string::npos);
    EXPECT_FALSE(is_running(vmm));
    EXPECT_EQ(bench.store().find_machine("sandbox")->state, VmState::deleting);
    EXPECT_THAT(bench.store().find_machine("sandbox")->error_reason, testing::HasSubstr("detach"));
    std::vector<StageTime> times;
    EXPECT_EQ(bench.machines().start("sandbox", call, times).error().code, Errc::wrong_state);
    fail = false;
    EXPECT_TRUE(bench.machines().remove("sandbox", true, call)) << "the next try finishes";
    expect_nothing_left(bench);
}

/// Something still uses a disk or the link of a machine whose VMM is thought to be gone.
class HeldBy : public testing::TestWithParam<const char*> {};

TEST_P(HeldBy, NothingStartsBesideALastRunThatIsNotOver) {
    const TempFolder folder;
    std::atomic<bool> is_held = false;
    const auto before = [&](const PluginCall& call) -> std::optional<Error> {
        if (is_held && call.method == GetParam())
            return Error(Errc::busy, "somebody uses it", "Wait for them.");
        return std::nullopt;
    };
    TestCall call;
    std::vector<StageTime> times;
    const auto expect_refused = [&](BenchOfFakes& bench) {
        const std::size_t before_try = bench.watched().size();
        const Result<VmRecord> started = bench.machines().start("sandbox", call, times);
        ASSERT_FALSE(started);
        EXPECT_EQ(started.error().code, Errc::busy);
        EXPECT_THAT(started.error().message, testing::HasSubstr("somebody uses it"));
        EXPECT_EQ(bench.watched().size(), before_try) << "a second VMM on the same disks";
        const Result<VmRecord> vm = bench.store().find_machine("sandbox");
        EXPECT_EQ(vm->state, VmState::error);
        EXPECT_THAT(vm->error_reason, testing::HasSubstr("somebody uses it"));
    };
    {
        BenchOfFakes bench(folder.path(), before);
        ASSERT_TRUE(bench.create(call));
        is_held = true;
        const Result<Machines::Stopped> stopped = bench.machines().stop("sandbox", call);
        ASSERT_FALSE(stopped);
        EXPECT_EQ(stopped.error().code, Errc::busy);
        expect_refused(bench);
        EXPECT_FALSE(bench.machines().kill("sandbox")) << "still not over";
        expect_refused(bench);
    }
    {
        BenchOfFakes bench(folder.path(), before);
        EXPECT_THAT(bench.recovered, testing::ElementsAre(testing::HasSubstr("somebody uses it")));
        expect_refused(bench);
        is_held = false;
        EXPECT_TRUE(bench.machines().start("sandbox", call, times));
        const Result<VmRecord> vm = bench.store().find_machine("sandbox");
        EXPECT_EQ(vm->state, VmState::running);
        EXPECT_EQ(vm->error_reason, "");
        // The VMM dies by itself, and the release fails again; this time stop tries anew.
        is_held = true;
        ASSERT_TRUE(kill_and_wait(vm->process->process));
        bench.machines().handle_exit(vm->id, vm->process->process);
        expect_refused(bench);
        is_held = false;
        EXPECT_TRUE(bench.machines().stop("sandbox", call));
        EXPECT_EQ(bench.store().find_machine("sandbox")->state, VmState::stopped);
        ASSERT_TRUE(bench.machines().remove("sandbox", false, call));
        expect_nothing_left(bench);
    }
}

INSTANTIATE_TEST_SUITE_P(Roles, HeldBy, testing::Values("deactivate", "detach"),
                         [](const auto& method) { return std::string(method.param); });

TEST(Machines, StopAsksTheGuestAndStartBringsItBack) {
    const TempFolder folder;
    BenchOfFakes bench(folder.path());
    TestCall call;
    ASSERT_TRUE(bench.create(call));
    const ProcessId first = bench.watched().at(0).second;
    const Result<Machines::Stopped> stopped = bench.machines().stop("sandbox", call);
    ASSERT_TRUE(stopped) << stopped.error().text();
    EXPECT_FALSE(stopped->was_forced);
    EXPECT_EQ(stopped->vm.state, VmState::stopped);
    EXPECT_FALSE(is_running(first));
    EXPECT_TRUE(bench.machines().stop("sandbox", call)) << "stopped already is success";
    std::vector<StageTime> times;
    const Result<VmRecord> again = bench.machines().start("sandbox", call, times);
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(again->state, VmState::running);
    EXPECT_NE(again->process->process, first);
    EXPECT_TRUE(bench.machines().start("sandbox", call, times)) << "running already is success";
    ASSERT_TRUE(bench.machines().remove("sandbox", true, call));
    expect_nothing_left(bench);
}

TEST(Machines, AVmmThatEndsByItselfLeavesAStoppedMachine) {
    const TempFolder folder;
    BenchOfFakes bench(folder.path());
    TestCall call;
    ASSERT_TRUE(bench.create(call));
    const auto [vm, process] = bench.watched().at(0);
    ASSERT_TRUE(kill_and_wait(process));
    bench.machines().handle_exit(vm, process);
    const Result<VmRecord> record = bench.store().find_machine("sandbox");
    EXPECT_EQ(record->state, VmState::stopped);
    EXPECT_FALSE(record->process);
    EXPECT_FALSE(record->link);
    ASSERT_TRUE(bench.machines().remove("sandbox", true, call));
    expect_nothing_left(bench);
}

TEST(Machines, AVmmThatDiedWhileNobodyLookedIsFoundAtStart) {
    const TempFolder folder;
    ProcessId process;
    {
        BenchOfFakes bench(folder.path());
        TestCall call;
        ASSERT_TRUE(bench.create(call));
        process = bench.watched().at(0).second;
    }
    ASSERT_TRUE(kill_and_wait(process));
    BenchOfFakes bench(folder.path());
    EXPECT_EQ(bench.store().find_machine("sandbox")->state, VmState::stopped);
    EXPECT_EQ(bench.recovered, std::vector<std::string>{"sandbox had ended meanwhile"});
    TestCall call;
    ASSERT_TRUE(bench.machines().remove("sandbox", true, call));
    expect_nothing_left(bench);
}

TEST(Machines, OneNameIsGivenOnce) {
    const TempFolder folder;
    BenchOfFakes bench(folder.path());
    pull(bench);
    std::atomic<int> made = 0;
    std::atomic<int> refused = 0;
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 4; ++i)
            threads.emplace_back([&] {
                TestCall call;
                const Result<VmRecord> vm = bench.create(call);
                if (vm)
                    ++made;
                else if (vm.error().code == Errc::already_exists)
                    ++refused;
            });
    }
    EXPECT_EQ(made, 1);
    EXPECT_EQ(refused, 3);
    TestCall call;
    ASSERT_TRUE(bench.machines().remove("sandbox", true, call));
    expect_nothing_left(bench);
}

TEST(Machines, ManyAtOnceComeAndGo) {
    const TempFolder folder;
    BenchOfFakes bench(folder.path());
    pull(bench);
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 8; ++i)
            threads.emplace_back([&, i] {
                const std::string name = "vm-" + std::to_string(i);
                TestCall call;
                const Result<VmRecord> vm = bench.create(call, name);
                EXPECT_TRUE(vm) << vm.error().text();
                EXPECT_TRUE(bench.machines().remove(name, i % 2 == 0, call));
            });
    }
    expect_nothing_left(bench);
}

TEST(Machines, BadRequestsAreRefusedBeforeAnythingIsMade) {
    const TempFolder folder;
    int calls = 0;
    BenchOfFakes bench(folder.path(), [&](const PluginCall& call) -> std::optional<Error> {
        if (call.method != "capabilities" && call.method != "recover") ++calls;
        return std::nullopt;
    });
    TestCall call;
    std::vector<StageTime> times;
    CreateRequest too_many;
    too_many.sizes.vcpus = 100000;
    EXPECT_EQ(bench.machines().create(too_many, true, call, times).error().code,
              Errc::invalid_argument);
    CreateRequest too_much;
    too_much.sizes.memory = ByteCount::gib(100000);
    EXPECT_EQ(bench.machines().create(too_much, true, call, times).error().code,
              Errc::invalid_argument);
    CreateRequest no_such_plugin;
    no_such_plugin.backend = "vmm-nothing";
    EXPECT_EQ(bench.machines().create(no_such_plugin, true, call, times).error().code,
              Errc::not_found);
    EXPECT_EQ(calls, 0);
    CreateRequest no_such_image;
    no_such_image.image = "no-such-image";
    const Result<VmRecord> refused = bench.machines().create(no_such_image, true, call, times);
    EXPECT_EQ(refused.error().code, Errc::not_found);
    EXPECT_FALSE(refused.error().remedy.empty());
    expect_nothing_left(bench);
}

}  // namespace
}  // namespace banger

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include "core/base/process.hpp"
#include "tests/vms/bench_of_fakes.hpp"

/// What is done to a machine besides starting and stopping it, and what is seen of it.
namespace banger {
namespace {

using testing::HasSubstr;

const Volume& work_disk(const VmRecord& vm) { return vm.volumes.at(1); }

TEST(Change, AStoppedMachineGetsAllOfItAtOnce) {
    const TempFolder folder;
    BenchOfFakes bench(folder.path());
    TestCall call;
    ASSERT_TRUE(bench.create(call, "sandbox", false));
    const Result<Machines::Changed> changed = bench.machines().change(
        "sandbox", {3, ByteCount::mib(512), ByteCount::mib(80), true}, call);
    ASSERT_TRUE(changed) << changed.error().text();
    EXPECT_THAT(changed->pending, testing::IsEmpty());
    const VmRecord vm = *bench.store().find_machine("sandbox");
    EXPECT_EQ(vm, changed->vm);
    EXPECT_EQ(vm.vcpus, 3u);
    EXPECT_EQ(vm.memory, ByteCount::mib(512));
    EXPECT_TRUE(vm.nat);
    EXPECT_EQ(work_disk(vm).size, ByteCount::mib(80));
    EXPECT_EQ(std::filesystem::file_size(work_disk(vm).path), ByteCount::mib(80).count());
    std::vector<StageTime> times;
    ASSERT_TRUE(bench.machines().start("sandbox", call, times));
    EXPECT_TRUE(bench.store().find_machine("sandbox")->link->nat);
    EXPECT_TRUE(bench.machines().remove("sandbox", true, call));
}

TEST(Change, ARunningMachineIsToldWhatWaitsAndItsDiskStays) {
    const TempFolder folder;
    BenchOfFakes bench(folder.path());
    TestCall call;
    ASSERT_TRUE(bench.create(call));
    const Result<Machines::Changed> changed =
        bench.machines().change("sandbox", {2, ByteCount::mib(512), {}, true}, call);
    ASSERT_TRUE(changed) << changed.error().text();
    EXPECT_THAT(changed->pending, testing::ElementsAre("vcpus", "memory", "nat"));
    EXPECT_THAT(bench.machines().change("sandbox", {{}, {}, {}, false}, call)->pending,
                testing::IsEmpty())
        << "that is what it has";
    const Result<Machines::Changed> grown =
        bench.machines().change("sandbox", {4, {}, ByteCount::mib(80), {}}, call);
    ASSERT_FALSE(grown);
    EXPECT_EQ(grown.error().code, Errc::wrong_state);
    EXPECT_EQ(bench.store().find_machine("sandbox")->vcpus, 2u) << "nothing of it was done";
    EXPECT_TRUE(bench.machines().remove("sandbox", true, call));
}

TEST(Change, WhatCannotBeIsRefusedAndNothingIsDone) {
    const TempFolder folder;
    BenchOfFakes bench(folder.path());
    TestCall call;
    ASSERT_TRUE(bench.create(call, "sandbox", false));
    const VmRecord before = *bench.store().find_machine("sandbox");
    const ChangeRequest refused[] = {
        {},
        {0, {}, {}, {}},
        {100000, {}, {}, {}},
        {{}, ByteCount::mib(1), {}, {}},
        {{}, ByteCount::gib(100000), {}, {}},
        {4, {}, ByteCount::mib(63), {}},
        {{}, {}, ByteCount::gib(1 << 20), {}},
    };
    for (const ChangeRequest& wanted : refused) {
        const Result<Machines::Changed> changed = bench.machines().change("sandbox", wanted, call);
        ASSERT_FALSE(changed);
        EXPECT_EQ(changed.error().code, Errc::invalid_argument);
        EXPECT_FALSE(changed.error().remedy.empty());
        EXPECT_EQ(*bench.store().find_machine("sandbox"), before);
    }
    EXPECT_TRUE(bench.machines().change("sandbox", {{}, {}, ByteCount::mib(64), {}}, call))
        << "the size that it has";
    EXPECT_TRUE(bench.machines().remove("sandbox", true, call));
}

TEST(Change, ADiskThatCannotGrowTakesTheRestOfTheChangeBack) {
    const TempFolder folder;
    bool fail = false;
    BenchOfFakes bench(folder.path(), [&](const PluginCall& made) -> std::optional<Error> {
        if (fail && made.method == "resize") return Error(Errc::no_space, "full", "Free some.");
        return std::nullopt;
    });
    TestCall call;
    ASSERT_TRUE(bench.create(call, "sandbox", false));
    const VmRecord before = *bench.store().find_machine("sandbox");
    fail = true;
    const Result<Machines::Changed> changed =
        bench.machines().change("sandbox", {4, {}, ByteCount::mib(80), {}}, call);
    ASSERT_FALSE(changed);
    EXPECT_EQ(changed.error().code, Errc::no_space);
    EXPECT_EQ(*bench.store().find_machine("sandbox"), before);
    fail = false;
    std::vector<StageTime> times;
    EXPECT_TRUE(bench.machines().start("sandbox", call, times));
    EXPECT_TRUE(bench.machines().remove("sandbox", true, call));
}

TEST(Look, UsageIsOfGuestVmmAndDisks) {
    const TempFolder folder;
    BenchOfFakes bench(folder.path());
    TestCall call;
    ASSERT_TRUE(bench.create(call));
    const Result<MachineUsage> usage = bench.machines().usage("sandbox", {});
    ASSERT_TRUE(usage) << usage.error().text();
    ASSERT_TRUE(usage->guest) << usage->why_no_guest;
    EXPECT_EQ(usage->guest->cpus, 1u);
    ASSERT_TRUE(usage->vmm);
    EXPECT_GT(usage->vmm->resident, ByteCount::kib(64));
    EXPECT_EQ(usage->disks.size(), 2u);
    EXPECT_TRUE(bench.machines().ports("sandbox", {}));

    ASSERT_TRUE(bench.machines().stop("sandbox", call));
    const Result<MachineUsage> stopped = bench.machines().usage("sandbox", {});
    ASSERT_TRUE(stopped);
    EXPECT_FALSE(stopped->guest);
    EXPECT_THAT(stopped->why_no_guest, HasSubstr("is not running"));
    EXPECT_FALSE(stopped->vmm);
    EXPECT_EQ(stopped->disks.size(), 2u);
    EXPECT_EQ(bench.machines().ports("sandbox", {}).error().code, Errc::wrong_state);
    EXPECT_TRUE(bench.machines().remove("sandbox", true, call));
}

TEST(Look, AGuestThatHangsIsLeftOut) {
    const TempFolder folder;
    BenchOfFakes bench(folder.path());
    TestCall call;
    ASSERT_TRUE(bench.create(call));
    const Result<UniqueFd> pidfd = open_pidfd(bench.watched().at(0).second);
    ASSERT_TRUE(pidfd);
    ASSERT_TRUE(send_signal(*pidfd, SIGSTOP));
    const Result<MachineUsage> usage = bench.machines().usage("sandbox", {});
    ASSERT_TRUE(usage) << usage.error().text();
    EXPECT_FALSE(usage->guest);
    EXPECT_THAT(usage->why_no_guest, HasSubstr("did not answer"));
    EXPECT_TRUE(usage->vmm);
    EXPECT_EQ(usage->disks.size(), 2u);
    EXPECT_TRUE(bench.machines().remove("sandbox", true, call));
}

TEST(Signal, GoesToTheVmmAndToNobodyElse) {
    const TempFolder folder;
    BenchOfFakes bench(folder.path());
    TestCall call;
    ASSERT_TRUE(bench.create(call));
    const auto [id, process] = bench.watched().at(0);
    const Result<UniqueFd> pidfd = open_pidfd(process);
    ASSERT_TRUE(pidfd);
    ASSERT_TRUE(bench.machines().signal("sandbox", SIGTERM));
    EXPECT_TRUE(*wait_for_exit(*pidfd, std::chrono::seconds(60), {}));
    EXPECT_EQ(bench.machines().signal("sandbox", SIGTERM).error().code, Errc::wrong_state)
        << "its number may be another's by now";
    bench.machines().handle_exit(id, process);
    EXPECT_EQ(bench.store().find_machine("sandbox")->state, VmState::stopped);
    EXPECT_TRUE(bench.machines().remove("sandbox", false, call));
}

}  // namespace
}  // namespace banger

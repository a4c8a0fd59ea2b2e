#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "core/base/process.hpp"
#include "tests/vms/bench_of_fakes.hpp"

/// Every operation times every step times what can die there: the daemon, the root helper, the VMM,
/// or nothing but the step itself. Afterwards a new daemon looks at what is left, and it must be
/// legal: recorded and real agree, and the next delete leaves nothing.
namespace banger {
namespace {

enum class Fault {
    step_fails,   ///< this call, once
    daemon_dies,  ///< kill -9, before the call
    helper_dies,  ///< from this call on every call of the privileged roles, until the next daemon
    vmm_dies,     ///< kill -9 of the machine's VMM, before the call
};

struct Operation {
    const char* name;
    bool is_running_before;
    std::function<bool(BenchOfFakes&, TestCall&)> run;
};

bool start(BenchOfFakes& bench, TestCall& call) {
    std::vector<StageTime> times;
    return bench.machines().start("sandbox", call, times).has_value();
}

const ChangeRequest larger{.vcpus = 2, .memory = {}, .disk = ByteCount::mib(96), .nat = {}};

const Operation operations[] = {
    {"start", false, start},
    {"restart", true,
     [](BenchOfFakes& bench, TestCall& call) {
         return bench.machines().stop("sandbox", call) && start(bench, call);
     }},
    {"stop", true,
     [](BenchOfFakes& bench, TestCall& call) {
         return bench.machines().stop("sandbox", call).has_value();
     }},
    {"kill", true,
     [](BenchOfFakes& bench, TestCall&) { return bench.machines().kill("sandbox").has_value(); }},
    {"growth", false,
     [](BenchOfFakes& bench, TestCall& call) {
         return bench.machines().change("sandbox", larger, call).has_value();
     }},
    {"delete", true,
     [](BenchOfFakes& bench, TestCall& call) {
         return bench.machines().remove("sandbox", false, call).has_value();
     }},
    {"delete by force", true,
     [](BenchOfFakes& bench, TestCall& call) {
         return bench.machines().remove("sandbox", true, call).has_value();
     }},
    {"delete of a stopped one", false,
     [](BenchOfFakes& bench, TestCall& call) {
         return bench.machines().remove("sandbox", false, call).has_value();
     }},
};

/// Strikes before the n-th role call, counted from 1.
class Strike {
public:
    Strike(Fault fault, int n, std::string folder)
        : fault_(fault), n_(n), folder_(std::move(folder)) {}
    void arm() { is_armed_ = true; }
    [[nodiscard]] bool was_reached() const { return seen_ >= n_; }
    [[nodiscard]] const std::string& at() const { return at_; }

    std::optional<Error> operator()(const PluginCall& call) {
        if (!is_armed_) return std::nullopt;
        const bool is_privileged =
            call.role == Role::network || call.role == Role::storage || call.role == Role::dns;
        if (++seen_ < n_) return std::nullopt;
        const bool is_first = seen_ == n_;
        if (is_first) at_ = std::string(to_string(call.role)) + "." + call.method;
        switch (fault_) {
            case Fault::step_fails:
                if (!is_first) return std::nullopt;
                return Error(Errc::internal, "made to fail", "Try again.");
            case Fault::daemon_dies:
                ::_exit(9);
            case Fault::helper_dies:
                if (!is_privileged) return std::nullopt;
                return Error(Errc::unavailable, "the helper is gone", "Restart it.");
            case Fault::vmm_dies:
                if (is_first) kill_vmm();
                return std::nullopt;
        }
        return std::nullopt;
    }

private:
    /// The fake VMM notes itself in RUN/ID/process.
    void kill_vmm() const {
        const Result<std::unique_ptr<Store>> store = Store::open(folder_ + "/state/banger.db");
        const Result<VmRecord> vm = (*store)->find_machine("sandbox");
        if (vm && vm->process) (void)kill_and_wait(vm->process->process);
    }

    Fault fault_;
    int n_;
    std::string folder_;
    std::atomic<int> seen_ = 0;
    std::atomic<bool> is_armed_ = false;
    std::string at_;
};

/// Runs the operation with the fault in a process of its own; whether the n-th step was reached.
bool strike(const std::string& folder, const Operation& operation, Fault fault, int n,
            std::string& at) {
    int pipe[2] = {-1, -1};
    // Close-on-exec: a VMM that outlives the child must not keep it open.
    EXPECT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    EXPECT_GE(child, 0);
    if (child == 0) {
        Strike strike(fault, n, folder);
        BenchOfFakes bench(folder, std::ref(strike));
        TestCall call;
        strike.arm();
        (void)operation.run(bench, call);
        (void)!::write(pipe[1], strike.at().data(), strike.at().size());
        ::_exit(strike.was_reached() ? 1 : 0);
    }
    ::close(pipe[1]);
    char text[256];
    const ssize_t count = ::read(pipe[0], text, sizeof text);
    ::close(pipe[0]);
    at.assign(text, count > 0 ? static_cast<std::size_t>(count) : 0);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "it crashed by itself";
    return WEXITSTATUS(status) != 0;
}

std::size_t processes_in(const HostInventory& inventory) {
    return static_cast<std::size_t>(std::ranges::count_if(
        inventory, [](const std::string& item) { return item.starts_with("process "); }));
}

/// What only a running machine has: its link, its record, marks of its VMM.
std::vector<std::string> live_files(const std::string& folder, const HostInventory& inventory) {
    std::vector<std::string> found;
    for (const std::string& item : inventory)
        if (item.starts_with(folder + "/run/")) found.push_back(item);
    return found;
}

/// Recorded and real agree.
void expect_legal(BenchOfFakes& bench, const std::string& folder) {
    const HostInventory inventory = bench.inventory();
    const Result<std::vector<VmRecord>> machines = bench.store().machines();
    ASSERT_TRUE(machines);
    if (machines->empty()) {
        EXPECT_THAT(inventory, testing::IsEmpty());
        EXPECT_TRUE(bench.store().resources()->empty());
        return;
    }
    const VmRecord& vm = machines->at(0);
    if (vm.state == VmState::running) {
        ASSERT_TRUE(vm.process);
        EXPECT_TRUE(is_running(vm.process->process));
        EXPECT_TRUE(vm.link);
        EXPECT_EQ(processes_in(inventory), 1u);
        EXPECT_EQ(bench.watched().size(), 1u);
        return;
    }
    EXPECT_THAT(vm.state, testing::AnyOf(VmState::created, VmState::stopped));
    EXPECT_FALSE(vm.process);
    EXPECT_FALSE(vm.link);
    EXPECT_EQ(processes_in(inventory), 0u);
    EXPECT_THAT(live_files(folder, inventory), testing::IsEmpty());
    ASSERT_EQ(vm.volumes.size(), 2u);
    // All of a change or nothing of it.
    EXPECT_EQ(vm.volumes[1].size, vm.disk_size);
    EXPECT_EQ(std::filesystem::file_size(vm.volumes[1].path), vm.disk_size.count());
    EXPECT_EQ(vm.disk_size == *larger.disk, vm.vcpus == *larger.vcpus);
    const Result<std::vector<ResourceRecord>> resources = bench.store().resources();
    ASSERT_TRUE(resources);
    for (const ResourceRecord& resource : *resources)
        EXPECT_THAT(resource.kind, testing::AnyOf(ResourceKind::volume, ResourceKind::file));
}

class CrashMatrix : public testing::TestWithParam<Fault> {};

TEST_P(CrashMatrix, WhateverDiesReconcileEndsInALegalState) {
    for (const Operation& operation : operations) {
        const TempFolder folder;
        int steps = 0;
        for (int n = 1;; ++n) {
            {
                BenchOfFakes bench(folder.path());
                TestCall call;
                ASSERT_TRUE(bench.create(call, "sandbox", operation.is_running_before));
            }
            std::string at;
            const bool was_reached = strike(folder.path(), operation, GetParam(), n, at);
            SCOPED_TRACE(std::string(operation.name) + ", step " + std::to_string(n) + " " + at);
            BenchOfFakes bench(folder.path());
            expect_legal(bench, folder.path());
            if (!std::string_view(operation.name).starts_with("delete")) {
                EXPECT_FALSE(bench.store().machines()->empty()) << "nobody asked to delete it";
            }
            if (!bench.store().machines()->empty()) {
                TestCall call;
                EXPECT_TRUE(start(bench, call)) << "the next command works";
                const Result<VmRecord> removed = bench.machines().remove("sandbox", true, call);
                EXPECT_TRUE(removed) << removed.error().text();
            }
            EXPECT_THAT(bench.inventory(), testing::IsEmpty());
            EXPECT_TRUE(bench.store().resources()->empty());
            if (testing::Test::HasFailure()) return;
            if (!was_reached) break;
            ++steps;
        }
        EXPECT_GE(steps, 2) << operation.name << ": the test sees none of its steps";
    }
}

INSTANTIATE_TEST_SUITE_P(Faults, CrashMatrix,
                         testing::Values(Fault::step_fails, Fault::daemon_dies, Fault::helper_dies,
                                         Fault::vmm_dies),
                         [](const auto& fault) -> std::string {
                             switch (fault.param) {
                                 case Fault::step_fails:
                                     return "step_fails";
                                 case Fault::daemon_dies:
                                     return "daemon_dies";
                                 case Fault::helper_dies:
                                     return "helper_dies";
                                 case Fault::vmm_dies:
                                     return "vmm_dies";
                             }
                             return "unknown";
                         });

/// A tap that somebody deleted under a running machine.
TEST(Reconcile, AMachineWhoseLinkIsGoneIsStoppedAndSaid) {
    const TempFolder folder;
    {
        BenchOfFakes bench(folder.path());
        TestCall call;
        ASSERT_TRUE(bench.create(call));
        std::size_t removed = 0;
        for (const std::string& item : bench.inventory())
            if (item.find("/run/fake/net/") != item.npos)
                removed += std::filesystem::remove(item) ? 1 : 0;
        ASSERT_EQ(removed, 1u);
    }
    BenchOfFakes bench(folder.path());
    EXPECT_THAT(bench.recovered,
                testing::ElementsAre("sandbox had lost its network and was stopped"));
    expect_legal(bench, folder.path());
    TestCall call;
    EXPECT_TRUE(start(bench, call));
    EXPECT_TRUE(bench.machines().remove("sandbox", true, call));
}

}  // namespace
}  // namespace banger

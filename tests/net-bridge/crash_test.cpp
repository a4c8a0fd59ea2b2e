#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "tests/net-bridge/subject.hpp"

/// The helper dies, or a step fails, at each step in turn. Afterwards a new helper on the same
/// folders recovers, and what is there is right again.
namespace banger {
namespace {

using contract::succeeded;

class Crash : public NamespaceTest {
protected:
    /// The steps that `job` passes when nothing goes wrong.
    static std::vector<std::string> steps_of(BridgeFixture& bridge,
                                             const std::function<void()>& job) {
        std::vector<std::string> steps;
        bridge.hook = [&](std::string_view step, std::stop_token) {
            steps.emplace_back(step);
            return ok();
        };
        bridge.restart();
        job();
        bridge.hook = nullptr;
        bridge.restart();
        return steps;
    }
    /// Runs `job` in a child that dies at the n-th step.
    static void die_at(std::size_t n, BridgeFixture& bridge, const std::function<void()>& job) {
        bridge.stop();  // its thread is not in the child
        const pid_t child = ::fork();
        if (child == 0) {
            std::size_t at = 0;
            bridge.hook = [&](std::string_view, std::stop_token) -> Result<void> {
                if (at++ == n) ::_exit(9);
                return ok();
            };
            bridge.restart();
            job();
            ::_exit(0);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_EQ(WEXITSTATUS(status), 9) << "it never got to step " << n;
    }
    static Result<void> fail_at(std::size_t n, BridgeFixture& bridge,
                                const std::function<Result<void>()>& job) {
        std::size_t at = 0;
        bridge.hook = [&](std::string_view, std::stop_token) -> Result<void> {
            if (at++ == n) return Error(Errc::internal, "the test said so");
            return ok();
        };
        bridge.restart();
        const Result<void> done = job();
        bridge.hook = nullptr;
        bridge.restart();
        return done;
    }
    static Result<void> attach(BridgeFixture& bridge, const LinkRequest& request) {
        const Result<NetworkLink> link = bridge.network().attach(request, {});
        return link ? ok() : Result<void>(link.error());
    }
};

TEST_F(Crash, DuringAttach) {
    BridgeFixture bridge;
    const std::vector<std::string> before = traces(bridge.host);
    const LinkRequest request = bridge.request(0, true);
    const auto job = [&] { EXPECT_TRUE(succeeded(attach(bridge, request))); };
    const std::vector<std::string> steps = steps_of(bridge, job);
    EXPECT_GT(steps.size(), 10u);
    ASSERT_TRUE(succeeded(bridge.detach(request.vm)));
    for (std::size_t n = 0; n < steps.size(); ++n) {
        SCOPED_TRACE(steps[n]);
        die_at(n, bridge, job);
        bridge.restart();
        EXPECT_THAT(*bridge.network().recover({}), testing::IsEmpty());
        EXPECT_EQ(traces(bridge.host), before);
        EXPECT_TRUE(succeeded(attach(bridge, request))) << "the next attempt is unharmed";
        EXPECT_TRUE(succeeded(bridge.detach(request.vm)));
        EXPECT_EQ(traces(bridge.host), before);
    }
}

TEST_F(Crash, DuringTheSecondAttachTheFirstMachineLives) {
    BridgeFixture bridge;
    const NetworkLink first = bridge.attach(0, true);
    const std::vector<std::string> before = traces(bridge.host);
    const std::string rules = run({"nft", "-s", "list", "ruleset"});
    const LinkRequest request = bridge.request(1, true);
    const auto job = [&] { EXPECT_TRUE(succeeded(attach(bridge, request))); };
    const std::vector<std::string> steps = steps_of(bridge, job);
    ASSERT_TRUE(succeeded(bridge.detach(request.vm)));
    for (std::size_t n = 0; n < steps.size(); ++n) {
        SCOPED_TRACE(steps[n]);
        die_at(n, bridge, job);
        bridge.restart();
        EXPECT_THAT(*bridge.network().recover({&first, 1}), testing::IsEmpty());
        EXPECT_EQ(traces(bridge.host), before);
        EXPECT_EQ(run({"nft", "-s", "list", "ruleset"}), rules);
    }
}

TEST_F(Crash, DuringDetach) {
    BridgeFixture bridge;
    const std::vector<std::string> before = traces(bridge.host);
    const LinkRequest request = bridge.request(0, true);
    ASSERT_TRUE(succeeded(attach(bridge, request)));
    const auto job = [&] { EXPECT_TRUE(succeeded(bridge.detach(request.vm))); };
    const std::vector<std::string> steps = steps_of(bridge, job);
    EXPECT_GT(steps.size(), 4u);
    for (std::size_t n = 0; n < steps.size(); ++n) {
        SCOPED_TRACE(steps[n]);
        const NetworkLink link = bridge.network().attach(request, {}).value();
        die_at(n, bridge, job);
        bridge.restart();
        // Core still remembers the machine, and goes on with what it was about.
        const Result<std::vector<VmId>> lost = bridge.network().recover({&link, 1});
        ASSERT_TRUE(succeeded(lost));
        EXPECT_TRUE(succeeded(bridge.detach(link.vm)));
        EXPECT_EQ(traces(bridge.host), before);
    }
}

TEST_F(Crash, AFailingStepOfAttachLeavesNothing) {
    BridgeFixture bridge;
    const std::vector<std::string> before = traces(bridge.host);
    const LinkRequest request = bridge.request(0, true);
    const std::vector<std::string> steps =
        steps_of(bridge, [&] { EXPECT_TRUE(succeeded(attach(bridge, request))); });
    ASSERT_TRUE(succeeded(bridge.detach(request.vm)));
    for (std::size_t n = 0; n < steps.size(); ++n) {
        SCOPED_TRACE(steps[n]);
        EXPECT_FALSE(fail_at(n, bridge, [&] { return attach(bridge, request); }));
        EXPECT_EQ(traces(bridge.host), before);
    }
}

TEST_F(Crash, AFailingStepOfDetachSkipsNoOtherAndCanBeRepeated) {
    BridgeFixture bridge;
    const std::vector<std::string> before = traces(bridge.host);
    const LinkRequest request = bridge.request(0, true);
    ASSERT_TRUE(succeeded(attach(bridge, request)));
    const auto detach = [&] { return bridge.detach(request.vm); };
    const std::vector<std::string> steps =
        steps_of(bridge, [&] { EXPECT_TRUE(succeeded(detach())); });
    for (std::size_t n = 0; n < steps.size(); ++n) {
        SCOPED_TRACE(steps[n]);
        ASSERT_TRUE(succeeded(attach(bridge, request)));
        EXPECT_FALSE(fail_at(n, bridge, detach));
        if (steps[n] != "detach.device") {
            EXPECT_THAT(traces(bridge.host),
                        testing::Not(testing::Contains(
                            "interface " + BridgeNetwork::device_of(::getuid(), request.vm))));
        }
        EXPECT_TRUE(succeeded(detach()));
        // The bridge alone has no machine that would be asked for again.
        if (steps[n] == "detach.bridge") {
            EXPECT_TRUE(succeeded(bridge.network().recover({})));
        }
        EXPECT_EQ(traces(bridge.host), before);
    }
}

}  // namespace
}  // namespace banger

#include "core/base/process.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "core/base/child.hpp"

namespace banger {
namespace {

using namespace std::chrono_literals;

Child sleeper() {
    Command command;
    command.program = "/bin/sleep";
    command.arguments = {"1000"};
    return std::move(spawn(command)).value();
}

TEST(Process, IsFoundByPidAndStartTime) {
    const Child child = sleeper();
    EXPECT_TRUE(is_running(child.id()));
    ProcessId other = child.id();
    ++other.start_time;
    EXPECT_EQ(open_pidfd(other).error().code, Errc::not_found) << "same number, another process";
}

TEST(Process, KillWaitsUntilItIsGoneAndIsIdempotent) {
    Child child = sleeper();
    const ProcessId id = child.id();
    EXPECT_TRUE(kill_and_wait(id));
    EXPECT_FALSE(is_running(id));
    EXPECT_TRUE(kill_and_wait(id));
    child.detach();  // reaped by kill_and_wait
}

TEST(Process, WaitingEndsOnStop) {
    const Child child = sleeper();
    std::stop_source stop;
    std::jthread stopper([&] { stop.request_stop(); });
    EXPECT_EQ(wait_for_exit(child.pidfd(), 1h, stop.get_token()).error().code, Errc::cancelled);
}

TEST(Process, WaitingHasADeadline) {
    const Child child = sleeper();
    const Result<bool> ended = wait_for_exit(child.pidfd(), 10ms, {});
    ASSERT_TRUE(ended);
    EXPECT_FALSE(*ended);
}

TEST(Process, NoSuchPid) {
    EXPECT_EQ(process_id_of(0x7fffffff).error().code, Errc::not_found);
    EXPECT_EQ(open_pidfd({0, 0}).error().code, Errc::not_found);
    EXPECT_EQ(open_pidfd({-1, 0}).error().code, Errc::not_found);
}

}  // namespace
}  // namespace banger

#include "core/base/keyed_lock.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace banger {
namespace {

TEST(KeyedLock, OneAtATimeForOneName) {
    KeyedLock locks;
    int inside = 0;
    std::atomic<int> worst = 0;
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 8; ++i)
            threads.emplace_back([&] {
                for (int round = 0; round < 200; ++round) {
                    const Result<KeyedLock::Guard> guard = locks.acquire("vm", {});
                    worst = std::max(worst.load(), ++inside);
                    --inside;
                }
            });
    }
    EXPECT_EQ(worst, 1);
}

TEST(KeyedLock, DifferentNamesDoNotWait) {
    KeyedLock locks;
    const Result<KeyedLock::Guard> first = locks.acquire("a", {});
    EXPECT_TRUE(locks.try_acquire("b"));
    EXPECT_EQ(locks.try_acquire("a").error().code, Errc::busy);
}

TEST(KeyedLock, AWaiterLeavesOnStop) {
    KeyedLock locks;
    const Result<KeyedLock::Guard> held = locks.acquire("a", {});
    std::stop_source stop;
    std::jthread stopper([&] { stop.request_stop(); });
    EXPECT_EQ(locks.acquire("a", stop.get_token()).error().code, Errc::cancelled);
}

}  // namespace
}  // namespace banger

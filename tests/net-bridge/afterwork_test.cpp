#include "plugins/net-bridge/afterwork.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <future>

namespace banger {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

class AfterworkTest : public testing::Test {
protected:
    Afterwork::Job note(const std::string& word) {
        return [this, word]() -> Result<void> {
            const std::lock_guard lock(mutex_);
            words_.push_back(word);
            return ok();
        };
    }
    std::vector<std::string> words() {
        const std::lock_guard lock(mutex_);
        return words_;
    }
    std::function<void(const Error&)> report_ = [this](const Error& error) {
        (void)note("! " + error.message)();
    };

private:
    std::mutex mutex_;
    std::vector<std::string> words_;
};

TEST_F(AfterworkTest, SettlingDoesNotLinger) {
    Afterwork afterwork(note("last"), 1h, report_);
    EXPECT_TRUE(afterwork.settle()) << "nothing to do";
    EXPECT_THAT(words(), testing::IsEmpty());
    afterwork.add(note("one"));
    afterwork.add(note("two"));
    EXPECT_TRUE(afterwork.settle());
    EXPECT_THAT(words(), ElementsAre("one", "two", "last"));
    EXPECT_TRUE(afterwork.settle());
    EXPECT_THAT(words(), ElementsAre("one", "two", "last")) << "once after each time";
}

TEST_F(AfterworkTest, TheLastComesByItselfWhenNoJobIsLeft) {
    std::promise<void> all_are_known;
    std::promise<int> jobs_before_the_last;
    std::atomic<int> jobs = 0;
    Afterwork afterwork(
        [&]() -> Result<void> {
            jobs_before_the_last.set_value(jobs);
            return ok();
        },
        1ms, report_);
    afterwork.add([&, known = all_are_known.get_future().share()]() -> Result<void> {
        known.wait();
        return ++jobs, ok();
    });
    for (int i = 0; i < 2; ++i)
        afterwork.add([&]() -> Result<void> { return ++jobs, ok(); });
    all_are_known.set_value();
    EXPECT_EQ(jobs_before_the_last.get_future().get(), 3);
}

TEST_F(AfterworkTest, WhoEndsItWaitsForAll) {
    {
        Afterwork afterwork(note("last"), 1h, report_);
        afterwork.add(note("one"));
    }
    EXPECT_THAT(words(), ElementsAre("one", "last"));
    { const Afterwork unused(note("never"), 1h, report_); }
    EXPECT_THAT(words(), ElementsAre("one", "last"));
}

TEST_F(AfterworkTest, FailuresAreReportedAndToldOnce) {
    Afterwork afterwork(note("last"), 1h, report_);
    afterwork.add([] { return Result<void>(Error(Errc::busy, "not now", "Later.")); });
    afterwork.add(note("two"));
    const Result<void> settled = afterwork.settle();
    ASSERT_FALSE(settled);
    EXPECT_EQ(settled.error().code, Errc::busy);
    EXPECT_THAT(words(), ElementsAre("! not now", "two", "last"));
    EXPECT_TRUE(afterwork.settle());
}

TEST_F(AfterworkTest, OneCanWaitForAJob) {
    Afterwork afterwork(note("last"), 1h, report_);
    std::promise<void> may_end;
    std::shared_future<void> open = may_end.get_future().share();
    std::atomic<bool> has_ended = false;
    afterwork.add([&, open]() -> Result<void> {
        open.wait();
        has_ended = true;
        return ok();
    });
    const auto is_done = [&] { return has_ended.load(); };
    std::stop_source stopped;
    stopped.request_stop();
    EXPECT_FALSE(afterwork.wait(is_done, stopped.get_token()));
    may_end.set_value();
    EXPECT_TRUE(afterwork.wait(is_done, {}));
    EXPECT_TRUE(has_ended);
    EXPECT_TRUE(afterwork.wait([] { return false; }, {})) << "no job is left that could";
}

}  // namespace
}  // namespace banger

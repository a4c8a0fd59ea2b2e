#include "core/base/rollback.hpp"

#include <gtest/gtest.h>

namespace banger {
namespace {

TEST(Rollback, UndoesInReverseAndGoesOnAfterAFailure) {
    std::string order;
    std::string reported;
    {
        Rollback rollback([&](const Error& error) { reported = error.message; });
        rollback.add("first", [&] {
            order += '1';
            return ok();
        });
        rollback.add("second", [&] {
            order += '2';
            return Result<void>(Error(Errc::busy, "held"));
        });
        rollback.add("third", [&] {
            order += '3';
            return ok();
        });
    }
    EXPECT_EQ(order, "321");
    EXPECT_EQ(reported, "while second: held");
}

TEST(Rollback, KeepsEverythingOnceCommitted) {
    bool undone = false;
    {
        Rollback rollback({});
        rollback.add("it", [&] {
            undone = true;
            return ok();
        });
        rollback.commit();
    }
    EXPECT_FALSE(undone);
}

TEST(ErrorCollector, JoinsMessagesAndEachRemedyOnce) {
    ErrorCollector errors;
    errors.add(ok());
    errors.add(Error(Errc::busy, "a", "Wait."), "doing a");
    errors.add(Error(Errc::no_space, "b", "Wait."));
    ASSERT_FALSE(errors.result());
    EXPECT_EQ(errors.result().error(), Error(Errc::busy, "while doing a: a; b", "Wait."));
}

}  // namespace
}  // namespace banger

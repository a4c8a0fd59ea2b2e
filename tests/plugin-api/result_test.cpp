#include "banger/result.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace banger {
namespace {

Result<std::unique_ptr<int>> half(int number) {
    if (number % 2 != 0) return Error(Errc::invalid_argument, "odd", "Give an even number.");
    return std::make_unique<int>(number / 2);
}

Result<int> quarter(int number) {
    const std::unique_ptr<int> once = BANGER_TRY(half(number));
    const std::unique_ptr<int> twice = BANGER_TRY(half(*once).context("halving again"));
    return *twice;
}

Result<void> check_quarter(int number) {
    BANGER_TRY(quarter(number));
    return ok();
}

TEST(Result, TryTakesTheValueOut) { EXPECT_EQ(*quarter(12), 3); }

TEST(Result, TryReturnsTheErrorOfAnotherType) {
    const Result<void> result = check_quarter(6);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Errc::invalid_argument);
    EXPECT_EQ(result.error().text(), "while halving again: odd. Give an even number.");
}

TEST(Error, ErrnoBecomesACodeThatSaysWhatToDo) {
    const Error error = Error::from_errno(ENOSPC, "writing disk.img");
    EXPECT_EQ(error.code, Errc::no_space);
    EXPECT_EQ(error.message, "writing disk.img: No space left on device");
    EXPECT_NE(error.remedy.find("disk space"), std::string::npos);
}

TEST(Errc, WordsGoBothWays) {
    for (int i = 0; i <= static_cast<int>(Errc::internal); ++i) {
        const Errc code = static_cast<Errc>(i);
        EXPECT_EQ(parse_errc(to_string(code)), code);
    }
    EXPECT_EQ(parse_errc("nonsense"), std::nullopt);
}

TEST(ResultDeathTest, ReadingAFailureAsAValueEndsTheProgram) {
    EXPECT_DEATH((void)*quarter(1), "a Result was read as the other kind: odd");
}

}  // namespace
}  // namespace banger

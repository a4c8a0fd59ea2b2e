#include "core/vms/exec.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace banger {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Words = std::vector<std::string>;

const RunConfig image{{"A=1", "B=2"}, "/srv", "web", {"/entry", "-x"}, {"serve"}};

ExecWish wish(std::optional<Words> command, bool is_run) {
    ExecWish wish;
    wish.command = std::move(command);
    wish.is_run = is_run;
    return wish;
}

TEST(ExecRequestOf, ARunHasTheEntrypointInFront) {
    EXPECT_THAT(exec_request(wish(Words{"a", "b"}, true), image).words,
                ElementsAre("/entry", "-x", "a", "b"));
    EXPECT_THAT(exec_request(wish(Words{"a"}, false), image).words, ElementsAre("a"));
    ExecWish other = wish(Words{"a"}, true);
    other.entrypoint = Words{"/other"};
    EXPECT_THAT(exec_request(other, image).words, ElementsAre("/other", "a"));
    other.entrypoint = Words{};
    EXPECT_THAT(exec_request(other, image).words, ElementsAre("a"));
}

TEST(ExecRequestOf, WithoutACommandItIsAShellAndElseWhatTheImageRuns) {
    EXPECT_THAT(exec_request(wish({}, true), image).words, IsEmpty());
    EXPECT_THAT(words_without_shell(wish({}, true), image), ElementsAre("/entry", "-x", "serve"));
    EXPECT_THAT(words_without_shell(wish({}, false), image), IsEmpty());
    ExecWish only = wish({}, true);
    only.entrypoint = Words{"/other"};
    EXPECT_THAT(exec_request(only, image).words, ElementsAre("/other"));
}

TEST(ExecRequestOf, TheImageDecidesWhatTheWishDoesNot) {
    ExecWish plain = wish(Words{"a"}, true);
    guest::ExecRequest request = exec_request(plain, image);
    EXPECT_THAT(request.environment, ElementsAre("A=1", "B=2"));
    EXPECT_EQ(request.folder, "/srv");
    EXPECT_TRUE(request.makes_folder);
    EXPECT_EQ(request.user, "web");
    plain.environment = {"B=3"};
    plain.folder = "/else";
    plain.user = "";
    plain.terminal = TerminalSize{1, 2};
    request = exec_request(plain, image);
    EXPECT_THAT(request.environment, ElementsAre("A=1", "B=2", "B=3"));
    EXPECT_EQ(request.folder, "/else");
    EXPECT_FALSE(request.makes_folder) << "one that somebody names has to be there";
    EXPECT_EQ(request.user, "");
    EXPECT_EQ(request.terminal, plain.terminal);
    request = exec_request(wish(Words{"a"}, true), {});
    EXPECT_EQ(request.folder, "");
    EXPECT_FALSE(request.makes_folder);
}

}  // namespace
}  // namespace banger

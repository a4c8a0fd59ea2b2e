#include <gmock/gmock.h>

#include "tests/workspace/world.hpp"

namespace banger::workspace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(PublicUrl, HasNoCredentials) {
    EXPECT_EQ(public_url("https://user:secret@example.com/x.git"), "https://example.com/x.git");
    EXPECT_EQ(public_url("https://token@example.com/x"), "https://example.com/x");
    EXPECT_EQ(public_url("https://a:b@c@example.com/x"), "https://example.com/x");
    EXPECT_EQ(public_url("https://example.com/x?token=secret#y"), "https://example.com/x");
    EXPECT_EQ(public_url("https://example.com/a@b"), "https://example.com/a@b");
    EXPECT_EQ(public_url("ssh://git:secret@example.com:22/x"), "ssh://git@example.com:22/x");
    EXPECT_EQ(public_url("git@example.com:x/y.git"), "git@example.com:x/y.git");
    EXPECT_EQ(public_url("/home/me/x"), std::nullopt);
    EXPECT_EQ(public_url("../x"), std::nullopt);
    EXPECT_EQ(public_url("file:///home/me/x"), std::nullopt);
    EXPECT_EQ(public_url(""), std::nullopt);
}

TEST(GuestPath, IsAPlaceOfItsOwn) {
    for (const char* good : {"/root/repo", "/work", "/srv/a/b", "/home/me/it's"})
        EXPECT_TRUE(check_guest_path(good)) << good;
    for (const char* bad : {"", "repo", "/", "/root", "/etc", "/root/", "/root/../etc", "/root/./x",
                            "/a//b", "/usr/x", "/proc/x", "/a\nb", "/a:b", "/root/x/.git/y"})
        EXPECT_FALSE(check_guest_path(bad)) << bad;
}

TEST(Git, GetsNothingThatActsUnseen) {
    ::setenv("GIT_DIR", "/elsewhere", 1);
    const Command command = HostGit::find().value().command("/x", {"status"});
    ::unsetenv("GIT_DIR");
    for (const auto& [name, value] : command.environment)
        EXPECT_TRUE(!name.starts_with("GIT_") || name == "GIT_OPTIONAL_LOCKS" ||
                    name == "GIT_TERMINAL_PROMPT" || name == "GIT_LITERAL_PATHSPECS")
            << name;
    EXPECT_THAT(command.arguments, testing::Contains("core.hooksPath=/dev/null"));
    EXPECT_THAT(command.arguments, testing::Contains("core.fsmonitor=false"));
}

class RepositoryTest : public WorkspaceTest {};

TEST_F(RepositoryTest, AFolderInsideLeadsToTheRoot) {
    const Repository found = open_repository(git_, folder_ / "host/d", {}).value();
    EXPECT_EQ(found.root, folder_ / "host");
    EXPECT_EQ(found.branch, "main");
    EXPECT_FALSE(found.is_linked());
}

TEST_F(RepositoryTest, ALinkedWorktreeIsOne) {
    sh("git worktree add -q ../tree -b other");
    const Repository found = open_repository(git_, folder_ / "tree", {}).value();
    EXPECT_EQ(found.root, folder_ / "tree");
    EXPECT_EQ(found.branch, "other");
    EXPECT_TRUE(found.is_linked());
    CopyRequest wanted = request();
    wanted.source = folder_ / "tree";
    must_copy(wanted);
    EXPECT_EQ(guest_sh("git branch --show-current; git status --porcelain"), "other");
}

TEST_F(RepositoryTest, WhatIsNoneIsRefused) {
    EXPECT_EQ(open_repository(git_, folder_ / "scratch", {}).error().code, Errc::not_found);
    EXPECT_EQ(open_repository(git_, folder_ / "missing", {}).error().code, Errc::not_found);
    sh("git init -q --bare ../bare; git init -q ../empty");
    EXPECT_EQ(open_repository(git_, folder_ / "bare", {}).error().code, Errc::unsupported);
    const Error empty = open_repository(git_, folder_ / "empty", {}).error();
    EXPECT_EQ(empty.code, Errc::wrong_state);
    EXPECT_THAT(empty.message, HasSubstr("no commit yet"));
}

TEST_F(RepositoryTest, TrackedFilesAreListedAndOthersCounted) {
    sh("rm d/b; echo new >staged; git add staged; echo u >untracked; mkdir build; echo o >build/o;"
       " git init -q nested");
    CopyPlan plan = plan_copy(git_, request(), {}).value();
    EXPECT_THAT(plan.files, ElementsAre(".gitignore", "a", "link", "run", "staged"));
    EXPECT_EQ(plan.left_out, 1u);
    CopyRequest wanted = request();
    wanted.with_untracked = true;
    plan = plan_copy(git_, wanted, {}).value();
    EXPECT_THAT(plan.files, ElementsAre(".gitignore", "a", "link", "run", "staged", "untracked"));
    EXPECT_EQ(plan.left_out, 0u);
}

TEST_F(RepositoryTest, SubmodulesAreRefusedWithTheFlagThatHelps) {
    sh("git init -q ../sub; cd ../sub; echo s >s; git add s; git commit -qm s; cd ../host;"
       " git -c protocol.file.allow=always submodule --quiet add ../sub sub; git commit -qm sub");
    const Error refused = plan_copy(git_, request(), {}).error();
    EXPECT_EQ(refused.code, Errc::unsupported);
    EXPECT_THAT(refused.remedy, HasSubstr("--mode full-copy"));
    CopyRequest full = request();
    full.mode = Mode::full_copy;
    must_copy(full);
    EXPECT_EQ(guest_sh("git status --porcelain; cat sub/s; git -C sub log --format=%s"), "s\ns");
}

TEST_F(RepositoryTest, TheFingerprintChangesWithTheTreeAlone) {
    const auto print = [&] { return plan_copy(git_, request(), {}).value().fingerprint(); };
    const std::string before = print();
    EXPECT_EQ(print(), before);
    sh("echo u >untracked");
    EXPECT_EQ(print(), before);
    sh("echo more >>a");
    const std::string edited = print();
    EXPECT_NE(edited, before);
    sh("echo again >>a");
    EXPECT_NE(print(), edited);
}

TEST_F(RepositoryTest, WrongBranchesAndRevisionsAreRefused) {
    CopyRequest wanted = request();
    for (const char* bad : {"", "-x", "a..b", "a b", "x.lock", "a\nb"}) {
        wanted.branch = bad;
        EXPECT_EQ(plan_copy(git_, wanted, {}).error().code, Errc::invalid_argument) << bad;
    }
    wanted.branch = "fix";
    for (const char* bad : {"missing", "--output=x", "HEAD:a", ""}) {
        wanted.from = bad;
        EXPECT_EQ(plan_copy(git_, wanted, {}).error().code, Errc::not_found) << bad;
    }
}

}  // namespace
}  // namespace banger::workspace

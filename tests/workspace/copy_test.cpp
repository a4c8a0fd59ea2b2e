#include <gmock/gmock.h>

#include <thread>

#include "core/base/file.hpp"
#include "tests/workspace/world.hpp"

namespace banger::workspace {
namespace {

using testing::HasSubstr;

class CopyTest : public WorkspaceTest {
protected:
    /// Names that have broken others.
    static constexpr const char* odd_names =
        "printf 1 >'with space'; printf 2 >\"$(printf 'new\\nline')\"; printf 3 >\"quo'te\\\"\";"
        " printf 4 >-dash; printf 5 >\"$(printf 'bad\\377')\"; printf 6 >'*'";
    static constexpr const char* list_all =
        "find . -name .git -prune -o -type f -printf '%P %m ' -exec cat {} ';' -printf '\\n'"
        " -o -type l -printf '%P -> %l\\n' | LC_ALL=C sort";
};

TEST_F(CopyTest, TheGuestShowsWhatTheHostShows) {
    commit_all(odd_names);
    sh("echo two >>a; rm run; git mv link renamed; echo new >staged; git add staged; chmod +x d/b;"
       " rm -- -dash; ln -s nowhere -- -dash; git rm -q --cached 'with space'");
    must_copy(request());
    const std::string status = "git -c core.quotePath=true status --porcelain";
    EXPECT_EQ(guest_sh(status + " -uno"), sh(status + " -uno"));
    EXPECT_EQ(guest_sh("git diff HEAD"), sh("git diff HEAD"));
    EXPECT_EQ(guest_sh("git diff --cached"), sh("git diff --cached"));
    EXPECT_EQ(guest_sh("git log --format=%H"), sh("git log -1 --format=%H"));
    EXPECT_EQ(guest_sh("git branch --show-current"), "main");
    EXPECT_EQ(guest_sh("git fsck 2>&1"), "");
    EXPECT_EQ(guest_sh(list_all), sh("rm 'with space'; " + std::string(list_all)));
    EXPECT_EQ(guest_sh("git config user.name; git config user.email"), "Ada\nada@example.com");
}

TEST_F(CopyTest, WithoutGitInTheGuestAllFilesAreSent) {
    commit_all(odd_names);
    sh("mkdir ../guest/bin; for p in sh tar gzip mkdir find rm cat mv ls grep sort uniq xargs chmod"
       " tr wc; do ln -s \"$(command -v $p)\" ../guest/bin/$p; done; echo two >>a");
    guest_programs_ = folder_ / "guest/bin";
    must_copy(request());
    guest_programs_ = "/usr/bin:/bin";
    EXPECT_EQ(guest_sh(list_all), sh(list_all));
    EXPECT_EQ(guest_sh("git status --porcelain"), " M a");
}

TEST_F(CopyTest, ABranchBeginsWhereItIsToldTo) {
    commit_all("echo second >a; echo later >later");
    sh("echo edited >d/b");
    CopyRequest wanted = request();
    wanted.branch = "fix/this";
    wanted.from = "HEAD~1";
    must_copy(wanted);
    EXPECT_EQ(guest_sh("git branch --show-current; git rev-parse HEAD; cat a d/b; ls later 2>&1 |"
                       " grep -c later; git status --porcelain"),
              "fix/this\n" + sh("git rev-parse HEAD~1") + "\none\nedited\n1\n M d/b");
}

TEST_F(CopyTest, UntrackedFilesComeWhenAskedFor) {
    sh("echo u >u; mkdir build; echo o >build/o; mkfifo pipe");
    must_copy(request());
    EXPECT_EQ(guest_sh("ls"), "a\nd\nlink\nrun");
    CopyRequest wanted = request();
    wanted.with_untracked = true;
    must_copy(wanted);
    EXPECT_EQ(guest_sh("ls"), "a\nd\nlink\nrun\nu");
}

TEST_F(CopyTest, DoneAgainItFollowsAndKeepsWhatABuildMade) {
    must_copy(request());
    guest_sh("mkdir build; echo made >build/out");
    sh("git rm -q d/b; mkdir -p x; echo y >x/y; echo two >a");
    commit_all("true");
    must_copy(request());
    EXPECT_EQ(guest_sh("git status --porcelain; cat a build/out x/y; ls d 2>/dev/null"),
              "two\nmade\ny");
    EXPECT_EQ(guest_sh("git rev-parse HEAD"), sh("git rev-parse HEAD"));
}

TEST_F(CopyTest, DoneAgainItTouchesAndSendsOnlyWhatChanged) {
    commit_all("for i in 1 2 3 4 5; do mkdir -p many/$i; echo $i >many/$i/file; done; echo o >own");
    sh("echo edited >own");
    const std::string look =
        "find . -path ./.git -prune -o -type f ! -name own -printf '%P %T@ %i\\n' | sort";
    const std::string packs = "ls .git/objects/pack/*.pack | wc -l";
    CopyRequest wanted = request();
    must_copy(wanted);
    const std::string before = guest_sh(look);
    must_copy(wanted);
    EXPECT_EQ(guest_sh(look), before);
    EXPECT_EQ(guest_sh(packs), "1") << "nothing new, no pack";
    // As --readonly leaves it, but for the mount.
    guest_sh("find . -path ./.git -prune -o -type f -exec chmod a-w {} +; : >.git/banger/readonly");
    wanted.is_forced = true;
    must_copy(wanted);
    EXPECT_EQ(guest_sh(look), before);

    commit_all("echo new >many/3/file; git rm -q many/4/file; echo more >many/5/more");
    sh("git add own; echo later >>own");
    must_copy(wanted);
    EXPECT_EQ(guest_sh(packs), "2");
    EXPECT_EQ(guest_sh(look + " | grep -v -e many/3 -e many/5/more"),
              sh("cat >../before <<'EOF'\n" + before +
                 "\nEOF\ngrep -v -e many/3 -e many/4 "
                 "../before"));
    EXPECT_EQ(
        guest_sh(
            "git status --porcelain; git fsck --no-dangling 2>&1; cat own many/3/file many/5/more"),
        " M own\nedited\nlater\nnew\nmore");
    EXPECT_EQ(guest_sh("git rev-parse HEAD"), sh("git rev-parse HEAD"));
}

TEST_F(CopyTest, AGuestThatLostObjectsGetsThemAllAgain) {
    must_copy(request());
    guest_sh("rm -f .git/objects/pack/*");
    CopyRequest wanted = request();
    wanted.is_forced = true;
    must_copy(wanted);
    EXPECT_EQ(guest_sh("git status --porcelain; git fsck 2>&1"), "");
    // An index that cannot be read, and one in the middle of a merge.
    guest_sh("echo nonsense >.git/index; echo mine >a");
    must_copy(wanted);
    EXPECT_EQ(guest_sh("git status --porcelain; cat a"), "one");
    guest_sh(
        "git checkout -q -b x; echo x >a; git commit -qam x; git checkout -q main;"
        " echo y >a; git commit -qam y; git merge -q x >/dev/null || true");
    must_copy(wanted);
    EXPECT_EQ(guest_sh("git status --porcelain; cat a"), "one");
}

TEST_F(CopyTest, AfterAnotherRepositoryNothingOfItIsNeeded) {
    must_copy(request());
    sh("rm -rf .git; git init -q -b main .");
    commit_all("echo other >other");
    CopyRequest wanted = request();
    wanted.is_forced = true;
    must_copy(wanted);
    EXPECT_EQ(guest_sh("git status --porcelain; git fsck 2>&1; cat other"), "other");
}

TEST_F(CopyTest, WhatWasDoneInTheGuestIsNotOverwritten) {
    for (const char* change : {"echo mine >>a", "rm a", "echo new >new",
                               "git commit -q "
                               "--allow-empty -m mine",
                               "mv a b"}) {
        must_copy(request());
        guest_sh(change);
        const Result<CopyResult> again = copy(request());
        ASSERT_FALSE(again) << change;
        EXPECT_EQ(again.error().code, Errc::wrong_state);
        EXPECT_THAT(again.error().remedy, HasSubstr("--force"));
        CopyRequest forced = request();
        forced.is_forced = true;
        must_copy(forced);
        guest_sh("rm -f new b");
        EXPECT_EQ(guest_sh("git status --porcelain; git rev-parse HEAD"), sh("git rev-parse HEAD"));
    }
}

/// In the same tick of the clock, too.
TEST_F(CopyTest, WhatWasDoneRightAfterACopyIsSeen) {
    CopyRequest forced = request();
    forced.is_forced = true;
    for (int round = 0; round < 10; ++round) {
        must_copy(forced);
        ASSERT_TRUE(write_file_atomic(folder_ / "guest/repo/new", "mine", 0644));
        EXPECT_FALSE(copy(request())) << "in round " << round;
    }
}

TEST_F(CopyTest, AFolderOfSomethingElseIsLeftAlone) {
    sh("mkdir -p ../guest/repo; echo mine >../guest/repo/file");
    const Result<CopyResult> copied = copy(request());
    ASSERT_FALSE(copied);
    EXPECT_EQ(copied.error().code, Errc::wrong_state);
    EXPECT_EQ(guest_sh("ls -A"), "file");
}

TEST_F(CopyTest, WhatWasCutShortBeginsAnew) {
    sh("mkdir -p ../guest/repo/.git/banger; : >../guest/repo/.git/banger/incomplete;"
       " echo half >../guest/repo/a");
    must_copy(request());
    EXPECT_EQ(guest_sh("git status --porcelain; cat a"), "one");
}

TEST_F(CopyTest, NoSecretOfTheConfigurationIsCopied) {
    sh("git remote add origin https://me:secret@example.com/x.git;"
       " git config http.extraHeader 'Authorization: secret'; git config credential.helper secret;"
       " git config user.email here@example.com");
    for (const Mode mode : {Mode::overlay, Mode::full_copy}) {
        CopyRequest wanted = request();
        wanted.mode = mode;
        must_copy(wanted);
        EXPECT_EQ(guest_sh("grep -rc secret .git/config || true"), "0");
        EXPECT_EQ(guest_sh("git config remote.origin.url; git config --local user.email"),
                  "https://example.com/x.git\nhere@example.com");
        guest_sh("rm -rf .git * .gitignore");
    }
}

TEST_F(CopyTest, AFullCopyHasTheHistoryAndTheRest) {
    commit_all("echo two >a");
    sh("echo u >u; mkdir build; echo o >build/o; echo edited >d/b");
    CopyRequest wanted = request();
    wanted.mode = Mode::full_copy;
    must_copy(wanted);
    EXPECT_EQ(guest_sh("git log --format=%H; git status --porcelain; ls"),
              sh("git log --format=%H; git status --porcelain; ls | grep -v build"));
    EXPECT_EQ(guest_sh("git fsck 2>&1"), "");
}

TEST_F(CopyTest, NothingOfTheHostIsTouched) {
    sh("echo two >>a; git add a; echo three >>a");
    const std::string look = "find . -type f -exec sha256sum {} + | sort; find .git | sort";
    const std::string before = sh(look);
    must_copy(request());
    EXPECT_EQ(sh(look), before);
    EXPECT_EQ(list_folder(folder_ / "scratch").value(), std::vector<std::string>());
}

TEST_F(CopyTest, AHostileAnswerIsAnError) {
    plan_ = plan_copy(git_, request(), {}).value();
    for (const char* script :
         {"exit 0", "exit 3", "echo", "echo banger", "echo banger new git gzip -; exit 0",
          "echo banger new git gzip", "echo banger new git gzip --upload-pack=x",
          "echo banger new git gzip $(head -c 40 /dev/zero | tr '\\0' z)", "yes | tr -d '\\n'",
          "echo banger wonderful git gzip -; cat >/dev/null",
          "echo banger new git gzip -; cat >/dev/null; echo banger maybe",
          "echo banger new git gzip -; cat >/dev/null",
          "printf 'banger new git gzip -\\n'; cat >/dev/null; printf 'banger failed \\033[2J "
          "no\\n'"}) {
        const Result<CopyResult> copied =
            copy_in(git_, plan_, shell_that(script), folder_ / "scratch", {}, {});
        ASSERT_FALSE(copied) << script;
        EXPECT_EQ(copied.error().message.find('\033'), std::string::npos);
    }
    EXPECT_EQ(list_folder(folder_ / "scratch").value(), std::vector<std::string>());
}

TEST_F(CopyTest, AStopEndsACopyThatHangs) {
    plan_ = plan_copy(git_, request(), {}).value();
    std::stop_source source;
    const std::jthread stopper([&] {
        // Answered means that it waits for the guest.
        while (!path_exists(folder_ / "guest/asked"))
            std::this_thread::yield();
        source.request_stop();
    });
    const Result<CopyResult> copied =
        copy_in(git_, plan_, shell_that("echo banger new git gzip -; : >$HOME/asked; sleep 600"),
                folder_ / "scratch", {}, source.get_token());
    ASSERT_FALSE(copied);
    EXPECT_EQ(copied.error().code, Errc::cancelled);
}

}  // namespace
}  // namespace banger::workspace

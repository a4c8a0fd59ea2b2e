#include <gmock/gmock.h>

#include "tests/workspace/world.hpp"

namespace banger::workspace {
namespace {

using testing::HasSubstr;

class ExportTest : public WorkspaceTest {};

TEST_F(ExportTest, APatchAppliesToACleanCheckout) {
    commit_all(
        "head -c 5000 /dev/urandom >binary; seq 100 >moved; echo gone >gone; echo t >type;"
        " printf odd >\"$(printf 'bad\\377')\"");
    must_copy(request());
    guest_sh(
        "echo committed >>a; git mv moved d/moved; git commit -qam one;"
        " head -c 6000 /dev/urandom >binary; git rm -q gone; chmod -x run; chmod +x d/b;"
        " rm link; ln -s d link; rm type; ln -s a type; echo new >'new file';"
        " printf 'no newline' >end; printf 7 >\"$(printf 'n\\376\\nx')\"; mkdir build;"
        " echo ignored >build/o; printf more >>\"$(printf 'bad\\377')\"; : >empty;"
        " head -c 3000 /dev/urandom >newbin; echo staged >s; git add s; echo unstaged >>s");
    const std::string look =
        "git status --porcelain; sha256sum .git/index; git stash list;"
        " find .git | sort; git count-objects";
    const std::string before = guest_sh(look);
    const Result<std::string> text = patch(shell());
    ASSERT_TRUE(text) << text.error().text();
    EXPECT_EQ(guest_sh(look), before);

    sh("git clone -q . ../clean");
    ASSERT_TRUE(write_file_atomic(folder_ / "patch", *text, 0600));
    sh("cd ../clean && git apply --check ../patch && git apply ../patch");
    const std::string all =
        "find . -name .git -prune -o -name build -prune -o -type f -printf '%P ' -exec sha256sum"
        " {} ';' -o -type l -printf '%P -> %l\\n' | sed 's/ [^ ]*$//' | LC_ALL=C sort;"
        " find . -name .git -prune -o -type f -perm -u+x -print | sort";
    EXPECT_EQ(sh("cd ../clean; " + all), guest_sh(all));
}

TEST_F(ExportTest, NothingChangedIsAnEmptyPatch) {
    must_copy(request());
    EXPECT_EQ(patch(shell()).value(), "");
}

TEST_F(ExportTest, TheGuestsConfigurationDoesNotSpoilIt) {
    must_copy(request());
    guest_sh(
        "git config diff.noprefix true; git config diff.mnemonicPrefix true;"
        " git config color.ui always; git config diff.context 0; git config diff.external false;"
        " git config diff.renames copies; git config diff.relative true; echo two >>a");
    const std::string text = patch(shell()).value();
    EXPECT_TRUE(text.starts_with("diff --git a/a b/a\n")) << text;
    ASSERT_TRUE(write_file_atomic(folder_ / "patch", text, 0600));
    sh("git apply --check ../patch");
}

TEST_F(ExportTest, AMissingFolderOrCommitIsSaid) {
    EXPECT_THAT(patch(shell()).error().message, HasSubstr("there is no"));
    must_copy(request());
    plan_.base = std::string(40, '1');
    EXPECT_THAT(patch(shell()).error().message, HasSubstr("does not have the commit"));
}

TEST_F(ExportTest, AHostileAnswerIsAnError) {
    EXPECT_EQ(patch(shell_that("exit 0")).error().code, Errc::corrupt);
    EXPECT_EQ(patch(shell_that("echo hello")).error().code, Errc::corrupt);
    EXPECT_EQ(patch(shell_that("yes | tr -d '\\n'")).error().code, Errc::corrupt);
    EXPECT_EQ(patch(shell_that("echo banger patch; echo '<html>'")).error().code, Errc::corrupt);
    EXPECT_EQ(patch(shell_that("echo banger patch; printf 'diff --'")).error().code, Errc::corrupt);
    EXPECT_EQ(
        patch(shell_that("echo banger patch; echo 'diff --git a/a b/a'; exit 1")).error().code,
        Errc::corrupt);
    EXPECT_EQ(patch(shell_that("echo banger patch; yes 'diff --git a/a b/a'"), ByteCount::kib(64))
                  .error()
                  .code,
              Errc::no_space);
    const Error loud = patch(shell_that("printf 'banger failed \\033]0;x\\007 no\\n'")).error();
    EXPECT_EQ(loud.message.find('\033'), std::string::npos);
}

}  // namespace
}  // namespace banger::workspace

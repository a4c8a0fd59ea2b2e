#include "core/base/file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

TEST(File, AtomicWriteReplacesAndLeavesNoTemporary) {
    const TempFolder folder;
    const std::string path = folder / "state";
    ASSERT_TRUE(write_file_atomic(path, "one", 0600));
    ASSERT_TRUE(write_file_atomic(path, "two", 0640));
    EXPECT_EQ(*read_file(path, ByteCount::kib(1)), "two");
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0640u);
    EXPECT_EQ(*list_folder(folder.path()), std::vector<std::string>{"state"});
}

TEST(File, AFailedAtomicWriteLeavesTheOldContent) {
    const TempFolder folder;
    ASSERT_TRUE(ensure_folder(folder / "taken", 0700));
    EXPECT_FALSE(write_file_atomic(folder / "taken", "x", 0600));
    EXPECT_EQ(*list_folder(folder.path()), std::vector<std::string>{"taken"});
}

TEST(File, ReadRefusesMoreThanItsLimitAndLinks) {
    const TempFolder folder;
    ASSERT_TRUE(write_file_atomic(folder / "big", std::string(2000, 'x'), 0600));
    EXPECT_EQ(read_file(folder / "big", ByteCount::kib(1)).error().code, Errc::corrupt);
    ASSERT_EQ(::symlink("big", (folder / "link").c_str()), 0);
    EXPECT_FALSE(read_file(folder / "link", ByteCount::kib(4)));
    EXPECT_EQ(read_file(folder / "none", ByteCount::kib(1)).error().code, Errc::not_found);
}

TEST(File, RemoveTreeNeverFollowsALink) {
    const TempFolder folder;
    ASSERT_TRUE(ensure_folder(folder / "keep/inside", 0700));
    ASSERT_TRUE(ensure_folder(folder / "gone/deep/er", 0700));
    ASSERT_EQ(::symlink((folder / "keep").c_str(), (folder / "gone/deep/link").c_str()), 0);
    EXPECT_TRUE(remove_tree(folder / "gone"));
    EXPECT_FALSE(path_exists(folder / "gone"));
    EXPECT_TRUE(path_exists(folder / "keep/inside"));
    EXPECT_TRUE(remove_tree(folder / "gone")) << "already gone is success";
}

TEST(File, EnsureFolderMakesParentsAndRefusesAFile) {
    const TempFolder folder;
    EXPECT_TRUE(ensure_folder(folder / "a/b/c", 0700));
    EXPECT_TRUE(ensure_folder(folder / "a/b/c", 0700));
    ASSERT_TRUE(write_file_atomic(folder / "file", "", 0600));
    EXPECT_EQ(ensure_folder(folder / "file", 0700).error().code, Errc::already_exists);
}

TEST(File, APrivateFolderIsOursAlone) {
    const TempFolder folder;
    EXPECT_TRUE(ensure_private_folder(folder / "mine"));
    ASSERT_EQ(::chmod((folder / "mine").c_str(), 0770), 0);
    EXPECT_EQ(ensure_private_folder(folder / "mine").error().code, Errc::permission_denied);
    ASSERT_EQ(::symlink("mine", (folder / "link").c_str()), 0);
    EXPECT_FALSE(ensure_private_folder(folder / "link"));
}

TEST(File, ALockIsExclusiveUntilClosed) {
    const TempFolder folder;
    Result<UniqueFd> first = try_lock_file(folder / "lock");
    ASSERT_TRUE(first);
    EXPECT_EQ(try_lock_file(folder / "lock").error().code, Errc::busy);
    first->reset();
    EXPECT_TRUE(try_lock_file(folder / "lock"));
}

TEST(File, ParentPath) {
    EXPECT_EQ(parent_path("/a/b"), "/a");
    EXPECT_EQ(parent_path("/a"), "/");
    EXPECT_EQ(parent_path("a"), ".");
    EXPECT_EQ(parent_path("/a/b/"), "/a");
}

}  // namespace
}  // namespace banger

#include "daemons/vsock-agent/copy_tree.hpp"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "tests/vsock-agent/root_fixture.hpp"

namespace banger::agent {
namespace {

class CopyTree : public RootTest {
protected:
    void SetUp() override {
        RootTest::SetUp();
        if (IsSkipped()) return;
        folder("from");
        folder("to");
    }
    Result<void> copy() {
        const UniqueFd from(open((folder_ / "from").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        const UniqueFd to(open((folder_ / "to").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        return copy_tree(from.get(), to.get());
    }
    struct stat info(const std::string& path) {
        struct stat found {};
        EXPECT_EQ(lstat((folder_ / path).c_str(), &found), 0) << path;
        return found;
    }
};

TEST_F(CopyTree, KeepsContentOwnersModesAndTimes) {
    file("from/.ssh/authorized_keys", "key", 0600);
    file("from/big", std::string(3 << 20, 'b'), 04755);
    ASSERT_EQ(chown((folder_ / "from/.ssh").c_str(), 7, 8), 0);
    ASSERT_EQ(chmod((folder_ / "from/.ssh").c_str(), 0700), 0);
    ASSERT_EQ(chmod((folder_ / "from").c_str(), 01711), 0);
    const std::array<timespec, 2> times{timespec{5, 6}, timespec{7, 8}};
    ASSERT_EQ(utimensat(AT_FDCWD, (folder_ / "from/big").c_str(), times.data(), 0), 0);
    ASSERT_TRUE(copy());
    EXPECT_EQ(content("to/.ssh/authorized_keys"), "key");
    EXPECT_EQ(info("to/big").st_size, 3 << 20);
    EXPECT_EQ(mode("to/big"), 04755U);
    EXPECT_EQ(info("to/big").st_mtim.tv_sec, 7);
    EXPECT_EQ(info("to/big").st_mtim.tv_nsec, 8);
    EXPECT_EQ(info("to/.ssh").st_uid, 7U);
    EXPECT_EQ(info("to/.ssh").st_gid, 8U);
    EXPECT_EQ(mode("to/.ssh"), 0700U);
    EXPECT_EQ(mode("to"), 01711U) << "the folder itself, contents not nested";
    EXPECT_FALSE(path_exists(folder_ / "to/from"));
}

TEST_F(CopyTree, KeepsLinksAndSpecialFiles) {
    file("from/a/one", "1");
    ASSERT_EQ(::link((folder_ / "from/a/one").c_str(), (folder_ / "from/two").c_str()), 0);
    link("from/dangling", "/no/such\nplace");
    ASSERT_EQ(mkfifo((folder_ / "from/fifo").c_str(), 0640), 0);
    ASSERT_TRUE(copy());
    EXPECT_EQ(info("to/a/one").st_ino, info("to/two").st_ino);
    std::array<char, 64> target{};
    ASSERT_GT(readlink((folder_ / "to/dangling").c_str(), target.data(), target.size()), 0);
    EXPECT_STREQ(target.data(), "/no/such\nplace");
    EXPECT_TRUE(S_ISFIFO(info("to/fifo").st_mode));
    EXPECT_EQ(mode("to/fifo"), 0640U);
}

TEST_F(CopyTree, KeepsExtendedAttributes) {
    file("from/tool", "x");
    if (setxattr((folder_ / "from/tool").c_str(), "trusted.test", "value", 5, 0) != 0)
        GTEST_SKIP() << "needs a file system with extended attributes";
    ASSERT_TRUE(copy());
    std::array<char, 8> value{};
    EXPECT_EQ(getxattr((folder_ / "to/tool").c_str(), "trusted.test", value.data(), value.size()),
              5);
}

TEST_F(CopyTree, TooDeepIsAnErrorAndNoCrash) {
    std::string path = "from";
    for (int depth = 0; depth < 300; ++depth)
        path += "/d";
    folder(path);
    EXPECT_FALSE(copy());
}

TEST_F(CopyTree, ClearingRemovesAllButOne) {
    file("to/lost+found/kept", "x");
    file("to/a/b/c", "x");
    file("to/d", "x");
    link("to/e", "/etc");
    const UniqueFd to(open((folder_ / "to").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(clear_folder(to.get(), "lost+found"));
    EXPECT_EQ(list_folder(folder_ / "to").value(), std::vector<std::string>{"lost+found"});
    EXPECT_EQ(content("to/lost+found/kept"), "x");
    EXPECT_TRUE(path_exists("/etc/passwd"));
}

}  // namespace
}  // namespace banger::agent

#include "daemons/vsock-agent/hand_over.hpp"
#include "tests/vsock-agent/root_fixture.hpp"

namespace banger::agent {
namespace {

class ImageRootTest : public RootTest {};

TEST_F(ImageRootTest, LinksLeadInsideTheImage) {
    const TempFolder outside;
    folder("usr/lib");
    link("lib", "/usr/lib");  // absolute, as in many images
    link("escape", "../../../../.." + outside.path());
    ASSERT_TRUE(root().write("lib/file", "inside", 0600));
    EXPECT_EQ(content("usr/lib/file"), "inside");
    ASSERT_TRUE(root().write("escape/file", "x", 0600) || true);
    EXPECT_FALSE(path_exists(outside / "file"));
}

TEST_F(ImageRootTest, AFileReplacesALinkAndNotItsTarget) {
    file("run/stub", "old");
    folder("etc");
    link("etc/resolv.conf", "../run/stub");
    ASSERT_TRUE(root().update("etc/resolv.conf", "new", 0644));
    EXPECT_EQ(content("etc/resolv.conf"), "new");
    EXPECT_EQ(content("run/stub"), "old");
}

TEST_F(ImageRootTest, UpdateLeavesAFileThatIsRight) {
    ASSERT_TRUE(root().update("etc/hostname", "a\n", 0644));
    struct stat before {};
    struct stat after {};
    ASSERT_EQ(stat((folder_ / "etc/hostname").c_str(), &before), 0);
    ASSERT_TRUE(root().update("etc/hostname", "a\n", 0644));
    ASSERT_EQ(stat((folder_ / "etc/hostname").c_str(), &after), 0);
    EXPECT_EQ(before.st_ino, after.st_ino);
    ASSERT_TRUE(root().update("etc/hostname", "a\n", 0600));
    EXPECT_EQ(mode("etc/hostname"), 0600U);
}

TEST_F(ImageRootTest, FailuresLeaveNothing) {
    file("etc", "a file where a folder should be");
    EXPECT_FALSE(root().write("etc/hostname", "x", 0644));
    folder("var/target");
    EXPECT_FALSE(root().write("var/target", "a file over a folder", 0644));
    EXPECT_EQ(list_folder(folder_ / "var").value(), std::vector<std::string>{"target"});
    EXPECT_TRUE(root().remove("no/such/file"));
}

TEST_F(ImageRootTest, ReadsRegularFilesOnly) {
    folder("etc");
    ASSERT_EQ(mkfifo((folder_ / "etc/passwd").c_str(), 0600), 0);
    EXPECT_FALSE(root().read("etc/passwd"));
    EXPECT_FALSE(root().read("etc"));
}

TEST_F(ImageRootTest, FindsTheInitThatStartsSomething) {
    EXPECT_EQ(find_image_init(root()), std::nullopt);
    file("bin/busybox", "", 0755);
    folder("sbin");
    link("sbin/init", "/bin/busybox");
    EXPECT_EQ(find_image_init(root()), std::nullopt) << "a container image's busybox";
    file("etc/inittab", "::sysinit:/sbin/openrc sysinit\n");
    EXPECT_EQ(find_image_init(root()), std::nullopt) << "alpine's base has that, but no OpenRC";
    file("sbin/openrc", "", 0755);
    EXPECT_EQ(find_image_init(root()), "/sbin/init");
}

TEST_F(ImageRootTest, AnInitThatHasNothingToFollowGetsOursInItsPlace) {
    file("sbin/init", "#!/bin/sh\n", 0755);
    EXPECT_EQ(find_image_init(root()), std::nullopt);
    file("etc/inittab", "id:2:initdefault:\n");
    EXPECT_EQ(find_image_init(root()), "/sbin/init") << "sysvinit";
}

TEST_F(ImageRootTest, FindsSystemdWithAndWithoutItsLink) {
    file("usr/lib/systemd/systemd", "", 0644);
    EXPECT_EQ(find_image_init(root()), std::nullopt) << "not executable";
    ASSERT_EQ(chmod((folder_ / "usr/lib/systemd/systemd").c_str(), 0755), 0);
    EXPECT_EQ(find_image_init(root()), "/usr/lib/systemd/systemd");
    folder("usr/sbin");
    link("sbin", "usr/sbin");
    link("usr/sbin/init", "/lib/systemd/systemd");
    link("lib", "usr/lib");
    EXPECT_EQ(find_image_init(root()), "/sbin/init");
}

}  // namespace
}  // namespace banger::agent

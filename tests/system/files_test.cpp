#include "core/system/files.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::system {
namespace {

using ::testing::HasSubstr;

const Owner owner{"dev", 1000, 1000, "/home/dev"};

std::string content(const std::string& path) {
    return read_file(path, ByteCount::mib(1)).value_or("(missing)");
}

mode_t mode_of(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
    return status.st_mode & 07777;
}

/// A build tree with files that are no programs, and an empty host.
class Installation : public ::testing::Test {
protected:
    void SetUp() override {
        for (const char* name :
             {"banger", "bangerd", "bangerd-root", "banger-vsock-agent", "banger-plugin-host"})
            put("tree/bin/" + std::string(name), std::string(name) + " v1");
        for (const char* name : {"net-bridge", "fake"}) {
            put("tree/lib/banger/plugins/" + std::string(name) + ".so", "library");
            put("tree/lib/banger/plugins/" + std::string(name) + ".toml",
                "name = \"" + std::string(name) +
                    "\"\nversion = \"1\"\nsummary = \"s\"\nroles = [\"network\"]\n"
                    "privilege = \"root\"\napi_version = 1\n");
        }
    }
    void put(const std::string& name, const std::string& text) {
        ASSERT_TRUE(ensure_folder(parent_path(folder_ / name), 0755));
        ASSERT_TRUE(write_file_atomic(folder_ / name, text, 0755));
    }
    [[nodiscard]] Release release() const {
        Result<Release> found = find_release(folder_ / "tree/bin/banger");
        EXPECT_TRUE(found) << found.error().text();
        return *found;
    }
    std::size_t install() {
        std::size_t changed = 0;
        for (const PlannedFile& file : plan_files(release(), layout_, owner, "{}\n", true)) {
            const Result<bool> is_new = put_file(file);
            EXPECT_TRUE(is_new) << is_new.error().text();
            if (is_new && *is_new) ++changed;
        }
        return changed;
    }
    /// Every file below the host's root.
    [[nodiscard]] std::vector<std::string> files(const std::string& below = "host") const {
        std::vector<std::string> all;
        const Result<std::vector<std::string>> names = list_folder(folder_ / below);
        if (!names) return all;
        for (const std::string& name : *names) {
            const std::string path = below + "/" + name;
            struct stat status {};
            if (::lstat((folder_ / path).c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
                for (std::string& inner : files(path))
                    all.push_back(std::move(inner));
            } else {
                all.push_back(path.substr(4));
            }
        }
        return all;
    }

    TempFolder folder_;
    Layout layout_ = Layout::at(folder_ / "host");
};

TEST_F(Installation, PutsEveryFileWhereItBelongs) {
    install();
    EXPECT_THAT(
        files(),
        ::testing::UnorderedElementsAre(
            "/etc/banger/helper.json", "/etc/systemd/system/bangerd-root.service",
            "/etc/systemd/system/bangerd-root.socket",
            "/etc/systemd/system/bangerd-root.socket.d/owner.conf",
            "/etc/systemd/system/bangerd.service",
            "/etc/systemd/system/bangerd.service.d/owner.conf",
            "/etc/systemd/system/bangerd.socket", "/etc/systemd/system/bangerd.socket.d/owner.conf",
            "/etc/tmpfiles.d/banger.conf", "/etc/udev/rules.d/59-banger.rules",
            "/usr/local/bin/banger", "/usr/local/bin/bangerd", "/usr/local/bin/bangerd-root",
            "/usr/local/lib/banger/banger-plugin-host", "/usr/local/lib/banger/banger-vsock-agent",
            "/usr/local/lib/banger/plugins/net-bridge.so",
            "/usr/local/lib/banger/plugins/net-bridge.toml"));
    EXPECT_EQ(mode_of(layout_.binaries + "/bangerd"), 0755u);
    EXPECT_EQ(mode_of(layout_.plugins + "/net-bridge.so"), 0644u);
    EXPECT_EQ(mode_of(layout_.helper_config), 0644u);
    EXPECT_EQ(content(layout_.binaries + "/bangerd"), "bangerd v1");
}

TEST_F(Installation, TwiceChangesNothing) {
    EXPECT_GT(install(), 0u);
    EXPECT_EQ(install(), 0u);
}

TEST_F(Installation, AnUpgradeReplacesWhatChangedAndNeverWritesIntoARunningFile) {
    install();
    struct stat before {};
    ASSERT_EQ(::stat((layout_.binaries + "/bangerd").c_str(), &before), 0);
    put("tree/bin/bangerd", "bangerd v2");
    EXPECT_EQ(install(), 1u);
    struct stat after {};
    ASSERT_EQ(::stat((layout_.binaries + "/bangerd").c_str(), &after), 0);
    EXPECT_NE(before.st_ino, after.st_ino);
    EXPECT_EQ(content(layout_.binaries + "/bangerd"), "bangerd v2");
}

TEST_F(Installation, WhatARunThatWasCutOffLeftIsReplacedAndRemoved) {
    put("host/usr/local/bin/.bangerd.banger-new", "half");
    install();
    EXPECT_FALSE(path_exists(layout_.binaries + "/.bangerd.banger-new"));
    put("host/etc/systemd/system/.bangerd.service.banger-new", "half");
    ASSERT_TRUE(remove_files(layout_));
    EXPECT_THAT(files(), ::testing::IsEmpty());
}

TEST_F(Installation, FromTheInstalledCopyNothingChanges) {
    install();
    put("host/usr/local/bin/banger-vsock-agent", "");
    ASSERT_TRUE(remove_file(layout_.binaries + "/banger-vsock-agent"));
    const Result<Release> again = find_release(layout_.binaries + "/banger");
    ASSERT_TRUE(again) << again.error().text();
    for (const PlannedFile& file : plan_files(*again, layout_, owner, "{}\n", true))
        EXPECT_FALSE(*put_file(file)) << file.path;
}

TEST_F(Installation, CompletionsAndManualPagesComeAndGoWithTheirFolders) {
    put("host/usr/local/share/man/man1/other.1", "");
    put("host/usr/local/share/fish/vendor_completions.d/other.fish", "");
    for (const char* shell : {"bash", "zsh", "fish"})
        ASSERT_TRUE(put_file(completion_file(layout_, shell, "script\n")));
    ASSERT_TRUE(put_file(man_file(layout_, "banger-vm-run.1", ".TH\n")));
    EXPECT_THAT(files(), ::testing::UnorderedElementsAre(
                             "/usr/local/share/man/man1/other.1",
                             "/usr/local/share/man/man1/banger-vm-run.1",
                             "/usr/local/share/fish/vendor_completions.d/other.fish",
                             "/usr/local/share/fish/vendor_completions.d/banger.fish",
                             "/usr/local/share/bash-completion/completions/banger",
                             "/usr/local/share/zsh/site-functions/_banger"));
    ASSERT_TRUE(remove_files(layout_));
    EXPECT_THAT(files(), ::testing::UnorderedElementsAre(
                             "/usr/local/share/man/man1/other.1",
                             "/usr/local/share/fish/vendor_completions.d/other.fish"));
    EXPECT_FALSE(path_exists(layout_.share + "/bash-completion"));
    EXPECT_FALSE(path_exists(layout_.share + "/zsh"));
}

TEST_F(Installation, UninstallKeepsWhatIsNotOurs) {
    install();
    put("host/etc/systemd/system/bangerd.service.d/override.conf", "[Service]\n");
    put("host/usr/local/bin/other", "x");
    put("host/etc/banger/config.toml", "");
    ASSERT_TRUE(remove_files(layout_));
    EXPECT_THAT(files(),
                ::testing::UnorderedElementsAre(
                    "/etc/banger/config.toml",
                    "/etc/systemd/system/bangerd.service.d/override.conf", "/usr/local/bin/other"));
    ASSERT_TRUE(remove_files(layout_)) << "twice";
    ASSERT_TRUE(remove_state(layout_));
    EXPECT_FALSE(path_exists(layout_.etc));
    ASSERT_TRUE(remove_state(layout_)) << "twice";
}

TEST_F(Installation, ATreeThatIsNotWholeIsRefused) {
    ASSERT_TRUE(remove_file(folder_ / "tree/bin/bangerd-root"));
    const Result<Release> found = find_release(folder_ / "tree/bin/banger");
    ASSERT_FALSE(found);
    EXPECT_THAT(found.error().message, HasSubstr("bangerd-root is missing"));
}

TEST_F(Installation, AFolderThatOthersMayWriteIsRefused) {
    ASSERT_TRUE(ensure_folder(layout_.binaries, 0755));
    ASSERT_TRUE(check_folders(layout_));
    ASSERT_EQ(::chmod(layout_.binaries.c_str(), 0775), 0);
    const Result<void> checked = check_folders(layout_);
    ASSERT_FALSE(checked);
    EXPECT_EQ(checked.error().code, Errc::permission_denied);
    EXPECT_THAT(checked.error().remedy, HasSubstr("chmod go-w"));
}

TEST(LibrariesTest, AProgramOfThisHostLacksNothing) {
    const Result<std::vector<std::string>> missing = missing_libraries("/proc/self/exe");
    ASSERT_TRUE(missing) << missing.error().text();
    EXPECT_THAT(*missing, ::testing::IsEmpty());
}

TEST(LibrariesTest, PackagesAreNamedOnce) {
    EXPECT_EQ(packages_of({"libssl.so.3", "libcrypto.so.3", "libldns.so.3", "libodd.so.1"}),
              "libldns3 libodd.so.1 libssl3");
}

TEST(InstallRecordTest, ComesBackAsItWas) {
    const InstallRecord record{1000, 1001, "0.1.0", "abc", true, {"net-bridge", "storage-dm"}};
    const Result<InstallRecord> read = InstallRecord::parse(record.text(), "install.toml");
    ASSERT_TRUE(read) << read.error().text();
    EXPECT_EQ(*read, record);
}

TEST(InstallRecordTest, DamageIsSaidWithTheWayOut) {
    for (const char* text : {"", "owner_uid = 0\nowner_gid = 0", "owner_uid = -1\nowner_gid = 5",
                             "owner_uid = \"1000\"\nowner_gid = 5", "owner_uid = 1000", "[[",
                             "owner_uid = 4294967295\nowner_gid = 5"}) {
        const Result<InstallRecord> read = InstallRecord::parse(text, "/etc/banger/install.toml");
        ASSERT_FALSE(read) << text;
        EXPECT_EQ(read.error().code, Errc::corrupt);
        EXPECT_THAT(read.error().remedy, HasSubstr("system install"));
    }
}

TEST(OwnerTest, RootAndNobodyKnownAreRefused) {
    EXPECT_EQ(Owner::find("root").error().code, Errc::invalid_argument);
    EXPECT_EQ(Owner::find(uid_t{0}).error().code, Errc::invalid_argument);
    EXPECT_EQ(Owner::find("no-such-user-here").error().code, Errc::not_found);
}

}  // namespace
}  // namespace banger::system

#include "core/vms/file_sync.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <thread>

#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class FileSyncTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_EQ(::mkdir(home_.c_str(), 0700), 0); }

    void file(const std::string& name, const std::string& text, mode_t mode = 0644) {
        ASSERT_TRUE(ensure_folder(parent_path(folder_ / name), 0700));
        ASSERT_TRUE(write_file_atomic(folder_ / name, text, mode));
    }
    void link(const std::string& target, const std::string& name) {
        ASSERT_TRUE(ensure_folder(parent_path(folder_ / name), 0700));
        ASSERT_EQ(::symlink(target.c_str(), (folder_ / name).c_str()), 0);
    }
    Result<SyncedFiles> collect(const std::string& host, std::optional<std::uint32_t> mode = {},
                                const FileSyncLimits& limits = {}) {
        return collect_file_sync({{home_ + "/" + host, "/root/there", mode, {}}}, home_, limits);
    }
    /// "/root/there 0600 text" for each, or "folder".
    static std::vector<std::string> shown(const Result<SyncedFiles>& synced) {
        EXPECT_TRUE(synced) << synced.error().text();
        std::vector<std::string> lines;
        if (!synced) return lines;
        for (const guest::GuestFile& each : synced->files) {
            char mode[16];
            std::snprintf(mode, sizeof mode, " %04o ", each.mode);
            lines.push_back(each.path + mode + (each.is_folder ? "folder" : each.content));
        }
        return lines;
    }

    TempFolder folder_;
    std::string home_ = folder_ / "home";
};

TEST_F(FileSyncTest, AFileIsPrivateUnlessAModeIsGiven) {
    file("home/.netrc", "secret", 0644);
    EXPECT_THAT(shown(collect(".netrc")), ElementsAre("/root/there 0600 secret"));
    EXPECT_THAT(shown(collect(".netrc", 0755)), ElementsAre("/root/there 0755 secret"));
}

TEST_F(FileSyncTest, AFolderKeepsItsModesAndEmptyFolders) {
    file("home/bin/deep/tool", "#!", 04755);
    file("home/bin/note", "n", 0640);
    ASSERT_EQ(::mkdir((home_ + "/bin/empty").c_str(), 0711), 0);
    ASSERT_EQ(::chmod((home_ + "/bin").c_str(), 0750), 0);
    EXPECT_THAT(shown(collect("bin", 0600)),
                ElementsAre("/root/there 0750 folder", "/root/there/deep 0700 folder",
                            "/root/there/deep/tool 0755 #!", "/root/there/empty 0711 folder",
                            "/root/there/note 0640 n"));
}

TEST_F(FileSyncTest, WhatIsNotThereIsAWarningAndTheRestGoesOn) {
    file("home/here", "x");
    const Result<SyncedFiles> synced = collect_file_sync(
        {{home_ + "/gone", "/root/gone", {}, {}}, {home_ + "/here", "/root/here", {}, {}}}, home_,
        {});
    EXPECT_THAT(shown(synced), ElementsAre("/root/here 0600 x"));
    EXPECT_THAT(synced->warnings, ElementsAre("file_sync: " + home_ + "/gone is not there"));
}

TEST_F(FileSyncTest, ALinkOnTopIsFollowedInsideTheHomeAlone) {
    file("home/dotfiles/gitconfig", "mine");
    file("outside/shadow", "not yours");
    file("home-of-another/key", "not yours");
    link(home_ + "/dotfiles/gitconfig", "home/absolute");
    link("dotfiles/gitconfig", "home/relative");
    EXPECT_THAT(shown(collect("absolute")), ElementsAre("/root/there 0600 mine"));
    EXPECT_THAT(shown(collect("relative")), ElementsAre("/root/there 0600 mine"));
    link(folder_ / "outside/shadow", "home/out");
    link("../outside", "home/folder-out");
    link("../home-of-another/key", "home/almost");
    link("loop", "home/loop");
    // Also by a folder on the way.
    for (const char* name : {"out", "folder-out", "folder-out/shadow", "almost", "loop"}) {
        const Result<SyncedFiles> synced = collect(name);
        EXPECT_THAT(shown(synced), IsEmpty()) << name;
        EXPECT_EQ(synced->warnings.size(), 1U) << name;
    }
    EXPECT_THAT(collect("out")->warnings.front(), HasSubstr("leads out of your home"));
}

TEST_F(FileSyncTest, AHomeThatIsALinkIsAHome) {
    file("home/x", "y");
    link("home", "alias");
    const Result<SyncedFiles> synced =
        collect_file_sync({{folder_ / "alias/x", "/root/x", {}, {}}}, folder_ / "alias", {});
    EXPECT_THAT(shown(synced), ElementsAre("/root/x 0600 y"));
}

TEST_F(FileSyncTest, LinksAndDevicesInAFolderAreLeftOutWithAWarning) {
    file("home/bin/tool", "t", 0700);
    link("tool", "home/bin/inner-link");
    link("/etc", "home/bin/outer-link");
    ASSERT_EQ(::mkfifo((home_ + "/bin/pipe").c_str(), 0600), 0);
    file("home/bin/bad\nname", "x");
    file("home/bin/bad\xffname", "x");
    const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const std::string path = home_ + "/bin/socket";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    ASSERT_LT(path.size(), sizeof address.sun_path);
    path.copy(address.sun_path, path.size());
    ASSERT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    const Result<SyncedFiles> synced = collect("bin");
    EXPECT_THAT(shown(synced), ElementsAre("/root/there 0700 folder", "/root/there/tool 0700 t"));
    EXPECT_EQ(synced->warnings.size(), 6U);
    EXPECT_THAT(synced->warnings,
                testing::Contains(AllOf(HasSubstr("outer-link"), HasSubstr("is a link"))));
    // On top, too.
    EXPECT_THAT(shown(collect("bin/pipe")), IsEmpty());
}

TEST_F(FileSyncTest, SizesAreBounded) {
    file("home/many/a", "12345");
    file("home/many/b", "12345");
    EXPECT_TRUE(collect("many", {}, {.bytes = 10, .entries = 3}));
    for (const FileSyncLimits& limits :
         {FileSyncLimits{.bytes = 9, .entries = 3}, FileSyncLimits{.bytes = 10, .entries = 2}}) {
        const Result<SyncedFiles> synced = collect("many", {}, limits);
        ASSERT_FALSE(synced);
        EXPECT_EQ(synced.error().code, Errc::no_space);
        EXPECT_THAT(synced.error().remedy, HasSubstr("banger vm cp"));
    }
    // A sparse giant is refused before a byte of it is read.
    file("home/giant", "");
    ASSERT_EQ(::truncate((home_ + "/giant").c_str(), off_t{1} << 40), 0);
    EXPECT_EQ(collect("giant").error().code, Errc::no_space);
    // What an entry without end says is no size.
    std::string deep = "home/deep";
    for (int i = 0; i < 40; ++i)
        deep += "/d";
    file(deep + "/x", "x");
    EXPECT_EQ(collect("deep")->warnings.size(), 1U);
}

TEST_F(FileSyncTest, TheLimitsFitWhatAGuestCanBeGiven) {
    EXPECT_LT(FileSyncLimits{}.bytes, guest::max_files_bytes);
}

TEST_F(FileSyncTest, OfTwoEntriesTheLaterWins) {
    file("home/bin/rc", "folder's", 0644);
    file("home/rc", "own");
    const Result<SyncedFiles> synced = collect_file_sync(
        {{home_ + "/bin", "/root/b", {}, {}}, {home_ + "/rc", "/root/b/rc", {}, {}}}, home_, {});
    EXPECT_THAT(shown(synced), ElementsAre("/root/b 0700 folder", "/root/b/rc 0600 own"));
}

/// A program of the owner's that swaps a file for a link to a secret while we read.
TEST_F(FileSyncTest, NothingOutsideIsReadWhateverIsSwappedMeanwhile) {
    file("outside/secret", "secret");
    file("home/bin/rc", "mine");
    link(folder_ / "outside/secret", "home/evil");
    link(folder_ / "outside", "home/evil-folder");
    std::atomic<bool> is_over = false;
    std::thread swapper([&] {
        while (!is_over) {
            ::renameat2(AT_FDCWD, (home_ + "/bin/rc").c_str(), AT_FDCWD, (home_ + "/evil").c_str(),
                        RENAME_EXCHANGE);
            ::renameat2(AT_FDCWD, (home_ + "/bin").c_str(), AT_FDCWD,
                        (home_ + "/evil-folder").c_str(), RENAME_EXCHANGE);
        }
    });
    for (int i = 0; i < 3000; ++i) {
        for (const char* name : {"bin", "bin/rc"}) {
            const Result<SyncedFiles> synced = collect(name);
            if (!synced) continue;  // gone between two looks
            for (const guest::GuestFile& each : synced->files)
                ASSERT_THAT(each.content, testing::AnyOf("", "mine"));
        }
    }
    is_over = true;
    swapper.join();
}

}  // namespace
}  // namespace banger

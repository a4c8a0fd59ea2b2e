#include "plugins/image-debian/source.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/process.hpp"
#include "plugins/image-debian/build_folder.hpp"
#include "tests/catalog/fake_host.hpp"
#include "tests/image-debian/fake_mmdebstrap.hpp"

namespace banger::image_debian {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class DebianSourceTest : public testing::Test {
protected:
    DebianSourceTest() {
        options_.mmdebstrap = fake_.program();
        options_.work_folder = fake_.work_folder();
        host_.folder = fake_.cache_folder();
    }

    Result<std::string> fetch(const std::string& reference = "debian:bookworm-slim",
                              ArtifactKind kind = ArtifactKind::image) {
        DebianSource source(host_, options_);
        const Resolution resolution = source.resolve({kind, reference, "amd64"}, call_).value();
        const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
        BANGER_TRY(source.fetch(std::get<ArtifactManifest>(resolution), 0, 0, sink, call_));
        EXPECT_EQ(::lseek(sink.get(), 0, SEEK_SET), 0);
        return read_all(sink.get(), ByteCount::mib(1));
    }
    std::vector<std::string> left_behind() { return list_folder(fake_.work_folder()).value(); }
    std::vector<std::string> packages() {
        return list_folder(fake_.cache_folder() + "/packages-image").value();
    }

    FakeMmdebstrap fake_;
    FakeHost host_;
    FakeCall call_;
    Options options_;
};

TEST_F(DebianSourceTest, PassesTheArchiveOnAndReportsProgress) {
    fake_.does("echo 'I: running apt-get update...' >&2; printf tar-bytes");
    EXPECT_EQ(fetch().value(), "tar-bytes");
    EXPECT_THAT(left_behind(), IsEmpty());
    EXPECT_EQ(call_.reported().back().stage, "reading the list of packages");
    EXPECT_THAT(fake_.arguments(), HasSubstr("--mode=unshare\n"));
}

TEST_F(DebianSourceTest, KeepsThePackagesOfABuildForTheNext) {
    fake_.does("echo a > \"$out/a_1_all.deb\"");
    ASSERT_TRUE(fetch());
    EXPECT_THAT(packages(), ElementsAre("a_1_all.deb"));
    EXPECT_THAT(fake_.arguments(),
                HasSubstr("sync-in " + fake_.cache_folder() + "/packages-image "));
    fake_.does("echo b > \"$out/b_1_all.deb\"");
    ASSERT_TRUE(fetch());
    EXPECT_THAT(packages(), ElementsAre("b_1_all.deb")) << "obsolete ones go";
}

TEST_F(DebianSourceTest, AFailedBuildKeepsItsPackagesAndNothingElse) {
    fake_.does(
        "echo a > \"$archives/a_1_all.deb\"; mkdir \"$archives/partial\"\n"
        "echo \"E: Could not resolve 'm.example'\" >&2; exit 25");
    const Result<std::string> fetched = fetch();
    ASSERT_FALSE(fetched);
    EXPECT_EQ(fetched.error().code, Errc::unreachable);
    EXPECT_THAT(fetched.error().message, HasSubstr("while building debian:bookworm-slim"));
    EXPECT_THAT(left_behind(), IsEmpty());
    EXPECT_THAT(packages(), ElementsAre("a_1_all.deb"));
}

TEST_F(DebianSourceTest, BadPackagesAreNotKept) {
    fake_.does(
        "echo a > \"$archives/a_1_all.deb\"\n"
        "echo 'dpkg-deb: error: archive has premature member' >&2; exit 25");
    EXPECT_FALSE(fetch());
    EXPECT_FALSE(path_exists(fake_.cache_folder() + "/packages-image"));
}

TEST_F(DebianSourceTest, CancellationEndsEveryProcessAndLeavesOnlyPackages) {
    fake_.does(
        "sleep 1000 & echo $! > \"$here/child\"; echo a > \"$archives/a_1_all.deb\"\n"
        "echo 'I: running apt-get update...' >&2; wait");
    call_.on_report = [&](const Progress& progress) {
        if (progress.stage.starts_with("reading")) call_.source.request_stop();
    };
    const Result<std::string> fetched = fetch();
    ASSERT_FALSE(fetched);
    EXPECT_EQ(fetched.error().code, Errc::cancelled);
    const std::string child = read_file(fake_.file("child"), ByteCount::kib(1)).value();
    EXPECT_FALSE(process_id_of(std::stoll(child))) << "the grandchild still runs";
    EXPECT_THAT(left_behind(), IsEmpty());
    EXPECT_THAT(packages(), ElementsAre("a_1_all.deb"));
}

TEST_F(DebianSourceTest, AReaderThatWentAwayIsNoFailureOfTheBuild) {
    fake_.does("echo 'E: tar failed' >&2; exit 25");
    DebianSource source(host_, options_);
    const Resolution resolution =
        source.resolve({ArtifactKind::image, "debian:bookworm-slim", "amd64"}, call_).value();
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    ::close(ends[0]);
    const UniqueFd sink(ends[1]);
    EXPECT_EQ(source.fetch(std::get<ArtifactManifest>(resolution), 0, 0, sink, call_).error().code,
              Errc::cancelled);
}

TEST_F(DebianSourceTest, ASecondBuildAtTheSameTimeGoesWithoutTheCache) {
    const UniqueFd held = try_lock_file(fake_.cache_folder() + "/packages-image.lock").value();
    fake_.does("printf x");
    ASSERT_TRUE(fetch());
    EXPECT_THAT(fake_.arguments(), Not(HasSubstr("sync-")));
}

TEST_F(DebianSourceTest, CleansUpAfterADaemonThatDied) {
    Command sleeper;
    sleeper.program = "/bin/sh";
    sleeper.arguments = {"-c", "sleep 1000 & wait"};
    sleeper.environment = minimal_environment();
    Child orphan = spawn(sleeper).value();
    const std::string left = fake_.work_folder() + "/banger-debian-abcdef";
    const std::string archives = left + "/mmdebstrap.y/var/cache/apt/archives";
    ASSERT_TRUE(ensure_folder(archives, 0755));
    ASSERT_EQ(::chmod(left.c_str(), 0711), 0);
    ASSERT_TRUE(write_file_atomic(archives + "/c_1_all.deb", "c", 0644));
    ASSERT_TRUE(write_file_atomic(
        left + "/owner",
        std::to_string(orphan.id().pid) + " " + std::to_string(orphan.id().start_time) + "\n",
        0600));
    end_orphaned_builds(fake_.work_folder());
    EXPECT_FALSE(is_running(orphan.id())) << "a new daemon ends it at once";
    EXPECT_THAT(left_behind(), testing::SizeIs(1));
    fake_.does("cp \"$here/cache/packages-image/\"* \"$out/\"");
    ASSERT_TRUE(fetch());
    orphan.detach();  // reaped by whoever ended it
    EXPECT_THAT(left_behind(), IsEmpty());
    EXPECT_THAT(packages(), ElementsAre("c_1_all.deb"));
}

TEST_F(DebianSourceTest, LeavesTheFolderOfALiveBuildAlone) {
    const BuildFolder live = BuildFolder::make(fake_.work_folder(), fake_.program()).value();
    fake_.does("printf x");
    ASSERT_TRUE(fetch());
    EXPECT_THAT(left_behind(), testing::SizeIs(1));
}

TEST_F(DebianSourceTest, ANumberThatWasReusedIsNotEnded) {
    const std::string left = fake_.work_folder() + "/banger-debian-abcdef";
    ASSERT_TRUE(ensure_folder(left, 0711));
    // This very process, but with another start time.
    ASSERT_TRUE(write_file_atomic(left + "/owner", std::to_string(::getpid()) + " 1\n", 0600));
    EXPECT_EQ(reap_build_folders(fake_.work_folder(), fake_.program(), "").value(), 1);
    EXPECT_THAT(left_behind(), IsEmpty());
}

TEST_F(DebianSourceTest, SaysWhatToInstall) {
    options_.mmdebstrap = "banger-no-such-program";
    const Result<std::string> fetched = fetch();
    ASSERT_FALSE(fetched);
    EXPECT_EQ(fetched.error().code, Errc::unavailable);
    EXPECT_THAT(fetched.error().remedy, HasSubstr("sudo apt install mmdebstrap"));
    const std::vector<Check> rows = DebianSource(host_, options_).checks({});
    EXPECT_EQ(rows.front().status, CheckStatus::fail);
}

TEST_F(DebianSourceTest, SaysThatTheWorkFolderIsMissing) {
    fake_.does("printf x");
    options_.work_folder = fake_.file("missing");
    EXPECT_THAT(fetch().error().remedy, HasSubstr("work_folder"));
}

TEST(SubordinateIds, AreReadAsMmdebstrapReadsThem) {
    EXPECT_TRUE(has_subordinate_ids("root:1:65536\nme:100000:65536\n", "me"));
    EXPECT_TRUE(has_subordinate_ids("me:100000:65536", "me"));
    for (const char* table : {"", "\n\n", "me", "me:", "me:1", "me:1:10", "you:1:65536\n",
                              "mean:1:65536\n", ":1:65536\n", "me:1:x\n"})
        EXPECT_FALSE(has_subordinate_ids(table, "me")) << table;
    EXPECT_FALSE(has_subordinate_ids(":1:65536\n", ""));
}

}  // namespace
}  // namespace banger::image_debian

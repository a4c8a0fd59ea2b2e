// `image publish`, `kernel publish` and the commands of `catalog`, against a fake bangerd.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>

#include "cli_fixture.hpp"
#include "core/base/file.hpp"
#include "tests/support/golden.hpp"

namespace banger::cli {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

class CatalogCommandsTest : public CliTest {
protected:
    CatalogCommandsTest() { EXPECT_TRUE(ensure_folder(folder_ / "out", 0700)); }
    void SetUp() override { daemon(); }
    std::vector<std::string> written() { return list_folder(folder_ / "out").value(); }
    void expect_printed(const std::string& golden, const std::vector<std::string>& words) {
        const Outcome outcome = run(words);
        std::string text = outcome.out;
        if (!outcome.err.empty()) text += "--- standard error\n" + outcome.err;
        text += "--- exit status " + std::to_string(outcome.status) + "\n";
        for (std::size_t at = 0; (at = text.find(folder_.path())) != text.npos;)
            text.replace(at, folder_.path().size(), "FOLDER");
        expect_golden(golden, text);
    }
};

struct Print {
    std::string golden;
    std::vector<std::string> words;
};
class CatalogGoldenTest : public CatalogCommandsTest, public testing::WithParamInterface<Print> {};

TEST_P(CatalogGoldenTest, PrintsWhatItAlwaysDid) {
    expect_printed("banger_" + GetParam().golden + ".txt", GetParam().words);
}

INSTANTIATE_TEST_SUITE_P(
    Commands, CatalogGoldenTest,
    testing::Values(Print{"catalog", {"catalog"}}, Print{"catalog_list", {"catalog", "list"}},
                    Print{"catalog_list_json", {"catalog", "list", "--format", "json"}},
                    Print{"catalog_add_help", {"catalog", "add", "--help"}},
                    Print{"catalog_update_help", {"catalog", "update", "--help"}},
                    Print{"catalog_sign_help", {"catalog", "sign", "--help"}},
                    Print{"catalog_keygen_help", {"catalog", "keygen", "--help"}},
                    Print{"image_publish_help", {"image", "publish", "--help"}},
                    Print{"image_publish_nothing", {"image", "publish"}},
                    Print{"kernel_publish_help", {"kernel", "publish", "--help"}}),
    [](const testing::TestParamInfo<Print>& each) { return each.param.golden; });

TEST_F(CatalogCommandsTest, AFolderGetsAFileNamedByItsContent) {
    const Outcome outcome = run({"image", "publish", "debian-bookworm", "-o", folder_ / "out"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const std::string file = "debian-bookworm-0123456789ab.tar.zst";
    EXPECT_THAT(written(), testing::ElementsAre(file));
    EXPECT_EQ(read("out/" + file), "bundle of debian-bookworm");
    EXPECT_THAT(outcome.out, HasSubstr("url: " + file));
    EXPECT_THAT(outcome.err, HasSubstr("wrote " + folder_.path() + "/out/" + file));
    EXPECT_FALSE(path_exists(socket_ + ".bundle"));
    // The same name is the same content, but whether that is meant only its owner knows.
    EXPECT_EQ(run({"image", "publish", "debian-bookworm", "-o", folder_ / "out"}).status, 1);
}

TEST_F(CatalogCommandsTest, AFileIsReplacedOnlyOnRequest) {
    const std::string file = folder_ / "out/mine.tar.zst";
    ASSERT_EQ(run({"image", "publish", "x", "-o", file}).status, 0);
    EXPECT_EQ(read("out/mine.tar.zst"), "bundle of x");
    const std::size_t calls = daemon().calls().size();
    const Outcome refused = run({"image", "publish", "y", "-o", file});
    EXPECT_EQ(refused.status, 1);
    EXPECT_THAT(refused.err, HasSubstr("--force"));
    EXPECT_EQ(daemon().calls().size(), calls) << "told before the work";
    EXPECT_EQ(read("out/mine.tar.zst"), "bundle of x");
    const Outcome forced = run({"image", "publish", "y", "-o", file, "--force", "-q"});
    EXPECT_EQ(forced.status, 0) << forced.err;
    EXPECT_EQ(forced.out, file + "\n");
    EXPECT_EQ(read("out/mine.tar.zst"), "bundle of y");
    EXPECT_THAT(run({"image", "publish", "x", "-o", folder_ / "gone/x"}).err,
                HasSubstr("there is no folder"));
    // Others may read it, as far as the umask lets them: it is made to be handed on.
    struct stat status {};
    ASSERT_EQ(::stat(file.c_str(), &status), 0);
    EXPECT_NE(status.st_mode & 0400, 0u);
    EXPECT_EQ(status.st_mode & 0111, 0u);
}

TEST_F(CatalogCommandsTest, AnotherFileSystemGetsACopy) {
    struct stat here {};
    struct stat there {};
    if (::stat("/dev/shm", &there) != 0 || ::stat(folder_.path().c_str(), &here) != 0 ||
        here.st_dev == there.st_dev)
        GTEST_SKIP() << "needs /dev/shm on another file system";
    std::string folder = "/dev/shm/banger-test-XXXXXX";
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    const Outcome outcome = run({"kernel", "publish", "x", "-o", folder + "/k"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(read_file(folder + "/k", ByteCount::kib(1)).value_or(""), "bundle of x");
    EXPECT_EQ(run({"kernel", "publish", "x", "-o", folder + "/k"}).status, 1);
    EXPECT_EQ(run({"kernel", "publish", "y", "-o", folder + "/k", "--force"}).status, 0);
    EXPECT_EQ(list_folder(folder)->size(), 1u);
    EXPECT_FALSE(path_exists(socket_ + ".bundle"));
    EXPECT_TRUE(remove_tree(folder));
}

TEST_F(CatalogCommandsTest, AMachineComesWithAWarning) {
    const Outcome outcome =
        run({"image", "publish", "--vm", "sandbox", "--name", "team", "-o", folder_ / "out"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_THAT(outcome.err, HasSubstr("look for secrets"));
    EXPECT_THAT(written(), Contains(StartsWith("team-")));
    EXPECT_EQ(run({"image", "publish", "--vm", "sandbox", "x"}).status, 2);
}

TEST_F(CatalogCommandsTest, AnInterruptLeavesNothing) {
    daemon().hold("Publish");
    Running running = start({"image", "publish", "x", "-o", folder_ / "out"});
    daemon().wait_for_call("Publish");
    running.signal(SIGINT);
    const Outcome outcome = running.wait();
    EXPECT_EQ(outcome.status, 130);
    EXPECT_THAT(outcome.err, HasSubstr("nothing is left"));
    EXPECT_THAT(written(), IsEmpty());
    daemon().wait_for_cancelled(1);
}

TEST_F(CatalogCommandsTest, AKeyIsAskedAboutOnlyWhereSomebodyIs) {
    const std::string place = "https://images.example/catalog.yaml";
    const Outcome alone = run({"catalog", "add", place});
    EXPECT_EQ(alone.status, 1);
    EXPECT_THAT(alone.err, HasSubstr("--key ed25519:AAAA"));
    EXPECT_THAT(daemon().calls(), Not(Contains(HasSubstr(" key"))));

    const Outcome no = run_at_terminal({"catalog", "add", place}, "n\n");
    EXPECT_NE(no.status, 0);
    EXPECT_THAT(daemon().calls(), Not(Contains(HasSubstr(" key"))));

    const Outcome yes = run_at_terminal({"catalog", "add", place}, "y\n");
    EXPECT_EQ(yes.status, 0) << yes.err;
    EXPECT_THAT(daemon().calls(), Contains("AddCatalog " + place + " key"));
    EXPECT_EQ(run({"catalog", "add", place, "--key", "ed25519:AAAA"}).out, "team\n");
    EXPECT_THAT(run({"catalog", "add", place, "--key", "/gone"}).err, HasSubstr("ed25519:"));
}

TEST_F(CatalogCommandsTest, AFolderIsNamedByItsWholePath) {
    EXPECT_EQ(run({"catalog", "add", folder_ / "out/../out", "--name", "usb"}).out, "usb\n");
    EXPECT_EQ(run({"catalog", "add", "no-such-folder"}).status, 1);
}

TEST_F(CatalogCommandsTest, SeveralAreDoneAtOnce) {
    const Outcome update = run({"catalog", "update"});
    EXPECT_EQ(update.status, 0);
    EXPECT_EQ(update.out, "team: now 2 images, 1 kernel\nusb: nothing new\n");
    daemon().fail("UpdateCatalog", "team", Error(Errc::permission_denied, "older", "Ask."));
    const Outcome failed = run({"catalog", "update", "team", "usb"});
    EXPECT_EQ(failed.status, 1);
    EXPECT_THAT(failed.out, HasSubstr("usb: nothing new"));
    EXPECT_EQ(run({"catalog", "remove", "team", "usb"}).out, "removed team\nremoved usb\n");
}

TEST_F(CatalogCommandsTest, AKeyIsNeverReplaced) {
    const std::string file = folder_ / "out/key.pem";
    const Outcome made = run({"catalog", "keygen", file});
    EXPECT_EQ(made.status, 0) << made.err;
    EXPECT_EQ(made.out, "ed25519:AAAA\n");
    struct stat status {};
    ASSERT_EQ(::stat(file.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    EXPECT_EQ(read("out/key.pem.pub"), "public\n");
    EXPECT_EQ(run({"catalog", "keygen", file}).status, 1);
    // Its other half is there: then neither is made.
    ASSERT_TRUE(remove_file(file));
    EXPECT_EQ(run({"catalog", "keygen", file}).status, 1);
    EXPECT_FALSE(path_exists(file));
}

TEST_F(CatalogCommandsTest, SigningWritesTheSignatureBesideIt) {
    std::ofstream(folder_ / "out/catalog.yaml") << "version: 1\n";
    std::ofstream(folder_ / "out/key.pem") << "private\n";
    EXPECT_EQ(run({"catalog", "sign", folder_ / "out/catalog.yaml"}).status, 2);
    const Outcome outcome =
        run({"catalog", "sign", folder_ / "out/catalog.yaml", "--key", folder_ / "out/key.pem"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(read("out/catalog.yaml.sig"), "signature\n");
}

}  // namespace
}  // namespace banger::cli

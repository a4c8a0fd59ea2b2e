#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "cli_fixture.hpp"
#include "core/base/file.hpp"

/// `vm cp` with an ssh that runs the guest's part right here: its /root is FOLDER/home.
namespace banger::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class CopyTest : public CliTest {
protected:
    void SetUp() override {
        daemon().add(sample_vm("sandbox"));
        fs::create_directories(folder_ / "host");
        host_ = folder_ / "host/";
        guest_ = folder_ / "home/";
    }
    static void put(const std::string& path, const std::string& text) {
        fs::create_directories(fs::path(path).parent_path());
        std::ofstream(path) << text;
    }
    static std::string get(const std::string& path) {
        return read_file(path, ByteCount::mib(1)).value_or("(missing)");
    }
    void expect_done(const Outcome& outcome) {
        EXPECT_EQ(outcome.status, 0);
        EXPECT_EQ(outcome.err, "");
    }
    std::string host_;
    std::string guest_;
};

TEST_F(CopyTest, AFileIntoTheGuestUnderEitherName) {
    put(host_ + "it's a file", "one");
    expect_done(run({"vm", "cp", host_ + "it's a file", "sandbox:"}));
    EXPECT_EQ(get(guest_ + "it's a file"), "one");
    expect_done(run({"vm", "cp", host_ + "it's a file", "sandbox:$(other) name"}));
    EXPECT_EQ(get(guest_ + "$(other) name"), "one");
    put(host_ + "it's a file", "two");
    expect_done(run({"vm", "cp", host_ + "it's a file", "sandbox:$(other) name"}));
    EXPECT_EQ(get(guest_ + "$(other) name"), "two");
    EXPECT_EQ(std::distance(fs::directory_iterator(guest_), {}), 2) << "nothing else is left";
}

TEST_F(CopyTest, AFolderIntoTheGuestAsCpDoesIt) {
    put(host_ + "tree/sub/file", "deep");
    ::chmod((host_ + "tree/sub/file").c_str(), 0750);
    fs::create_symlink("sub/file", host_ + "tree/link");
    expect_done(run({"vm", "cp", host_ + "tree", "sandbox:new"}));
    EXPECT_EQ(get(guest_ + "new/sub/file"), "deep");
    EXPECT_EQ(fs::read_symlink(guest_ + "new/link"), "sub/file");
    expect_done(run({"vm", "cp", host_ + "tree/", "sandbox:new"}));
    EXPECT_EQ(get(guest_ + "new/tree/sub/file"), "deep");
    expect_done(run({"vm", "cp", host_ + "tree/.", "sandbox:content"}));
    EXPECT_EQ(get(guest_ + "content/sub/file"), "deep");
    struct stat status {};
    ASSERT_EQ(::stat((guest_ + "content/sub/file").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0750u);
    put(host_ + "more", "more");
    expect_done(run({"vm", "cp", host_ + "tree", host_ + "more", "sandbox:content"}));
    EXPECT_EQ(get(guest_ + "content/tree/sub/file"), "deep");
    EXPECT_EQ(get(guest_ + "content/more"), "more");
    EXPECT_EQ(run({"vm", "cp", host_ + "tree", host_ + "more", "sandbox:none"}).status, 1);
    EXPECT_EQ(run({"vm", "cp", host_ + "tree", "sandbox:none/"}).status, 1);
    EXPECT_FALSE(fs::exists(guest_ + "none"));
}

TEST_F(CopyTest, OutOfTheGuestAsCpDoesIt) {
    put(guest_ + "tree/sub/a file", "deep");
    put(guest_ + "-n", "dash");
    expect_done(run({"vm", "cp", "sandbox:tree/sub/a file", host_ + "named"}));
    EXPECT_EQ(get(host_ + "named"), "deep");
    expect_done(run({"vm", "cp", "sandbox:tree", host_}));
    EXPECT_EQ(get(host_ + "tree/sub/a file"), "deep");
    expect_done(run({"vm", "cp", "sandbox:~/tree/", host_ + "renamed"}));
    EXPECT_EQ(get(host_ + "renamed/sub/a file"), "deep");
    expect_done(run({"vm", "cp", "sandbox:tree/.", host_ + "content"}));
    EXPECT_EQ(get(host_ + "content/sub/a file"), "deep");
    expect_done(run({"vm", "cp", "sandbox:-n", "sandbox:" + guest_ + "tree/sub", host_}));
    EXPECT_EQ(get(host_ + "-n"), "dash");
    EXPECT_EQ(get(host_ + "sub/a file"), "deep");
    EXPECT_EQ(run({"vm", "cp", "sandbox:-n", "sandbox:tree", host_ + "none"}).status, 1);
    EXPECT_EQ(run({"vm", "cp", "sandbox:-n", host_ + "none/"}).status, 1);
    EXPECT_FALSE(fs::exists(host_ + "none"));
}

TEST_F(CopyTest, WhatIsNotThereIsSaidAndTheOthersAreCopied) {
    put(guest_ + "good", "good");
    const Outcome outcome = run({"vm", "cp", "sandbox:missing", "sandbox:good", host_});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.err, HasSubstr("there is no missing"));
    EXPECT_EQ(get(host_ + "good"), "good");
    EXPECT_EQ(run({"vm", "cp", host_ + "nothing", "sandbox:"}).status, 1);
    EXPECT_EQ(run({"vm", "cp", "sandbox:..", host_}).status, 1);
    EXPECT_EQ(run({"vm", "cp", "nobody:good", host_}).status, 1);
}

TEST_F(CopyTest, AsAStream) {
    put(guest_ + "tree/file", "stream");
    const Outcome out = run({"vm", "cp", "sandbox:tree", "-"});
    expect_done(out);
    EXPECT_THAT(out.out, HasSubstr("ustar"));
    fs::create_directory(guest_ + "into");
    expect_done(run({"vm", "cp", "-", "sandbox:into"}, out.out));
    EXPECT_EQ(get(guest_ + "into/tree/file"), "stream");
}

TEST_F(CopyTest, AGuestThatLiesGetsNothingWritten) {
    // The guest's tar sends what this one packs: a name that nobody asked for.
    put(folder_ / "evil/elsewhere", "evil");
    put(folder_ / "bin/tar",
        "#!/bin/sh\nexec /bin/tar -C " + (folder_ / "evil") + " -cf - elsewhere\n");
    ::chmod((folder_ / "bin/tar").c_str(), 0755);
    put(guest_ + "asked", "good");
    const Outcome outcome = run({"vm", "cp", "sandbox:asked", host_});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.err, HasSubstr("which was not asked for"));
    EXPECT_TRUE(fs::is_empty(host_));

    put(folder_ / "bin/tar", "#!/bin/sh\nprintf '\\033[31mred\\n' >&2; exit 3\n");
    const Outcome failed = run({"vm", "cp", "sandbox:asked", host_});
    EXPECT_EQ(failed.status, 1);
    EXPECT_THAT(failed.err, HasSubstr("?[31mred"));
    EXPECT_TRUE(fs::is_empty(host_));
}

TEST_F(CopyTest, LinksThatLeadOutAreLeftOutAndSaid) {
    put(guest_ + "tree/file", "x");
    fs::create_symlink("/etc/passwd", guest_ + "tree/link");
    const Outcome outcome = run({"vm", "cp", "sandbox:tree", host_});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.err, HasSubstr("tree/link is left out"));
    EXPECT_EQ(get(host_ + "tree/file"), "x");
}

}  // namespace
}  // namespace banger::cli

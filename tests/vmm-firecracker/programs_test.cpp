#include "plugins/vmm-firecracker/programs.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "banger/contract/subject.hpp"
#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::firecracker {
namespace {

using contract::failed_with;
using contract::succeeded;
using testing::HasSubstr;

TEST(FirecrackerVersion, IsReadFromTheFirstLine) {
    EXPECT_EQ(parse_version("Firecracker v1.12.0\n\nmore"), (Version{1, 12}));
    EXPECT_EQ(parse_version("Jailer v1.17.0-dev\n"), (Version{1, 17}));
    for (const char* text :
         {"", "Firecracker", "Firecracker 1.12.0", "Firecracker v", "x v1", "x v1.", "x v1.2",
          "x v.2.3", "x v-1.2.3", "x\nFirecracker v1.12.0", "x v99999999999.1.0"})
        EXPECT_FALSE(parse_version(text)) << text;
    EXPECT_LT((Version{1, 9}), (Version{1, 12}));
}

class FirecrackerPrograms : public testing::Test {
protected:
    void SetUp() override {
        write("firecracker", "Firecracker v1.12.1");
        settings_["firecracker_bin"] = folder_ / "firecracker";
        settings_["jailer_bin"] = std::string();
    }
    void write(const std::string& name, const std::string& version) {
        ASSERT_TRUE(write_file_atomic(
            folder_ / name,
            "#!/bin/sh\necho run >>" + (folder_ / "runs") + "\necho " + version + "\n", 0700));
    }
    std::size_t runs() {
        const Result<std::string> text = read_file(folder_ / "runs", ByteCount::kib(4));
        return text ? text->size() / 4 : 0;
    }
    Result<Programs> find() { return finder_.find(settings_, {}); }

    TempFolder folder_;
    Settings settings_;
    ProgramFinder finder_{::geteuid()};
};

TEST_F(FirecrackerPrograms, AreAskedOnceForEachFile) {
    ASSERT_TRUE(succeeded(find()));
    const Result<Programs> programs = find();
    ASSERT_TRUE(succeeded(programs));
    EXPECT_EQ(programs->firecracker.version, (Version{1, 12}));
    EXPECT_EQ(programs->firecracker.name(), "firecracker");
    EXPECT_FALSE(programs->jailer);
    EXPECT_EQ(runs(), 1u);
    write("firecracker", "Firecracker v1.13.0");
    EXPECT_EQ(find()->firecracker.version, (Version{1, 13}));
    EXPECT_EQ(runs(), 2u);
}

TEST_F(FirecrackerPrograms, AJailerOfTheSameVersionIsUsed) {
    write("jailer", "Jailer v1.11.0");
    EXPECT_FALSE(find()->jailer);
    EXPECT_THAT(find()->why_no_jailer, HasSubstr("version 1.11"));
    write("jailer", "Jailer v1.12.0");
    EXPECT_TRUE(find()->jailer);
    settings_["jailer_bin"] = std::string("none");
    EXPECT_FALSE(find()->jailer);
}

TEST_F(FirecrackerPrograms, WhatOthersCouldChangeIsRefused) {
    ASSERT_EQ(::chmod((folder_ / "firecracker").c_str(), 0722), 0);
    Result<Programs> programs = find();
    EXPECT_TRUE(failed_with(programs, Errc::unavailable));
    EXPECT_THAT(programs.error().remedy, HasSubstr("chmod go-w"));
    ASSERT_EQ(::chmod((folder_ / "firecracker").c_str(), 0700), 0);
    ASSERT_EQ(::chmod(folder_.path().c_str(), 0777), 0);
    EXPECT_TRUE(failed_with(find(), Errc::unavailable));
    ASSERT_EQ(::chmod(folder_.path().c_str(), 0700), 0);
    EXPECT_TRUE(succeeded(find()));
    // A link is where it leads.
    ASSERT_EQ(::symlink("firecracker", (folder_ / "link").c_str()), 0);
    EXPECT_EQ(*trusted_program(folder_ / "link", ::geteuid()), folder_ / "firecracker");
    if (::geteuid() == 0) return;
    EXPECT_TRUE(failed_with(trusted_program(folder_ / "firecracker", 0), Errc::permission_denied));
}

TEST_F(FirecrackerPrograms, WhatIsMissingTooOldOrSaysNothingIsExplained) {
    for (const char* said : {"Firecracker v1.7.0", "something else", ""}) {
        write("firecracker", said);
        const Result<Programs> programs = find();
        EXPECT_TRUE(failed_with(programs, Errc::unavailable)) << said;
        EXPECT_TRUE(contract::has_remedy(programs)) << said;
    }
    write("other", "Firecracker v1.12.0");
    settings_["firecracker_bin"] = folder_ / "other";
    EXPECT_TRUE(failed_with(find(), Errc::unavailable)) << "jailer takes no such name";
    settings_["firecracker_bin"] = folder_ / "nothing";
    EXPECT_TRUE(failed_with(find(), Errc::unavailable));
    EXPECT_THAT(find().error().message, HasSubstr("does not exist"));
    settings_["firecracker_bin"] = folder_.path();
    EXPECT_TRUE(failed_with(find(), Errc::unavailable));
}

}  // namespace
}  // namespace banger::firecracker

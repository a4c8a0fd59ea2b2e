#include "plugins/image-debian/build_output.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace banger::image_debian {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Unit = Progress::Unit;

/// What the shown lines say in the end.
Progress last_progress(BuildOutput& output, std::string_view text) {
    Progress last;
    for (const char c : text)
        if (const std::optional<Progress> progress = output.add({&c, 1})) last = *progress;
    return last;
}

TEST(BuildOutput, FollowsABuildToItsEnd) {
    BuildOutput output;
    EXPECT_EQ(last_progress(output, "I: chroot architecture amd64 is fine\n"), Progress{});
    EXPECT_EQ(last_progress(output, "I: running apt-get update...\nGet:1 http://m x [151 kB]\n"),
              (Progress{"reading the list of packages", 0, 0, Unit::none}));
    EXPECT_EQ(last_progress(output,
                            "I: downloading packages with apt...\n"
                            "0 upgraded, 3 newly installed, 0 to remove.\n"
                            "Need to get 3000 kB of archives.\n"
                            "Get:1 http://m a amd64 1 [1000 kB]\n"
                            "Get:2 http://m b amd64 1 [500 kB]\n"
                            "Get:3 http://m c amd64 1 [1500 kB]\n"),
              (Progress{"downloading packages", 1500000, 3000000, Unit::bytes}));
    EXPECT_EQ(last_progress(output, "I: extracting archives...\n").stage,
              "unpacking the base system");
    EXPECT_EQ(last_progress(output,
                            "I: installing essential packages...\n"
                            "Unpacking a (1) ...\nSetting up a (1) ...\n"),
              (Progress{"installing the base system", 1, 3, Unit::items}));
    EXPECT_EQ(last_progress(output,
                            "I: installing remaining packages inside the chroot...\n"
                            "0 upgraded, 240 newly installed, 0 to remove.\n"
                            "Need to get 1 MB/9 MB of archives.\n"
                            "Get:1 http://m d amd64 1 [1000 kB]\n"),
              (Progress{"downloading packages", 0, 1000000, Unit::bytes}));
    std::string lines;
    for (int i = 0; i < 240; ++i)
        lines += "Unpacking p (1) ...\n";
    EXPECT_EQ(last_progress(output, lines),
              (Progress{"installing packages", 120, 240, Unit::items}));
    EXPECT_EQ(last_progress(output, "I: running --customize-hook in shell: sh -c 'x\n").stage,
              "setting the image up");
    EXPECT_EQ(last_progress(output, "I: creating tarball...\n").stage, "writing the file system");
}

TEST(BuildOutput, FollowsAKernel) {
    BuildOutput output;
    EXPECT_EQ(last_progress(output, "I: running --setup-hook in shell: sh -c 'mkdir'\n").stage,
              "reading the list of packages");
    EXPECT_EQ(last_progress(output,
                            "I: running --extract-hook in shell: sh -c 'x\n"
                            "Get:1 http://m linux-image-6.1.0-1 amd64 6.1 [26.7 MB]\n"),
              (Progress{"downloading packages", 0, 26700000, Unit::bytes}));
}

TEST(BuildOutput, NeverPromisesMoreThanAll) {
    BuildOutput output;
    output.add("I: installing remaining packages\n0 upgraded, 1 newly installed\n");
    for (int i = 0; i < 10; ++i)
        EXPECT_LE(output.add("Setting up p (1) ...\n")->done, 1u);
}

TEST(BuildOutput, HostileLinesAreOnlyText) {
    BuildOutput output;
    output.add("I: downloading packages\n");
    output.add(std::string(1 << 20, 'x'));
    output.add(
        "\nGet:1 [99999999999999999999 GB]\nGet:2 [\nGet:3 ]\n newly installed\n"
        "99999999999999999999999 newly installed\nNeed to get -1 B of archives\n");
    const Error error = output.explain({1, 0});
    EXPECT_LT(error.message.size(), 4000u);
    output.add("E: \x1b[2Jboo\n");
    EXPECT_THAT(output.explain({1, 0}).message, Not(HasSubstr("\x1b")));
}

TEST(AptSize, ReadsWhatAptWrites) {
    EXPECT_EQ(parse_apt_size("37.6 kB"), 37600u);
    EXPECT_EQ(parse_apt_size("9900 B"), 9900u);
    EXPECT_EQ(parse_apt_size("29.7 MB"), 29700000u);
    EXPECT_EQ(parse_apt_size("1.5 GB"), 1500000000u);
    for (const char* bad :
         {"", " ", "1", "1kB", "x kB", "1 TB", "-1 B", "1 kB ", "nan B", "inf MB"})
        EXPECT_EQ(parse_apt_size(bad), std::nullopt) << bad;
}

struct Symptom {
    const char* line;
    Errc code;
    const char* remedy;
};

class Explanation : public testing::TestWithParam<Symptom> {};

TEST_P(Explanation, HasTheCodeThatFitsAndARemedy) {
    BuildOutput output;
    output.add("I: running apt-get update...\nGet:1 http://m x [1 kB]\n");
    output.add(std::string(GetParam().line) + "\nE: setup failed: E: apt-get failed\n");
    const Error error = output.explain({25, 0});
    EXPECT_EQ(error.code, GetParam().code) << error.text();
    EXPECT_THAT(error.remedy, HasSubstr(GetParam().remedy));
    EXPECT_THAT(error.message, HasSubstr("setup failed"));
}

INSTANTIATE_TEST_SUITE_P(
    All, Explanation,
    testing::Values(
        Symptom{"Err:1 http://m.example bookworm InRelease\n  Could not resolve 'm.example'",
                Errc::unreachable, "network"},
        Symptom{"W: Failed to fetch http://m.example/x  Could not connect to m.example:80",
                Errc::unreachable, "network"},
        Symptom{"  Connection timed out [IP: 192.0.2.1 80]", Errc::unreachable, "network"},
        Symptom{"E: The repository 'http://m bookworm Release' does not have a Release file.",
                Errc::unreachable, "mirror"},
        Symptom{"dpkg: error processing archive x.deb: cannot copy: No space left on device",
                Errc::no_space, "work_folder"},
        Symptom{"E: You don't have enough free space in /var/tmp/x.", Errc::no_space,
                "work_folder"},
        Symptom{"newuidmap: write to uid_map failed: Operation not permitted", Errc::unavailable,
                "subuid"},
        Symptom{"E: unshare() failed: Operation not permitted", Errc::permission_denied,
                "namespaces"},
        Symptom{"W: GPG error: http://m bookworm InRelease: NO_PUBKEY 0123", Errc::unavailable,
                "debian-archive-keyring"},
        Symptom{"E: The repository 'http://m bookworm InRelease' is not signed.", Errc::corrupt,
                "mirror"},
        Symptom{"E: Failed to fetch http://m/x.deb  Hash Sum mismatch", Errc::corrupt, "Try again"},
        Symptom{"E: Unable to locate package nosuch", Errc::not_found, "mirror"},
        Symptom{"sh: 20: depmod: not found", Errc::unavailable, "kmod"},
        Symptom{"something that nobody has seen before", Errc::unavailable, "again"}));

TEST(BuildOutput, AFullDiskIsNotBlamedOnTheNetwork) {
    BuildOutput output;
    output.add(
        "W: Failed to fetch http://m/x  Could not connect\nE: write: No space left on device\n");
    EXPECT_EQ(output.explain({1, 0}).code, Errc::no_space);
}

TEST(BuildOutput, SilenceIsExplainedByTheStatus) {
    const Error error = BuildOutput().explain({0, 9});
    EXPECT_THAT(error.message, HasSubstr("killed by signal 9"));
    EXPECT_THAT(error.remedy, Not(IsEmpty()));
}

TEST(BuildOutput, BlamesPackagesOnlyWhenTheyAreBad) {
    BuildOutput output;
    output.add("E: Could not resolve 'm'\n");
    EXPECT_FALSE(output.blames_packages());
    output.add("dpkg-deb: error: archive 'x.deb' has premature member\n");
    EXPECT_TRUE(output.blames_packages());
}

}  // namespace
}  // namespace banger::image_debian

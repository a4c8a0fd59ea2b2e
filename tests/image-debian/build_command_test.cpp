#include "plugins/image-debian/build_command.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "core/base/file.hpp"
#include "plugins/image-debian/user_unit.hpp"

namespace banger::image_debian {
namespace {

using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const Recipe& recipe(ArtifactKind kind, std::string_view reference) {
    return **find_recipe(kind, reference);
}

Command command_for(const Recipe& which, const Options& options = {}) {
    return build_command(which, "/usr/bin/mmdebstrap", options,
                         {"/var/tmp/banger-debian-x", "/cache/in", "/cache/out"});
}

/// One argument a line; scripts are shown by their first line, because they have a life of their
/// own.
std::string shown(const Command& command) {
    std::string out;
    for (const std::string& argument : command.arguments) {
        const bool is_script = argument.find('\n') != argument.npos;
        out += argument.substr(0, argument.find('\n')) + (is_script ? " […]\n" : "\n");
    }
    return out;
}

/// Regenerate with BANGER_GOLDEN=1; the test then skips, so that nobody takes it for passed.
void expect_golden(const std::string& name, const std::string& text) {
    const std::string path = std::string(IMAGE_DEBIAN_TEST_DATA) + "/" + name;
    if (std::getenv("BANGER_GOLDEN")) {
        ASSERT_TRUE(write_file_atomic(path, text, 0644));
        GTEST_SKIP() << "wrote " << path;
    }
    EXPECT_EQ(read_file(path, ByteCount::mib(1)).value(), text) << path;
}

TEST(BuildCommand, OfTheSlimImage) {
    expect_golden("slim.argv",
                  shown(command_for(recipe(ArtifactKind::image, "debian:bookworm-slim"))));
}

TEST(BuildCommand, OfTheKernel) {
    expect_golden("kernel.argv",
                  shown(command_for(recipe(ArtifactKind::kernel, "debian-kernel:bookworm-cloud"))));
}

TEST(BuildCommand, HasAnEnvironmentOfItsOwn) {
    const Command command =
        command_for(recipe(ArtifactKind::kernel, "debian-kernel:bookworm-cloud"));
    EXPECT_EQ(command.environment.at("TMPDIR"), "/var/tmp/banger-debian-x");
    EXPECT_EQ(command.environment.at("LC_ALL"), "C.UTF-8");
    EXPECT_EQ(command.environment.at("BANGER_KERNEL"), "linux-image-cloud-amd64");
    EXPECT_TRUE(command.new_session);
}

TEST(BuildCommand, NamesNoMirrorUnlessOneIsSet) {
    for (const Recipe& each : recipes()) {
        EXPECT_THAT(command_for(each).arguments, Each(Not(HasSubstr("://")))) << each.reference;
        EXPECT_EQ(command_for(each).arguments.back(), "-");
        EXPECT_EQ(command_for(each).arguments.end()[-2], "bookworm");
    }
}

TEST(BuildCommand, AMirrorKeepsTheListOfSuites) {
    Options options;
    options.mirror = "https://mirror.example/debian";
    const Recipe& slim = recipe(ArtifactKind::image, "debian:bookworm-slim");
    std::vector<std::string> arguments = command_for(slim, options).arguments;
    EXPECT_THAT(arguments, Contains(HasSubstr("(bookworm|bookworm-updates) #\\1 "
                                              "https://mirror.example/debian \\3 #")));
    EXPECT_THAT(arguments, Not(Contains(HasSubstr("bookworm-security"))));
    // The hooks of that folder fetch the lists.
    const auto first = [&](std::string_view words) {
        return std::ranges::find_if(
            arguments, [&](const std::string& each) { return each.find(words) != each.npos; });
    };
    EXPECT_LT(first("https://mirror.example/"), first("--hook-dir="));
    options.security_mirror = "https://mirror.example/security";
    arguments = command_for(slim, options).arguments;
    EXPECT_THAT(arguments, Contains(HasSubstr("(bookworm-security) #\\1 "
                                              "https://mirror.example/security \\3 #")));
}

TEST(BuildCommand, TheMirrorHookRewritesTheListOfApt) {
    char folder[] = "/tmp/banger-test-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    const std::string root = folder;
    ASSERT_TRUE(ensure_folder(root + "/etc/apt", 0755));
    ASSERT_TRUE(write_file_atomic(root + "/etc/apt/sources.list",
                                  "deb http://a.example/debian bookworm main\n"
                                  "deb [signed-by=\"/k.gpg\"] http://a.example/debian "
                                  "bookworm-updates main\n"
                                  "deb http://s.example/sec bookworm-security main\n",
                                  0644));
    Options options;
    options.mirror = "https://m.example/d";
    for (const std::string& argument :
         command_for(recipe(ArtifactKind::image, "debian:bookworm-slim"), options).arguments) {
        constexpr std::string_view hook = "--setup-hook=sed ";
        if (!argument.starts_with(hook)) continue;
        Command shell;
        shell.program = "/bin/sh";
        shell.arguments = {"-c", argument.substr(13), "exec", root};
        shell.environment = minimal_environment();
        const Result<CommandOutput> ran =
            run_command(shell, std::chrono::seconds(30), ByteCount::kib(4), {});
        ASSERT_TRUE(ran && ran->status.is_success()) << ran->standard_error;
    }
    EXPECT_EQ(read_file(root + "/etc/apt/sources.list", ByteCount::kib(4)).value(),
              "deb https://m.example/d bookworm main\n"
              "deb [signed-by=\"/k.gpg\"] https://m.example/d bookworm-updates main\n"
              "deb http://s.example/sec bookworm-security main\n");
    EXPECT_TRUE(remove_tree(root));
}

TEST(BuildCommand, QuotesFoldersForTheHooks) {
    const Command command =
        build_command(recipe(ArtifactKind::image, "debian:bookworm-slim"), "/usr/bin/mmdebstrap",
                      {}, {"/var/tmp/x", "/home/o'neil/my cache/in", "/home/o'neil/my cache/out"});
    EXPECT_THAT(command.arguments, Contains("--setup-hook=sync-in '/home/o'\\''neil/my cache/in' "
                                            "/var/cache/apt/archives"));
}

TEST(BuildCommand, WithoutACacheCopiesNothing) {
    const Command command = build_command(recipe(ArtifactKind::image, "debian:bookworm-slim"),
                                          "/usr/bin/mmdebstrap", {}, {"/var/tmp/x", "", ""});
    EXPECT_THAT(command.arguments, Each(Not(HasSubstr("sync-"))));
}

Settings with(const std::string& key, const std::string& value) { return {{key, value}}; }

TEST(Options, AreCheckedBeforeTheyReachAShell) {
    EXPECT_EQ(read_options({}).value(), Options{});
    for (const char* good : {"http://m.example/debian", "https://m.example:8080/a_b/~c",
                             "file:///srv/mirror", "http://[::1]/debian"})
        EXPECT_TRUE(read_options(with("mirror", good))) << good;
    for (const char* bad : {"m.example", "https://", "ftp://m.example/", "http://m/a b",
                            "http://m/#x", "http://m/$(reboot)", "http://m/'x'", "http://m/\n",
                            "http://m/&", "-http://m/", "http://m/\\1"}) {
        EXPECT_EQ(read_options(with("mirror", bad)).error().code, Errc::invalid_argument) << bad;
        EXPECT_FALSE(read_options(with("security_mirror", bad))) << bad;
    }
    EXPECT_FALSE(read_options(with("work_folder", "tmp")));
}

TEST(UserUnit, IsTheSameCommandElsewhere) {
    Command command;
    command.program = "/usr/bin/mmdebstrap";
    command.arguments = {"--mode=unshare", "--setup-hook=echo \"$1\" ${HOME} $$"};
    command.environment = {{"TMPDIR", "/var/cache/banger-build/banger-debian-a1"}};
    command.standard_output = 7;
    command.standard_error = 8;
    const Command unit = as_user_unit(command, unit_of("/var/cache/banger-build/banger-debian-a1"));
    EXPECT_EQ(unit.program, "/usr/bin/systemd-run");
    EXPECT_EQ(unit.standard_output, 7);
    EXPECT_EQ(unit.standard_error, 8);
    EXPECT_THAT(unit.arguments, Contains("--unit=banger-build-a1"));
    EXPECT_THAT(unit.arguments, Contains("--pipe"));
    EXPECT_THAT(unit.arguments, Contains("--wait"));
    EXPECT_THAT(unit.arguments,
                Contains("--setenv=TMPDIR=/var/cache/banger-build/banger-debian-a1"));
    // The manager expands variables in a command line, and makes "$$" a dollar.
    EXPECT_EQ(unit.arguments.back(), "--setup-hook=echo \"$$1\" $${HOME} $$$$");
    EXPECT_EQ(unit.arguments.at(unit.arguments.size() - 4), "--");
    EXPECT_EQ(unit.environment.contains("TMPDIR"), false);
}

}  // namespace
}  // namespace banger::image_debian

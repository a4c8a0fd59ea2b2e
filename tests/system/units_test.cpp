#include "core/system/units.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/system/services.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::system {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

const Owner owner{"dev", 1234, 1235, "/home/dev"};

/// The units with their drop-ins, as an installation lays them out.
void lay_out(const std::string& folder) {
    for (const char* unit : unit_names) {
        ASSERT_TRUE(write_file_atomic(folder + "/" + unit, std::string(unit_text(unit)), 0644));
        const std::string drop_in = owner_drop_in(unit, owner, false);
        if (drop_in.empty()) continue;
        ASSERT_TRUE(ensure_folder(folder + "/" + unit + ".d", 0755));
        ASSERT_TRUE(write_file_atomic(folder + "/" + unit + ".d/owner.conf", drop_in, 0644));
    }
}

Result<CommandOutput> analyze(std::vector<std::string> arguments, const std::string& folder) {
    Command command;
    command.program = BANGER_TRY(find_program("systemd-analyze"));
    command.arguments = std::move(arguments);
    command.environment = {{"LC_ALL", "C"},
                           {"SYSTEMD_COLORS", "0"},
                           // Ours alone, before the host's own.
                           {"SYSTEMD_UNIT_PATH", folder + ":"}};
    return run_command(std::move(command), 60s, ByteCount::mib(1), {});
}

TEST(UnitsTest, AreThoseOfTheTree) {
    for (const char* unit : unit_names)
        EXPECT_EQ(read_file(std::string(BANGER_UNIT_FOLDER) + "/" + unit, ByteCount::mib(1))
                      .value_or("missing"),
                  unit_text(unit));
    EXPECT_EQ(unit_text("other.service"), "");
}

TEST(UnitsTest, TheOwnerIsANumber) {
    EXPECT_THAT(owner_drop_in("bangerd.service", owner, true),
                HasSubstr("\nUser=1234\nGroup=1235\n"));
    EXPECT_THAT(owner_drop_in("bangerd.service", owner, true),
                HasSubstr("\nSupplementaryGroups=kvm\n"));
    EXPECT_THAT(owner_drop_in("bangerd.service", owner, false), ::testing::Not(HasSubstr("kvm")));
    EXPECT_THAT(owner_drop_in("bangerd-root.socket", owner, true), HasSubstr("SocketUser=1234\n"));
    EXPECT_EQ(owner_drop_in("bangerd-root.service", owner, true), "");
    EXPECT_THAT(tmpfiles_text(owner), HasSubstr("d /run/banger 0700 1234 1235 -\n"));
    EXPECT_THAT(tmpfiles_text(owner), HasSubstr("d /run/banger-root 0711 root root -\n"));
}

TEST(UnitsTest, WhatOutlivesAServiceIsNeverEndedByIt) {
    for (const char* unit : {"bangerd.service", "bangerd-root.service"}) {
        EXPECT_THAT(unit_text(unit), HasSubstr("\nKillMode=process\n")) << unit;
        EXPECT_THAT(unit_text(unit), HasSubstr("\nRuntimeDirectoryPreserve=yes\n")) << unit;
        EXPECT_THAT(unit_text(unit), HasSubstr("\nWatchdogSec=")) << unit;
    }
    EXPECT_THAT(unit_text("bangerd-root.service"), HasSubstr("\nSendSIGKILL=no\n"));
    // The VMMs of the daemon before would be taken for dead (docs/decisions).
    EXPECT_THAT(unit_text("bangerd.service"), HasSubstr("\nPrivateUsers=no\n"));
    EXPECT_THAT(unit_text("bangerd.service"), HasSubstr("\nRemoveIPC=no\n"));
}

TEST(UnitsTest, StayBelowTheirExposure) {
    TempFolder folder;
    lay_out(folder.path());
    for (const auto& [unit, limit] :
         std::map<std::string, double>{{"bangerd.service", 2.0}, {"bangerd-root.service", 3.0}}) {
        const Result<CommandOutput> output =
            analyze({"security", "--offline=true", "--no-pager", folder / unit}, folder.path());
        if (!output) GTEST_SKIP() << "needs systemd-analyze: " << output.error().text();
        const std::optional<std::string> score = parse_security_score(output->standard_output);
        ASSERT_TRUE(score) << output->standard_error;
        EXPECT_LT(std::stod(*score), limit) << unit << "\n" << output->standard_output;
    }
}

TEST(UnitsTest, AreUnderstoodBySystemd) {
    TempFolder folder;
    lay_out(folder.path());
    for (const char* unit : unit_names) {
        const Result<CommandOutput> output =
            analyze({"verify", "--man=no", "--recursive-errors=no", folder / unit}, folder.path());
        if (!output) GTEST_SKIP() << "needs systemd-analyze: " << output.error().text();
        // A program that is not installed here is no mistake of the unit.
        std::string lines;
        for (std::size_t at = 0; at < output->standard_error.size();) {
            const std::size_t end = output->standard_error.find('\n', at);
            const std::string line = output->standard_error.substr(at, end - at);
            if (line.find(folder.path()) != std::string::npos &&
                line.find("is not executable") == std::string::npos)
                lines += line + "\n";
            at = end == std::string::npos ? output->standard_error.size() : end + 1;
        }
        EXPECT_EQ(lines, "") << unit;
    }
}

}  // namespace
}  // namespace banger::system

#include "core/system/services.hpp"

#include <gtest/gtest.h>

#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::system {
namespace {

TEST(ServicesTest, AUnitsStateIsRead) {
    const UnitState state =
        parse_unit_state("bangerd.service",
                         "MainPID=541\nNRestarts=2\nLoadState=loaded\nActiveState=active\n"
                         "SubState=running\nStatusText=3 machines run\n"
                         "ActiveEnterTimestamp=@1795472588\n");
    EXPECT_TRUE(state.is_running());
    EXPECT_EQ(state.pid, 541);
    EXPECT_EQ(state.since, 1795472588);
    EXPECT_EQ(state.restarts, 2u);
    EXPECT_EQ(state.status, "3 machines run");
    const UnitState none = parse_unit_state("x.service", "LoadState=not-found\nnonsense\n=\n");
    EXPECT_FALSE(none.is_running());
    EXPECT_EQ(none.load, "not-found");
    EXPECT_EQ(none.pid, 0);
}

TEST(ServicesTest, TheScoreIsTheLastLines) {
    EXPECT_EQ(parse_security_score("  NAME  DESCRIPTION\n\n\xe2\x86\x92 Overall exposure level for "
                                   "bangerd.service: 1.4 OK :-)\n"),
              "1.4");
    EXPECT_EQ(parse_security_score("Unit x.service not found.\n"), std::nullopt);
    EXPECT_EQ(parse_security_score(""), std::nullopt);
}

TEST(ServicesTest, NoShellAndNothingThatAUnitCouldSmuggle) {
    const Command command = systemctl_command("start", {"bangerd.service", "--now"});
    EXPECT_EQ(command.program, "/usr/bin/systemctl");
    EXPECT_EQ(command.arguments, (std::vector<std::string>{"--no-pager", "--quiet", "start", "--",
                                                           "bangerd.service", "--now"}));
}

TEST(ServicesTest, MachinesThatAreLeftAreEndedByTheirGroups) {
    TempFolder folder;
    const Layout layout = Layout::at(folder.path());
    const Owner owner{"dev", 1000, 1000, "/home/dev"};
    ASSERT_TRUE(end_leftover_processes(layout, owner)) << "no group is success";
    const std::string slice =
        folder / "sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/banger.slice";
    ASSERT_TRUE(ensure_folder(slice, 0755));
    ASSERT_TRUE(write_file_atomic(slice + "/cgroup.kill", "", 0644));
    ASSERT_TRUE(end_leftover_processes(layout, owner));
    EXPECT_EQ(read_file(slice + "/cgroup.kill", ByteCount::kib(1)).value_or(""), "1");
}

}  // namespace
}  // namespace banger::system

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "cli/man.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"

namespace banger::cli {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST(ManPages, OneForEveryCommandAndGroupWithEveryFlag) {
    const CommandTable table = all_commands();
    const std::vector<ManPage> pages = man_pages(table);
    EXPECT_EQ(pages.size(), 1 + table.groups.size() + table.commands.size());
    for (const CommandSpec& command : table.commands) {
        std::string name = "banger-" + command.full_name() + ".1";
        std::ranges::replace(name, ' ', '-');
        const auto page = std::ranges::find(pages, name, &ManPage::name);
        ASSERT_NE(page, pages.end()) << name;
        for (const Option& option : command.options) {
            std::string flag = option.names.substr(option.names.find("--"));
            for (std::size_t at = 0; (at = flag.find('-', at)) != flag.npos; at += 2)
                flag.insert(at, "\\");
            EXPECT_THAT(page->text, HasSubstr("\\fB" + flag)) << name;
        }
    }
}

/// The files that the build wrote, as `man` formats them: without a warning.
TEST(ManPages, ManHasNothingToComplainAbout) {
    const Result<std::string> man = find_program("man");
    if (!man) {
        const char* const required = std::getenv("BANGER_REQUIRE");
        if (required && std::string_view(required).find("shells") != std::string_view::npos)
            FAIL() << "man is not installed";
        GTEST_SKIP() << "man is not installed: sudo apt install man-db";
    }
    const std::string folder = BANGER_MAN_FOLDER;
    const std::vector<ManPage> pages = man_pages(all_commands());
    std::size_t count = 0;
    for (const ManPage& page : pages) {
        EXPECT_EQ(read_file(folder + "/" + page.name, ByteCount::mib(1)).value_or(""), page.text);
        Command command;
        command.program = *man;
        command.arguments = {"--warnings=w", "-E", "UTF-8", "-l", folder + "/" + page.name};
        command.environment = {{"PATH", "/usr/bin:/bin"},
                               {"LC_ALL", "C.UTF-8"},
                               {"MANWIDTH", "80"},
                               {"HOME", "/nonexistent"},
                               {"MANPAGER", "cat"}};
        const Result<CommandOutput> output = run_command(command, 60s, ByteCount::mib(4), {});
        ASSERT_TRUE(output) << output.error().text();
        EXPECT_EQ(output->status.code, 0);
        EXPECT_EQ(output->standard_error, "") << page.name;
        EXPECT_THAT(output->standard_output, HasSubstr("SYNOPSIS"));
        ++count;
    }
    EXPECT_EQ(count, pages.size());
}

}  // namespace
}  // namespace banger::cli

#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>

#include "cli/complete.hpp"
#include "cli/completion.hpp"

namespace banger::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::Not;

/// Names that are always the same, and what was asked for.
struct FakeNames {
    std::vector<std::string> asked;

    std::vector<Candidate> operator()(Living kind, const std::string& role) {
        switch (kind) {
            case Living::vms:
                asked.emplace_back("vms");
                return {{"sandbox", "running"}, {"web", "stopped"}};
            case Living::images:
                asked.emplace_back("images");
                return {{"debian-bookworm", ""}, {"debian-bookworm-slim", ""}};
            case Living::kernels:
                asked.emplace_back("kernels");
                return {{"debian-cloud", ""}};
            case Living::plugins:
                asked.push_back("plugins " + role);
                return {{"vmm-qemu", ""}, {"net-user", ""}};
            case Living::catalogs:
                asked.emplace_back("catalogs");
                return {{"team", "https://images.example/catalog.yaml"}, {"usb", ""}};
            case Living::image_references:
                asked.emplace_back("image references");
                return {{"alpine:3.20", ""}};
            case Living::kernel_references:
                asked.emplace_back("kernel references");
                return {{"debian-cloud", ""}};
        }
        return {};
    }
};

struct CompletionTest : testing::Test {
    FakeNames names;
    Candidates::Paths paths = Candidates::Paths::none;

    std::vector<std::string> words(const std::vector<std::string>& typed) {
        const Candidates found =
            complete(all_commands(), typed,
                     [&](Living kind, const std::string& role) { return names(kind, role); });
        paths = found.paths;
        std::vector<std::string> words;
        for (const Candidate& each : found.words)
            words.push_back(each.word);
        return words;
    }
};

TEST_F(CompletionTest, CommandsAndGroupsComeFromTheTable) {
    const CommandTable table = all_commands();
    const std::vector<std::string> first = words({""});
    EXPECT_THAT(first, IsSupersetOf({"vm", "image", "doctor", "ps", "completion"}));
    const auto is_outer = [](const Group& group) {
        return group.name.find(' ') == group.name.npos;
    };
    EXPECT_EQ(static_cast<std::ptrdiff_t>(first.size()),
              std::ranges::count_if(table.groups, is_outer) +
                  std::ranges::count(table.commands, "", &CommandSpec::group));
    EXPECT_THAT(words({"vm", "sto"}), ElementsAre("stop"));
    EXPECT_THAT(words({"vmm"}), IsEmpty());
    EXPECT_THAT(words({"nothing", ""}), IsEmpty());
    EXPECT_THAT(words({"--v"}), ElementsAre("--version"));
    EXPECT_THAT(words({}), IsEmpty());
    EXPECT_THAT(names.asked, IsEmpty());
}

TEST_F(CompletionTest, NamesOfMachinesOnlyWhereOneStandsAndEachOnce) {
    EXPECT_THAT(words({"vm", "show", ""}), ElementsAre("sandbox", "web"));
    EXPECT_THAT(words({"vm", "show", "w"}), ElementsAre("web"));
    EXPECT_THAT(words({"vm", "delete", "--force", "web", ""}), ElementsAre("sandbox"));
    EXPECT_THAT(words({"image", "show", "debian-bookworm-"}), ElementsAre("debian-bookworm-slim"));
    EXPECT_THAT(words({"image", "pull", ""}), ElementsAre("alpine:3.20"));
    EXPECT_THAT(words({"kernel", "pull", ""}), ElementsAre("debian-cloud"));
    EXPECT_THAT(words({"catalog", "remove", ""}), ElementsAre("team", "usb"));
    EXPECT_THAT(words({"catalog", "update", "team", ""}), ElementsAre("usb"));
    EXPECT_THAT(words({"image", "publish", "--vm", ""}), ElementsAre("sandbox", "web"));
    EXPECT_THAT(words({"kernel", "publish", ""}), ElementsAre("debian-cloud"));
    // One machine is enough for logs.
    EXPECT_THAT(words({"vm", "logs", "web", "s"}), IsEmpty());
    EXPECT_EQ(paths, Candidates::Paths::none);
}

TEST_F(CompletionTest, FlagsAreOfferedUntilTheyAreUsed) {
    EXPECT_THAT(words({"vm", "list", "--"}), ElementsAre("--format", "--quiet", "--help"));
    EXPECT_THAT(words({"vm", "list", "-q", "--"}), ElementsAre("--format", "--help"));
    EXPECT_THAT(words({"vm", "list", "-q"}), ElementsAre("-q"));
    EXPECT_THAT(words({"vm", "list", "--format", ""}), ElementsAre("table", "json"));
    EXPECT_THAT(words({"vm", "list", "--format=j"}), ElementsAre("--format=json"));
    EXPECT_THAT(words({"vm", "list", "--quiet=j"}), IsEmpty());
    EXPECT_THAT(words({"vm", "run", "--memory", ""}), IsEmpty());
    EXPECT_THAT(words({"vm", "run", "--image", "debian-bookworm-"}),
                ElementsAre("debian-bookworm-slim"));
    EXPECT_THAT(words({"vm", "run", "--backend=v"}), ElementsAre("--backend=vmm-qemu"));
    EXPECT_EQ(names.asked.back(), "plugins vm-backend");
    EXPECT_THAT(words({"completion", ""}), ElementsAre("bash", "zsh", "fish", "powershell"));
}

TEST_F(CompletionTest, AGroupInAGroupIsOfferedAndEntered) {
    CommandTable table;
    table.groups = {{"vm", "", "", {}}, {"vm workspace", "", "", {}}};
    CommandSpec command;
    command.group = "vm workspace";
    command.name = "prepare";
    command.words = {"VM PATH", 1, 2};
    table.commands = {command};
    const auto offered = [&](const std::vector<std::string>& typed) {
        const Candidates found =
            complete(table, typed, [](Living, const std::string&) -> std::vector<Candidate> {
                return {{"sandbox", ""}};
            });
        paths = found.paths;
        return found.words.empty() ? std::string() : found.words.front().word;
    };
    EXPECT_EQ(offered({""}), "vm");
    EXPECT_EQ(offered({"vm", "w"}), "workspace");
    EXPECT_EQ(offered({"vm", "workspace", ""}), "prepare");
    EXPECT_EQ(offered({"vm", "workspace", "prepare", ""}), "sandbox");
    EXPECT_EQ(offered({"vm", "workspace", "prepare", "sandbox", ""}), "");
    EXPECT_EQ(paths, Candidates::Paths::folders);
}

TEST_F(CompletionTest, AnEndOfACopyIsAFileOrAMachine) {
    CommandTable table;
    CommandSpec command;
    command.name = "cp";
    command.words = {"SRC... DST", 2, Words::many};
    table.commands = {command};
    const auto offered = [&](const std::string& typed) {
        const std::vector<std::string> words = {"cp", typed};
        const Candidates found = complete(
            table, words, [&](Living kind, const std::string& role) { return names(kind, role); });
        paths = found.paths;
        std::vector<std::string> all;
        for (const Candidate& each : found.words)
            all.push_back(each.word);
        return all;
    };
    EXPECT_THAT(offered(""), ElementsAre("sandbox:", "web:"));
    EXPECT_EQ(paths, Candidates::Paths::files);
    EXPECT_THAT(offered("w"), ElementsAre("web:"));
    EXPECT_THAT(offered("web:"), IsEmpty());
    EXPECT_EQ(paths, Candidates::Paths::none);
}

TEST_F(CompletionTest, WhatFollowsTheSeparatorIsTheGuests) {
    EXPECT_THAT(words({"vm", "ssh", "web", "--", ""}), IsEmpty());
    EXPECT_THAT(words({"vm", "ssh", "web", "--", "ls", "--"}), IsEmpty());
    EXPECT_THAT(words({"vm", "run", "--"}), testing::Contains("--"));
}

TEST_F(CompletionTest, EveryFlagAndWordOfTheTableCanBeCompleted) {
    // A new command takes part without anybody thinking of it.
    for (const CommandSpec& command : all_commands().commands) {
        std::vector<std::string> typed;
        std::istringstream name(command.full_name());
        for (std::string word; name >> word;)
            typed.push_back(word);
        typed.emplace_back("--");
        EXPECT_THAT(words(typed), testing::Contains("--help")) << command.full_name();
        for (const Option& option : command.options)
            EXPECT_THAT(words(typed),
                        testing::Contains(option.names.substr(option.names.find("--"))))
                << command.full_name();
    }
}

TEST(CompletionScripts, EachNamesHowItIsLoadedAndCallsTheHiddenCommand) {
    for (const std::string& shell : completion_shells()) {
        const std::string_view script = completion_script(shell);
        EXPECT_THAT(script, HasSubstr("banger completion " + shell));
        EXPECT_THAT(script, HasSubstr(" __complete -- "));
        EXPECT_TRUE(script.ends_with('\n'));
    }
}

/// There is no PowerShell in Debian: at least its brackets must match, outside of text.
TEST(CompletionScripts, ThePowerShellScriptIsBalanced) {
    std::string open;
    char text = '\0';
    const std::string_view script = completion_script("powershell");
    for (std::size_t at = 0; at < script.size(); ++at) {
        const char c = script[at];
        if (text == '\'' || text == '"') {
            if (c == '`') ++at;
            if (c == text) text = '\0';
        } else if (c == '#') {
            at = script.find('\n', at);
        } else if (c == '\'' || c == '"') {
            text = c;
        } else if (c == '(' || c == '{' || c == '[') {
            open += c;
        } else if (c == ')' || c == '}' || c == ']') {
            ASSERT_FALSE(open.empty()) << script.substr(0, at + 1);
            EXPECT_EQ(open.back(), c == ')' ? '(' : static_cast<char>(c - 2));
            open.pop_back();
        }
    }
    EXPECT_EQ(open, "");
    EXPECT_EQ(text, '\0');
    EXPECT_THAT(script, HasSubstr("Register-ArgumentCompleter -Native -CommandName banger"));
}

}  // namespace
}  // namespace banger::cli

// README.md and docs/*.md: every command is run, every message is one of ours.
//
//     ```sh          each line is run, by bash, in a scratch home, against the fake bangerd; what
//                    reaches another machine (ssh, curl, docker) does nothing and succeeds
//     ```sh guest    on a real guest, by tests/boot
//     ```sh lab      on a whole host, by the smoke suite of tests/lab, for which it has to have the
//                    section's heading in a call of documented()
//     ```sh sdk      with the packages alone, by tests/third-party
//     ```sh dev      is ./dev, which runs this
//
// A line is a command; one that ends with a backslash goes on.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <regex>
#include <set>
#include <sstream>

#include "cli/command.hpp"
#include "cli/parse.hpp"
#include "core/base/file.hpp"
#include "core/config/config.hpp"
#include "tests/cli/cli_fixture.hpp"
#include "tests/docs/blocks.hpp"

namespace banger::cli {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

const std::string source = BANGER_SOURCE;

using docs::all_blocks;
using docs::Block;
using docs::documents;
using docs::text_of;

/// The words of each simple command of a line: quotes are taken off, what a shell would expand
/// stays as it is written.
std::vector<std::vector<std::string>> commands_of(const std::string& line) {
    std::vector<std::vector<std::string>> commands(1);
    std::string word;
    bool has_word = false;
    char quote = '\0';
    const auto end_word = [&] {
        if (has_word) commands.back().push_back(word);
        word.clear();
        has_word = false;
    };
    for (std::size_t at = 0; at < line.size(); ++at) {
        const char c = line[at];
        if (quote != '\0') {
            if (c == quote)
                quote = '\0';
            else
                word += c;
        } else if (c == '\'' || c == '"') {
            quote = c;
            has_word = true;
        } else if (c == ' ') {
            end_word();
        } else if (c == '#' && !has_word) {
            break;
        } else if (c == '|' || c == ';' || c == '&' || c == '<' || c == '>' || c == '(' ||
                   c == ')') {
            end_word();
            // A redirection goes on with the same command; its file is a word that is dropped.
            if (c == '<' || c == '>') {
                while (at + 1 < line.size() && line[at + 1] == ' ')
                    ++at;
                if (at + 1 < line.size() && line[at + 1] == '(') continue;
                while (at + 1 < line.size() && line[at + 1] != ' ' && line[at + 1] != '|')
                    ++at;
            } else {
                commands.emplace_back();
            }
        } else {
            word += c;
            has_word = true;
        }
    }
    end_word();
    return commands;
}

/// The words after "banger", for each call of it in a line: also by sudo, or in $(…).
std::vector<std::vector<std::string>> calls_of(const std::string& line) {
    std::vector<std::vector<std::string>> calls;
    for (const std::vector<std::string>& words : commands_of(line)) {
        const auto is_banger = [](const std::string& word) {
            return word == "banger" || word.ends_with("/banger") || word == "$(banger";
        };
        const auto program = std::ranges::find_if(words, is_banger);
        if (program == words.end()) {
            // ./dev run vm run …
            if (words.size() > 1 && words[0] == "./dev" && words[1] == "run")
                calls.emplace_back(words.begin() + 2, words.end());
            continue;
        }
        if (program != words.begin() && words.front() != "sudo" && !program->starts_with("$(") &&
            words.front().find('=') == std::string::npos)
            continue;
        calls.emplace_back(program + 1, words.end());
    }
    return calls;
}

TEST(Docs, EveryCallIsAcceptedByTheParser) {
    const CommandTable table = all_commands();
    int count = 0;
    for (const Block& block : all_blocks(source))
        for (const std::string& line : block.lines)
            for (const std::vector<std::string>& words : calls_of(line)) {
                ++count;
                const Result<Destination> destination = find_destination(table, words);
                ASSERT_TRUE(destination)
                    << block.place << ": " << line << ": " << destination.error().text();
                if (!destination->command) continue;
                const Result<Arguments> arguments =
                    parse_arguments(*destination->command, destination->rest);
                EXPECT_TRUE(arguments)
                    << block.place << ": " << line << ": " << arguments.error().text();
            }
    EXPECT_GT(count, 30);
}

/// One block's world: a home with a repository, a daemon, an ssh that succeeds.
class Place : public CliTest {
public:
    explicit Place(const Block& block) {
        std::string all;
        for (const std::string& line : block.lines)
            all += line + "\n";
        for (const char* name : {"sandbox", "web"})
            if (all.find(std::string("--name ") + name) == all.npos) daemon().add(sample_vm(name));
        EXPECT_TRUE(write_file_atomic(folder_ / "bin/ssh",
                                      "#!/bin/sh\n"
                                      "for word; do case $word in LocalCommand=*)\n"
                                      "  sh -c \"${word#LocalCommand=}\" ;; esac; done\n"
                                      "[ -t 0 ] || cat >/dev/null\n",
                                      0700));
        for (const char* name : {"scp", "rsync", "curl", "docker"})
            EXPECT_TRUE(write_file_atomic(folder_ / "bin" + std::string("/") + name,
                                          "#!/bin/sh\nexit 0\n", 0700));
        environment_["PATH"] = folder_ / "bin" + ":" + parent_path(program_) + ":/usr/bin:/bin";
        const std::string project = folder_ / "home/project";
        EXPECT_TRUE(ensure_folder(project + "/build/dev", 0700));
        EXPECT_EQ(::symlink((BANGER_BUILD + std::string("/share")).c_str(),
                            (project + "/build/dev/share").c_str()),
                  0);
        // As the kernel's: what `make` makes of it.
        EXPECT_TRUE(ensure_folder(project + "/arch/x86/boot", 0700));
        EXPECT_TRUE(write_file_atomic(project + "/arch/x86/boot/bzImage", "kernel", 0600));
        EXPECT_TRUE(write_file_atomic(project + "/Makefile",
                                      "modules_install:\n"
                                      "\tmkdir -p $(INSTALL_MOD_PATH)/lib/modules/6.1.0\n"
                                      "kernelrelease:\n"
                                      "\t@echo 6.1.0\n",
                                      0600));
        if (all.find("banger vm run . ") == all.npos) return;
        const CommandOutput made = bash(
            "git init -q . && touch file && git add file && git -c user.name=x "
            "-c user.email=x@example.com commit -qm x");
        EXPECT_TRUE(made.status.is_success()) << made.standard_error;
    }

    void TestBody() override {}

    CommandOutput bash(const std::string& line) {
        Command command;
        command.program = "/bin/bash";
        command.arguments = {"-c", "set -o pipefail; cd ~/project && " + line + "\n"};
        command.environment = environment_;
        const Result<CommandOutput> output = run_command(command, 60s, ByteCount::mib(16), {});
        if (output) return *output;
        return {{255, 0}, {}, output.error().text()};
    }
};

TEST(Docs, EveryBlockRuns) {
    int ran = 0;
    std::set<std::string> kinds;
    for (const Block& block : all_blocks(source)) {
        kinds.insert(block.kind);
        ASSERT_FALSE(block.lines.empty()) << block.place << " is empty";
        if (block.kind != "sh") continue;
        Place place(block);
        for (const std::string& line : block.lines) {
            const CommandOutput output = place.bash(line);
            EXPECT_TRUE(output.status.is_success())
                << block.place << ": " << line << "\n"
                << output.standard_output << output.standard_error;
            ++ran;
        }
    }
    EXPECT_GT(ran, 15);
    for (const std::string& kind : kinds)
        EXPECT_THAT(kind, testing::AnyOf("sh", "sh guest", "sh lab", "sh sdk", "sh dev"));
}

/// Those who run what is not run here say where they look.
TEST(Docs, WhatIsRunElsewhereIsAskedForThere) {
    for (const Block& block : all_blocks(source)) {
        const std::string document = block.place.substr(0, block.place.find(':'));
        std::string asked;
        if (block.kind == "sh guest")
            asked = "run_blocks_of(\"" + document + "\"";
        else if (block.kind == "sh lab")
            asked = "documented(host, \"" + document + "\", \"" + block.section + "\"";
        else if (block.kind == "sh sdk")
            asked = "DOCS / \"" + document + "\"";
        for (const std::string& line : block.lines)
            EXPECT_TRUE(block.kind != "sh dev" || line.starts_with("./dev")) << block.place;
        const auto text = text_of(source + "/tests/boot/docs_boot_test.cpp") +
                          text_of(source + "/tests/lab/smoke.py") +
                          text_of(source + "/tests/third-party/sdk.py");
        EXPECT_THAT(text, testing::HasSubstr(asked)) << block.place;
    }
}

// ---- what the documents say about the program ----

std::string joined_sources() {
    static const std::string all = [] {
        std::string text;
        for (const char* folder : {"cli", "core", "daemons", "plugins", "plugin-api"})
            for (const fs::directory_entry& entry :
                 fs::recursive_directory_iterator(source + "/" + folder))
                if (entry.path().extension() == ".cpp" || entry.path().extension() == ".hpp")
                    text += text_of(entry.path());
        // Literals that go on in the next line are one text.
        std::string joined;
        for (std::size_t at = 0; at < text.size();) {
            if (text[at] == '"' && (at == 0 || text[at - 1] != '\\')) {
                std::size_t next = at + 1;
                while (next < text.size() && (text[next] == ' ' || text[next] == '\n'))
                    ++next;
                if (next > at + 1 && next < text.size() && text[next] == '"' &&
                    text.find('\n', at) < next) {
                    at = next + 1;
                    continue;
                }
            }
            joined += text[at++];
        }
        return joined;
    }();
    return all;
}

/// "there is no machine …" → what stands around the ellipses.
std::vector<std::string> fixed_parts(std::string message) {
    std::vector<std::string> parts;
    const std::string gap = "…";
    for (;;) {
        const std::size_t at = message.find(gap);
        std::string part = message.substr(0, at);
        while (part.starts_with(' '))
            part.erase(0, 1);
        while (part.ends_with(' '))
            part.pop_back();
        if (part.size() > 3) parts.push_back(part);
        if (at == message.npos) return parts;
        message.erase(0, at + gap.size());
    }
}

/// docs/troubleshooting.md has a heading a message: `…` stands for what differs.
TEST(Docs, EveryMessageInTroubleshootingIsOneOfOurs) {
    std::istringstream lines(text_of(source + "/docs/troubleshooting.md"));
    int count = 0;
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with("### `")) continue;
        const std::string message = line.substr(5, line.rfind('`') - 5);
        const std::vector<std::string> parts = fixed_parts(message);
        EXPECT_FALSE(parts.empty()) << line;
        for (const std::string& part : parts) {
            std::string in_source = part;
            for (std::size_t at = 0; (at = in_source.find('"', at)) != in_source.npos; at += 2)
                in_source.insert(at, "\\");
            EXPECT_TRUE(joined_sources().find(part) != std::string::npos ||
                        joined_sources().find(in_source) != std::string::npos)
                << "no source says: " << part;
        }
        ++count;
    }
    EXPECT_GT(count, 15);
}

TEST(Docs, EveryKeyOfTheConfigurationIsInConfigMd) {
    const Result<Config> config =
        parse_config({}, {.mode = RunMode::user, .home = "/home/x", .default_ssh_key = "/k"});
    ASSERT_TRUE(config);
    const std::string text = text_of(source + "/docs/config.md");
    for (const EffectiveValue& value : effective_values(*config)) {
        const std::string name = value.key.substr(value.key.rfind('.') + 1);
        EXPECT_THAT(text, testing::HasSubstr("`" + name + "`")) << value.key;
    }
    for (const char* other : {"[plugin.", "[[file_sync]]", "BANGER_LOG_LEVEL"})
        EXPECT_THAT(text, testing::HasSubstr(other));
}

/// The examples in docs/config.md are what the loader takes.
TEST(Docs, TheExamplesInConfigMdLoad) {
    std::istringstream lines(text_of(source + "/docs/config.md"));
    std::string example;
    bool is_inside = false;
    int count = 0;
    for (std::string line; std::getline(lines, line);) {
        if (line == "```toml") {
            is_inside = true;
            example.clear();
        } else if (line == "```" && is_inside) {
            is_inside = false;
            ++count;
            const Result<Config> config = parse_config(
                {{"docs/config.md", example}},
                {.mode = RunMode::system, .home = "/home/you", .default_ssh_key = "/k"});
            EXPECT_TRUE(config) << config.error().text() << "\n" << example;
        } else if (is_inside) {
            example += line + "\n";
        }
    }
    EXPECT_GT(count, 1);
}

TEST(Docs, EveryCommandThatPrintsJsonIsInJsonMd) {
    const std::string text = text_of(source + "/docs/json.md");
    for (const CommandSpec& command : all_commands().commands)
        for (const Option& option : command.options)
            if (option.names == "--format") {
                EXPECT_THAT(text, testing::HasSubstr("`" + command.full_name()))
                    << command.full_name();
            }
}

/// Every relative link leads to a file.
TEST(Docs, LinksLeadSomewhere) {
    const std::regex link(R"(\]\(([^)#:]+)(#[^)]*)?\))");
    for (const std::string& document : documents(source)) {
        const std::string text = text_of(source + "/" + document);
        for (std::sregex_iterator at(text.begin(), text.end(), link), end; at != end; ++at) {
            const std::string target = parent_path(source + "/" + document) + "/" + (*at)[1].str();
            EXPECT_TRUE(fs::exists(target)) << document << " links to " << (*at)[1].str();
        }
    }
}

}  // namespace
}  // namespace banger::cli

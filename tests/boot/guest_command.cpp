#include "tests/boot/guest_command.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>

#include "core/base/file.hpp"

namespace banger::boot {

using namespace std::chrono_literals;

std::string cache_folder() {
    if (const char* folder = std::getenv("BANGER_TEST_CACHE")) return folder;
    const char* home = std::getenv("HOME");
    return std::string(home ? home : "/root") + "/.cache/banger-test";
}

Command banger_command(std::vector<std::string> words) {
    Command command;
    command.program = std::string(BANGER_BIN) + "/banger";
    command.arguments = std::move(words);
    command.environment = minimal_environment();
    const std::string cache = cache_folder();
    command.environment["HOME"] = cache + "/home";
    command.environment["XDG_STATE_HOME"] = cache + "/state";
    command.environment["XDG_CACHE_HOME"] = cache + "/cache";
    command.environment["XDG_CONFIG_HOME"] = cache + "/config";
    command.environment["XDG_RUNTIME_DIR"] = cache + "/run";
    for (const char* folder : {"/home", "/state", "/cache", "/config", "/run"})
        EXPECT_TRUE(ensure_folder(cache + folder, 0700));
    return command;
}

CommandOutput run_banger(std::vector<std::string> words, std::chrono::seconds deadline) {
    const Command command = banger_command(std::move(words));
    Result<CommandOutput> output = run_command(command, deadline, ByteCount::mib(16), {});
    if (output) return std::move(*output);
    ADD_FAILURE() << command.text() << ": " << output.error().text();
    return {{255, 0}, {}, {}};
}

std::string output_of(std::vector<std::string> words) {
    CommandOutput output = run_banger(words);
    EXPECT_TRUE(output.status.is_success())
        << banger_command(words).text() << ": " << output.status.text() << "\n"
        << output.standard_error;
    if (output.standard_output.ends_with('\n')) output.standard_output.pop_back();
    return output.standard_output;
}

std::string slim_image() {
    static const std::string name = [] {
        const CommandOutput pulled =
            run_banger({"image", "pull", "debian-bookworm-slim"}, std::chrono::minutes(18));
        EXPECT_TRUE(pulled.status.is_success()) << pulled.standard_error;
        return std::string("debian-bookworm-slim");
    }();
    return name;
}

void delete_what_is_left(const std::function<Command(std::vector<std::string>)>& banger) {
    const auto output = [&](std::vector<std::string> words) {
        const Command command = banger(std::move(words));
        Result<CommandOutput> done = run_command(command, 60s, ByteCount::mib(1), {});
        EXPECT_TRUE(done && done->status.is_success()) << command.text();
        return done ? done->standard_output : std::string();
    };
    std::istringstream left(output({"vm", "list", "--quiet"}));
    for (std::string vm; left >> vm;)
        output({"vm", "delete", "--force", vm});
}

std::string reason_to_skip() {
    for (const char* program : {"qemu-system-x86_64", "mmdebstrap", "ssh"})
        if (!find_program(program)) return std::string(program) + " is not installed";
    return {};
}

std::string json_value(const std::string& json, const std::string& key) {
    const std::size_t at = json.find("\"" + key + "\"");
    if (at == json.npos) return {};
    std::size_t begin = json.find(':', at) + 1;
    while (begin < json.size() && (json[begin] == ' ' || json[begin] == '"'))
        ++begin;
    return json.substr(begin, json.find_first_of("\",}\n", begin) - begin);
}

}  // namespace banger::boot

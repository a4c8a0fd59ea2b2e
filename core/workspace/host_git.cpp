#include "core/workspace/host_git.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>

#include "core/base/file.hpp"

namespace banger::workspace {

namespace {

using namespace std::chrono_literals;

/// A file in memory: standard input that needs neither a thread nor a place on a disk.
Result<UniqueFd> memory_with(const std::string& bytes) {
    UniqueFd memory(::memfd_create("banger-input", MFD_CLOEXEC));
    if (!memory) return Error::from_errno(errno, "making a file in memory");
    BANGER_TRY(write_all(memory.get(), bytes));
    if (::lseek(memory.get(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "seeking");
    return memory;
}

Error failure(const CommandOutput& output, const std::string& what) {
    std::string said = output.standard_error;
    while (said.ends_with('\n'))
        said.pop_back();
    return {Errc::wrong_state, "git " + what + ": " + (said.empty() ? output.status.text() : said)};
}

}  // namespace

Result<HostGit> HostGit::find() {
    Result<std::string> program = find_program("git");
    if (program) return HostGit(std::move(*program));
    return Error(Errc::unavailable, "git is not on PATH", "Install it: sudo apt install git");
}

Command HostGit::command(const std::string& folder, std::vector<std::string> words) const {
    Command command;
    command.program = program_;
    command.environment = minimal_environment();  // nothing that begins with GIT_
    // Where the user's own settings and ignore patterns are.
    if (const char* config = std::getenv("XDG_CONFIG_HOME"))
        command.environment["XDG_CONFIG_HOME"] = config;
    command.environment["GIT_OPTIONAL_LOCKS"] = "0";
    command.environment["GIT_TERMINAL_PROMPT"] = "0";
    command.environment["GIT_LITERAL_PATHSPECS"] = "1";
    command.environment["LC_ALL"] = "C";
    command.arguments = {"--no-pager",
                         "-c",
                         "core.fsmonitor=false",
                         "-c",
                         "core.hooksPath=/dev/null",
                         "-c",
                         "core.pager=cat",
                         "-c",
                         "diff.external=",
                         "-C",
                         folder};
    command.arguments.insert(command.arguments.end(), words.begin(), words.end());
    return command;
}

Result<CommandOutput> HostGit::output_of(const std::string& folder, std::vector<std::string> words,
                                         const std::string& input, std::stop_token stop) const {
    Command git = command(folder, std::move(words));
    UniqueFd memory;
    if (!input.empty()) memory = BANGER_TRY(memory_with(input));
    if (memory) git.standard_input = memory.get();
    return run_command(std::move(git), 30min, ByteCount::gib(1), stop);
}

Result<std::string> HostGit::run(const std::string& folder, std::vector<std::string> words,
                                 std::stop_token stop, const std::string& input) const {
    const std::string what = words.empty() ? "" : words.front();
    CommandOutput output = BANGER_TRY(output_of(folder, std::move(words), input, stop));
    if (!output.status.is_success()) return failure(output, what);
    return std::move(output.standard_output);
}

Result<std::optional<std::string>> HostGit::ask(const std::string& folder,
                                                std::vector<std::string> words,
                                                std::stop_token stop) const {
    CommandOutput output = BANGER_TRY(output_of(folder, std::move(words), {}, stop));
    if (!output.status.is_success()) return std::optional<std::string>();
    if (output.standard_output.ends_with('\n')) output.standard_output.pop_back();
    return std::optional(std::move(output.standard_output));
}

}  // namespace banger::workspace

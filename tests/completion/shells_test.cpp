// What really happens at the Tab key: bash and zsh on a terminal, fish by its own `complete -C`.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <pty.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <sstream>

#include "core/base/file.hpp"
#include "tests/cli/cli_fixture.hpp"

namespace banger::cli {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::UnorderedElementsAre;

/// A shell on a terminal of its own. `ready` in its output says that it reads keys.
class TypedShell {
public:
    TypedShell(const std::vector<std::string>& words,
               const std::map<std::string, std::string>& environment, const std::string& dump)
        : dump_(::open(dump.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC)) {
        std::vector<std::string> pairs;
        for (const auto& [name, value] : environment)
            pairs.push_back(name + "=" + value);
        std::vector<char*> argv = pointers(words);
        std::vector<char*> envp = pointers(pairs);
        int terminal = -1;
        winsize size{};
        size.ws_row = 50;
        size.ws_col = 400;
        pid_ = ::forkpty(&terminal, nullptr, nullptr, &size);
        if (pid_ == 0) {
            ::execve(argv[0], argv.data(), envp.data());
            ::_exit(127);
        }
        terminal_.reset(terminal);
    }
    TypedShell(const TypedShell&) = delete;
    TypedShell& operator=(const TypedShell&) = delete;
    ~TypedShell() {
        terminal_.reset();
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
    }

    void wait_until_ready() {
        wait_for([&] { return shown_.find("ready") != std::string::npos; });
    }
    void type(const std::string& keys) { ASSERT_TRUE(write_all(terminal_.get(), keys)); }
    /// The line that the shell wrote into the dump.
    std::string line() {
        std::string text;
        wait_for([&] {
            char buffer[4096];
            const ssize_t count = ::read(dump_.get(), buffer, sizeof buffer);
            if (count > 0) text.append(buffer, static_cast<std::size_t>(count));
            return text.ends_with('\n');
        });
        if (!text.empty()) text.pop_back();
        return text;
    }

private:
    static std::vector<char*> pointers(const std::vector<std::string>& texts) {
        std::vector<char*> result;
        for (const std::string& text : texts)
            result.push_back(const_cast<char*>(text.c_str()));
        result.push_back(nullptr);
        return result;
    }

    /// Reads what the shell shows, too: one that nobody reads blocks.
    template <class Done>
    void wait_for(Done done) {
        const auto deadline = std::chrono::steady_clock::now() + 40s;
        while (!done()) {
            ASSERT_LT(std::chrono::steady_clock::now(), deadline) << shown_;
            pollfd waits[] = {{terminal_.get(), POLLIN, 0}, {dump_.get(), POLLIN, 0}};
            ASSERT_GE(::poll(waits, 2, 1000), 0);
            if (waits[0].revents == 0) continue;
            char buffer[4096];
            const ssize_t count = ::read(terminal_.get(), buffer, sizeof buffer);
            ASSERT_GT(count, 0) << "the shell has ended: " << shown_;
            shown_.append(buffer, static_cast<std::size_t>(count));
        }
    }

    UniqueFd dump_;
    UniqueFd terminal_;
    pid_t pid_ = -1;
    std::string shown_;
};

std::vector<std::string> split(const std::string& text) {
    std::istringstream stream(text);
    std::vector<std::string> words;
    for (std::string word; stream >> word;)
        words.push_back(word);
    return words;
}

/// Escape-a: insert every candidate. Escape-d: write the line into the dump.
constexpr const char* bash_settings = R"(PS1='ready'
PS2=
bind 'set enable-bracketed-paste off'
bind '"\ea": insert-completions'
dump_line() { printf '%s\n' "$READLINE_LINE" >"$DUMP"; READLINE_LINE=; READLINE_POINT=0; }
bind -x '"\ed": dump_line'
source <(banger completion bash)
)";
constexpr const char* zsh_settings = R"(PS1='ready'
unsetopt zle_bracketed_paste 2>/dev/null
autoload -Uz compinit && compinit -D -u
zle -C all-matches complete-word _generic
zstyle ':completion:all-matches::::' completer _all_matches _complete
zstyle ':completion:all-matches:*' insert true
bindkey '\ea' all-matches
dump-line() { print -r -- "$BUFFER" >"$DUMP"; BUFFER= }
zle -N dump-line
bindkey '\ed' dump-line
source <(banger completion zsh)
)";

class ShellsTest : public CliTest, public testing::WithParamInterface<std::string> {
protected:
    void SetUp() override {
        shell_ = find_program(GetParam()).value_or("");
        if (shell_.empty()) {
            const char* const required = std::getenv("BANGER_REQUIRE");
            if (required && std::string_view(required).find("shells") != std::string_view::npos)
                FAIL() << GetParam() << " is not installed";
            GTEST_SKIP() << GetParam() << " is not installed: sudo apt install " << GetParam();
        }
        environment_["PATH"] = parent_path(program_) + ":/usr/bin:/bin";
        environment_["TERM"] = "dumb";
        environment_["DUMP"] = folder_ / "dump";
        environment_["ZDOTDIR"] = folder_ / "home";
        ASSERT_EQ(::mkfifo((folder_ / "dump").c_str(), 0600), 0);
        ASSERT_TRUE(write_file_atomic(folder_ / "home/.zshrc", zsh_settings, 0600));
        ASSERT_TRUE(write_file_atomic(folder_ / "home/bashrc", bash_settings, 0600));
        // Where file names would be offered by mistake.
        ASSERT_TRUE(write_file_atomic(folder_ / "home/some-file", "", 0600));
        ASSERT_TRUE(ensure_folder(folder_ / "home/some-folder", 0700));
    }

    /// What is offered for the last word of `typed`.
    std::vector<std::string> offered(const std::string& typed) {
        if (GetParam() == "fish") return fish(typed);
        if (!typing_) start_typing();
        typing_->type(typed +
                      "\x1b"
                      "a\x1b"
                      "d");
        std::vector<std::string> words = split(typing_->line());
        // Nothing to insert leaves the line as it was.
        const std::vector<std::string> before = split(typed);
        if (words == before) return {};
        const std::size_t kept = typed.ends_with(' ') ? before.size() : before.size() - 1;
        words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(kept));
        return words;
    }

private:
    void start_typing() {
        std::vector<std::string> words = {shell_};
        if (GetParam() == "bash")
            words.insert(words.end(), {"--noprofile", "--rcfile", folder_ / "home/bashrc", "-i"});
        else
            words.insert(words.end(), {"-d", "-i"});
        typing_ = std::make_unique<TypedShell>(words, environment_, folder_ / "dump");
        typing_->wait_until_ready();
    }

    std::vector<std::string> fish(const std::string& typed) {
        Command command;
        command.program = shell_;
        command.arguments = {"--no-config", "-c",
                             "cd $HOME; banger completion fish | source; complete -C $argv[1]",
                             typed};
        command.environment = environment_;
        const Result<CommandOutput> output = run_command(command, 40s, ByteCount::mib(1), {});
        EXPECT_TRUE(output);
        std::vector<std::string> words;
        std::istringstream lines(output ? output->standard_output : "");
        for (std::string line; std::getline(lines, line);)
            words.push_back(line.substr(0, line.find('\t')));
        return words;
    }

    std::string shell_;
    std::unique_ptr<TypedShell> typing_;
};

TEST_P(ShellsTest, OffersCommandsFlagsAndLiveNames) {
    daemon().add(sample_vm("sandbox"));
    daemon().add(sample_vm("web"));
    EXPECT_THAT(offered("banger "), IsSupersetOf({"vm", "image", "doctor"}));
    EXPECT_THAT(offered("banger vm sto"), ElementsAre("stop"));
    EXPECT_THAT(offered("banger vm show "), UnorderedElementsAre("sandbox", "web"));
    EXPECT_THAT(offered("banger vm show web "), ElementsAre("sandbox"));
    EXPECT_THAT(offered("banger vm list --format "), UnorderedElementsAre("table", "json"));
    EXPECT_THAT(offered("banger vm list --qu"), ElementsAre("--quiet"));
    EXPECT_THAT(offered("banger image show debian-b"), ElementsAre("debian-bookworm"));
    EXPECT_THAT(offered("banger vm ssh web -- "), IsEmpty());
}

TEST_P(ShellsTest, AfterAnEqualsSignTheValueIsOffered) {
    daemon();
    const std::vector<std::string> words = offered("banger vm list --format=j");
    // bash replaces only what follows the sign, and the line has the rest.
    EXPECT_THAT(words, ElementsAre(testing::AnyOf("--format=json", "json")));
}

TEST_P(ShellsTest, WithoutADaemonThereAreNoNamesNoFilesAndNoDaemonAfterwards) {
    EXPECT_THAT(offered("banger vm show "), IsEmpty());
    EXPECT_THAT(offered("banger vm delete so"), IsEmpty());
    EXPECT_THAT(offered("banger vm sto"), ElementsAre("stop"));
    EXPECT_FALSE(path_exists(socket_));
    EXPECT_FALSE(path_exists(folder_ / "state/banger/bangerd.log"));
}

INSTANTIATE_TEST_SUITE_P(Real, ShellsTest, testing::Values("bash", "zsh", "fish"),
                         [](const auto& each) { return each.param; });

}  // namespace
}  // namespace banger::cli

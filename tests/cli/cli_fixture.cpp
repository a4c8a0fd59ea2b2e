#include "cli_fixture.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <sstream>

#include "core/base/process.hpp"

namespace banger::cli {

namespace {

/// FOLDER stands for the test's own. Behaves as ssh does with -E and LocalCommand.
constexpr const char* fake_ssh = R"script(#!/bin/sh
for word; do printf '%s\n' "$word"; done >FOLDER/ssh.words
previous=
for word; do
    case $previous in -E) log=$word ;; esac
    case $word in LocalCommand=*) local_command=$(printf %s "${word#LocalCommand=}" | sed 's/%%/%/g') ;; esac
    case $word in --) host=next ;; *) if [ "$host" = next ]; then host=$word; elif [ -n "$host" ]; then remote=$word; fi ;; esac
    previous=$word
done
mode=$(cat FOLDER/ssh.mode 2>/dev/null)
case $mode in
never) echo "ssh: connect to host 127.0.0.1 port 40022: Connection refused" >>"$log"; exit 255 ;;
never-told) echo up >FOLDER/ssh.up; exit 255 ;;
refuse) echo "root@127.0.0.1: Permission denied (publickey)." >>"$log"; exit 255 ;;
esac
sh -c "$local_command"
case $mode in
suspend) kill -STOP $$ ;;
lost) echo "client_loop: send disconnect: Broken pipe" >>"$log"; exit 255 ;;
hang) trap 'exit 255' INT TERM HUP; echo up >FOLDER/ssh.up; sleep 600 & wait; exit 99 ;;
esac
[ -n "$remote" ] || exec sh
exec sh -c "$remote"
)script";

void write(const std::string& path, const std::string& text, mode_t mode) {
    ASSERT_TRUE(write_file_atomic(path, text, mode));
}

}  // namespace

void Running::signal(int number) const { ASSERT_TRUE(send_signal(child_.pidfd(), number)); }

void Running::wait_until_stopped() const {
    siginfo_t info{};
    const auto id = static_cast<id_t>(child_.pidfd().get());
    ASSERT_EQ(::waitid(P_PIDFD, id, &info, WSTOPPED), 0);
}

Outcome Running::wait() {
    const Result<ExitStatus> status = child_.wait({});
    EXPECT_TRUE(status);
    Outcome outcome;
    outcome.status = status ? (status->signal ? 1000 + status->signal : status->code) : -1;
    outcome.out = read_file(out_path_, ByteCount::mib(16)).value_or("");
    outcome.err = read_file(err_path_, ByteCount::mib(16)).value_or("");
    return outcome;
}

CliTest::CliTest() : program_(BANGER_PROGRAM), socket_(folder_ / "run/banger/bangerd.sock") {
    for (const char* name : {"run", "run/banger", "home", "state", "cache", "config", "bin"})
        EXPECT_EQ(::mkdir((folder_ / name).c_str(), 0700), 0);
    environment_ = {
        {"HOME", folder_ / "home"},
        {"PATH", folder_ / "bin" + ":/usr/bin:/bin"},
        {"XDG_RUNTIME_DIR", folder_ / "run"},
        {"XDG_STATE_HOME", folder_ / "state"},
        {"XDG_CACHE_HOME", folder_ / "cache"},
        {"XDG_CONFIG_HOME", folder_ / "config"},
        {"BANGER_NOW", "1767323645"},
        {"LANG", "C.UTF-8"},
    };
    std::string script = fake_ssh;
    for (std::size_t at = 0; (at = script.find("FOLDER", at)) != script.npos;)
        script.replace(at, 6, folder_.path());
    write(folder_ / "bin/ssh", script, 0700);
    EXPECT_EQ(::mkfifo((folder_ / "ssh.up").c_str(), 0600), 0);
}

FakeBangerd& CliTest::daemon() {
    if (!daemon_) daemon_ = std::make_unique<FakeBangerd>(socket_);
    return *daemon_;
}

Running CliTest::start(const std::vector<std::string>& words, const std::string& input) {
    const std::string in_path = folder_ / ("in." + std::to_string(runs_));
    write(in_path, input, 0600);
    const UniqueFd in(::open(in_path.c_str(), O_RDONLY | O_CLOEXEC));
    return start_with(words, in.get());
}

Outcome CliTest::run_at_terminal(const std::vector<std::string>& words, const std::string& typed) {
    const UniqueFd terminal(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    char name[64];
    if (::grantpt(terminal.get()) != 0 || ::unlockpt(terminal.get()) != 0 ||
        ::ptsname_r(terminal.get(), name, sizeof name) != 0) {
        ADD_FAILURE() << "no terminal";
        return {};
    }
    const UniqueFd keyboard(::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
    EXPECT_TRUE(write_all(terminal.get(), typed));
    return start_with(words, keyboard.get()).wait();
}

Running CliTest::start_with(const std::vector<std::string>& words, int standard_input) {
    const std::string number = std::to_string(runs_++);
    const std::string out_path = folder_ / ("out." + number);
    const std::string err_path = folder_ / ("err." + number);
    const UniqueFd out(::open(out_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    const UniqueFd err(::open(err_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    Command command;
    command.program = program_;
    command.arguments = words;
    command.environment = environment_;
    command.standard_input = standard_input;
    command.standard_output = out.get();
    command.standard_error = err.get();
    Result<Child> child = spawn(command);
    if (!child) ADD_FAILURE() << child.error().text();
    return {std::move(*child), out_path, err_path};
}

void CliTest::set_ssh_mode(const std::string& mode) { write(folder_ / "ssh.mode", mode, 0600); }

void CliTest::wait_for_ssh() {
    // Opening blocks until the other side does.
    const UniqueFd up(::open((folder_ / "ssh.up").c_str(), O_RDONLY | O_CLOEXEC));
    char buffer[8];
    ASSERT_GT(::read(up.get(), buffer, sizeof buffer), 0);
}

std::vector<std::string> CliTest::ssh_words() const {
    std::istringstream text(read("ssh.words"));
    std::vector<std::string> words;
    for (std::string line; std::getline(text, line);)
        words.push_back(line);
    return words;
}

std::string CliTest::read(const std::string& name) const {
    return read_file(folder_ / name, ByteCount::mib(16)).value_or("(missing)");
}

}  // namespace banger::cli

#include "cli/ssh.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string_view>

#include "core/base/file.hpp"
#include "core/base/process.hpp"

namespace banger::cli {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds pause_between_attempts = 200ms;
/// For ssh to go, and put the terminal back, after a signal.
constexpr std::chrono::milliseconds grace = 5s;
constexpr int ssh_failed = 255;
/// How long a connection is kept that nobody uses.
constexpr const char* kept_for = "90";

/// A value for `-o`: ssh splits it at spaces, and reads %x as a token.
std::string option_value(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (c == '%') out += '%';
        out += c;
    }
    return out + "\"";
}

std::string with_percent_doubled(const std::string& text) {
    std::string out;
    for (const char c : text)
        out.append(c == '%' ? 2 : 1, c);
    return out;
}

/// Puts the terminal back as it was, should ssh be killed while it has it in raw mode.
class TerminalModes {
public:
    TerminalModes() : has_modes_(::tcgetattr(STDIN_FILENO, &modes_) == 0) {}
    ~TerminalModes() {
        if (has_modes_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &modes_);
    }
    TerminalModes(const TerminalModes&) = delete;
    TerminalModes& operator=(const TerminalModes&) = delete;

private:
    termios modes_{};
    bool has_modes_;
};

/// A folder of one call, gone with it.
class Scratch {
public:
    static Result<Scratch> make(const std::string& run_folder) {
        BANGER_TRY(ensure_private_folder(run_folder));
        std::string path = run_folder + "/ssh-XXXXXX";
        if (::mkdtemp(path.data()) == nullptr) return Error::from_errno(errno, "making " + path);
        return Scratch(path);
    }
    Scratch(Scratch&& other) noexcept : path_(std::exchange(other.path_, {})) {}
    Scratch& operator=(Scratch&&) = delete;
    Scratch(const Scratch&) = delete;
    ~Scratch() {
        // In a runtime folder: what stays goes with the login.
        if (!path_.empty()) static_cast<void>(remove_tree(path_));
    }
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    explicit Scratch(std::string path) : path_(std::move(path)) {}
    std::string path_;
};

std::string up_path(const SshCall& call) { return call.scratch + "/up"; }
std::string log_path(const SshCall& call) { return call.scratch + "/log"; }

/// The last line that ssh logged: what it gave up over.
std::string last_line(const std::string& path) {
    std::string text = read_file(path, ByteCount::mib(1)).value_or("");
    while (text.ends_with('\n') || text.ends_with('\r'))
        text.pop_back();
    return text.substr(text.rfind('\n') + 1);
}

/// Whether another attempt makes no sense: the far side is there and says no.
bool is_final(std::string_view log) {
    static constexpr std::array<std::string_view, 6> words = {"Permission denied",
                                                              "Host key verification failed",
                                                              "Too many authentication failures",
                                                              "Bad configuration option",
                                                              "unsupported option",
                                                              "Could not request local forwarding"};
    return std::ranges::any_of(words,
                               [&](std::string_view word) { return log.find(word) != log.npos; });
}

/// What every ssh of ours has, up to the destination.
std::vector<std::string> common_words(const SshCall& call) {
    std::vector<std::string> words = {"-F",           "none", "-E",
                                      log_path(call), "-i",   with_percent_doubled(call.key)};
    std::vector<std::string> options = {
        "HostKeyAlias=" + call.endpoint.host_key_alias,
        "UserKnownHostsFile=" + option_value(call.known_hosts),
        "GlobalKnownHostsFile=none",
        "StrictHostKeyChecking=yes",
        "UpdateHostKeys=no",
        "CheckHostIP=no",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "PreferredAuthentications=publickey",
        "BatchMode=yes",
        "LogLevel=ERROR",
        "ConnectTimeout=10",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
        // What an emulated guest works out fastest goes first; the rest stays allowed.
        "KexAlgorithms=^curve25519-sha256",
        "Ciphers=^aes128-gcm@openssh.com",
    };
    const char* const agent = std::getenv("SSH_AUTH_SOCK");
    if (call.forwards_agent && agent != nullptr) options.push_back("ForwardAgent=yes");
    // A kept connection was made with other wishes than to lend the agent.
    if (!call.control_path.empty() && !call.forwards_agent) {
        options.push_back("ControlPath=" + option_value(call.control_path));
        options.push_back("ControlMaster=auto");
        options.push_back(std::string("ControlPersist=") + kept_for);
    }
    for (std::string& option : options) {
        words.emplace_back("-o");
        words.push_back(std::move(option));
    }
    return words;
}

Command bare_command(const SshCall& call) {
    Command command;
    command.program = call.program;
    command.environment = minimal_environment();
    for (const char* name : {"TERM", "COLORTERM"})
        if (const char* value = std::getenv(name)) command.environment[name] = value;
    const char* const agent = std::getenv("SSH_AUTH_SOCK");
    if (call.forwards_agent && agent != nullptr) command.environment["SSH_AUTH_SOCK"] = agent;
    command.environment["SHELL"] = "/bin/sh";  // for LocalCommand
    command.arguments = common_words(call);
    return command;
}

std::vector<std::string> destination(const SshCall& call, bool wants_terminal) {
    return {"-p",
            std::to_string(call.endpoint.port),
            "-l",
            call.endpoint.user,
            wants_terminal ? "-t" : "-T",
            "--",
            call.endpoint.host};
}

/// `~^Z` stops ssh alone. The shell that waits for us gets its terminal back only when we stop too.
class Suspension {
public:
    Suspension() {
        sigset_t caught;
        ::sigemptyset(&caught);
        ::sigaddset(&caught, SIGCHLD);
        ::sigprocmask(SIG_BLOCK, &caught, &before_);
        fd_.reset(::signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK));
    }
    ~Suspension() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
    Suspension(const Suspension&) = delete;
    Suspension& operator=(const Suspension&) = delete;

    /// Readable when a child may have stopped.
    [[nodiscard]] int fd() const { return fd_.get(); }
    /// If it has: stops us too, and wakes it when somebody woke us.
    void follow(const UniqueFd& pidfd) {
        signalfd_siginfo ignored;
        while (::read(fd_.get(), &ignored, sizeof ignored) > 0) {
        }
        siginfo_t info{};
        const auto id = static_cast<id_t>(pidfd.get());
        if (::waitid(P_PIDFD, id, &info, WSTOPPED | WNOHANG) != 0 || info.si_pid == 0) return;
        ::kill(::getpid(), SIGSTOP);
        static_cast<void>(send_signal(pidfd, SIGCONT));
    }

private:
    sigset_t before_{};
    UniqueFd fd_;
};

/// Waits for the end of one ssh, watching for its mark and our signals.
class Watch {
public:
    /// `is_up`: it uses a connection that is there already, and leaves no mark.
    Watch(Child child, UniqueFd up, bool is_up, Interrupts& interrupts,
          const std::function<void()>& on_connected)
        : child_(std::move(child)),
          up_(std::move(up)),
          interrupts_(interrupts),
          on_connected_(on_connected) {
        if (is_up) mark_connected();
    }

    /// Errc::timed_out when `deadline` passes before the connection is up; ssh is ended then.
    Result<ExitStatus> run(Clock::time_point deadline) {
        for (;;) {
            // Before each wait: it may have stopped before anybody listened.
            suspension_.follow(child_.pidfd());
            std::array<pollfd, 4> waits = {{{child_.pidfd().get(), POLLIN, 0},
                                            {interrupts_.fd(), POLLIN, 0},
                                            {has_connected_ ? -1 : up_.get(), POLLIN, 0},
                                            {suspension_.fd(), POLLIN, 0}}};
            const int ready = ::poll(waits.data(), waits.size(), patience(deadline));
            if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
            if (ready < 0) continue;
            if (waits[2].revents != 0) mark_connected();
            if (waits[0].revents != 0) return child_.wait({});
            if (waits[1].revents != 0) pass_on_signal();
            if (ready > 0) continue;
            const bool was_asked = stop_by_.has_value();
            const ExitStatus status = child_.terminate(was_asked ? 0ms : 2s);
            if (was_asked) return status;
            return Error(Errc::timed_out, "the guest's sshd did not answer");
        }
    }

    [[nodiscard]] bool has_connected() const { return has_connected_; }
    [[nodiscard]] bool was_interrupted() const { return stop_by_.has_value(); }
    [[nodiscard]] Clock::time_point connected_at() const { return connected_at_; }

private:
    [[nodiscard]] int patience(Clock::time_point deadline) const {
        if (has_connected_ && !stop_by_) return -1;
        const Clock::time_point end = stop_by_ ? *stop_by_ : deadline;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
        return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
    }
    void mark_connected() {
        has_connected_ = true;
        connected_at_ = Clock::now();
        if (on_connected_) on_connected_();
    }
    void pass_on_signal() {
        const int signal = interrupts_.take();
        // It has one already when it came from the terminal; a second does no harm.
        static_cast<void>(send_signal(child_.pidfd(), signal));
        if (!stop_by_) stop_by_ = Clock::now() + grace;
    }

    Child child_;
    UniqueFd up_;
    Interrupts& interrupts_;
    const std::function<void()>& on_connected_;
    Suspension suspension_;
    bool has_connected_ = false;
    Clock::time_point connected_at_;
    std::optional<Clock::time_point> stop_by_;
};

Result<SshEnd> run_once(const SshCall& call, Clock::time_point began, Clock::time_point deadline,
                        Interrupts& interrupts) {
    BANGER_TRY(remove_file(log_path(call)));
    Command command = ssh_command(call);
    if (!call.is_silent) {
        command.standard_input = STDIN_FILENO;
        command.standard_output = STDOUT_FILENO;
        command.standard_error = STDERR_FILENO;
    }
    // Both ways, so that it neither blocks nor hangs up before the far side has opened it.
    UniqueFd up(::open(up_path(call).c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!up) return Error::from_errno(errno, "opening " + up_path(call));

    const bool is_up = !call.forwards_agent && is_kept(call.control_path);
    const TerminalModes modes;
    Watch watch(BANGER_TRY(spawn(command)), std::move(up), is_up, interrupts, call.on_connected);
    const ExitStatus status = BANGER_TRY(watch.run(deadline));
    SshEnd end;
    end.has_connected = watch.has_connected();
    end.was_interrupted = watch.was_interrupted();
    end.log = last_line(log_path(call));
    end.status = status.signal == 0 ? status.code : 128 + status.signal;
    end.is_lost = end.has_connected &&
                  (status.signal != 0 || (status.code == ssh_failed && !end.log.empty()));
    if (end.has_connected)
        end.until_connected =
            std::chrono::duration_cast<std::chrono::milliseconds>(watch.connected_at() - began);
    return end;
}

}  // namespace

std::string remote_words(const std::vector<std::string>& words) {
    std::string out;
    for (const std::string& word : words) {
        // The first word is quoted in any case: `if` and `A=b` would mean something to the shell.
        const bool is_first = out.empty();
        std::string quoted = shell_quote(word);
        if (is_first && quoted == word) quoted = "'" + word + "'";
        out += (is_first ? "" : " ") + quoted;
    }
    return out;
}

std::string remote_command(const std::optional<std::vector<std::string>>& words,
                           const std::string& folder) {
    const std::string go = folder.empty() ? "" : "cd " + shell_quote(folder);
    if (!words) return go.empty() ? "" : go + "; exec \"${SHELL:-/bin/sh}\" -l";
    return (go.empty() ? "" : go + " || exit 125; ") +
           "trap : INT QUIT; exec 3>&2 2>/dev/null; ( " + remote_words(*words) +
           " 2>&3 3>&- ); exit $?";
}

Command ssh_command(const SshCall& call) {
    Command command = bare_command(call);
    command.new_session = false;  // it reads the terminal
    const auto add = [&](const std::vector<std::string>& words) {
        command.arguments.insert(command.arguments.end(), words.begin(), words.end());
    };
    // How we know that the connection is up, and 255 not ssh's own.
    add({"-o", "PermitLocalCommand=yes", "-o",
         "LocalCommand=echo >" + with_percent_doubled(shell_quote(up_path(call)))});
    for (const ForwardedPort& port : call.forwards)
        // By name, so that sshd tries IPv6 too.
        add({"-L", "127.0.0.1:" + std::to_string(port.host) +
                       ":localhost:" + std::to_string(port.guest)});
    if (!call.forwards.empty()) add({"-N", "-o", "ExitOnForwardFailure=yes"});
    // Without a command no terminal is asked for, unless the shell is to begin somewhere.
    add(destination(call, call.wants_terminal));
    const std::string remote = remote_command(call.command, call.folder);
    if (!remote.empty() && call.forwards.empty()) add({remote});
    return command;
}

Command ssh_script(const SshCall& call, const std::string& script) {
    Command command = bare_command(call);
    for (const std::string& word : destination(call, false))
        command.arguments.push_back(word);
    command.arguments.push_back("exec /bin/sh -c " + shell_quote(script));
    return command;
}

bool is_kept(const std::string& control_path) {
    if (control_path.empty()) return false;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (control_path.size() >= sizeof address.sun_path) return false;
    control_path.copy(address.sun_path, sizeof address.sun_path - 1);
    const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return false;
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        return true;
    // Its master died without tidying up; ssh would not make another in its place.
    if (errno == ECONNREFUSED) ::unlink(control_path.c_str());
    return false;
}

std::string control_path_of(const std::string& run_folder, const protocol::Vm& vm) {
    const std::string path =
        run_folder + "/c-" + vm.id + "-" + std::to_string(vm.started_at.value_or(0));
    // ssh makes it under a longer name first.
    constexpr std::size_t suffix = 20;
    return path.size() + suffix < sizeof(sockaddr_un::sun_path) ? path : "";
}

void drop_kept_connections(const std::string& run_folder, const std::string& id) {
    const Result<std::vector<std::string>> names = list_folder(run_folder);
    const Result<std::string> program = find_program("ssh");
    if (!names || id.empty()) return;
    for (const std::string& name : *names) {
        if (!name.starts_with("c-" + id + "-")) continue;
        const std::string path = run_folder + "/" + name;
        if (program && is_kept(path)) {
            Command command;
            command.program = *program;
            command.environment = minimal_environment();
            command.arguments = {"-F", "none", "-o",  "ControlPath=" + option_value(path),
                                 "-O", "exit", "none"};
            static_cast<void>(run_command(command, 2s, ByteCount::kib(4), {}));
        }
        // One that did not listen goes by itself when its machine does not answer.
        static_cast<void>(remove_file(path));
    }
}

Result<SshEnd> run_ssh(SshCall call, const std::string& run_folder,
                       std::chrono::milliseconds patience, Interrupts& interrupts) {
    const Scratch scratch = BANGER_TRY(Scratch::make(run_folder));
    call.scratch = scratch.path();
    if (::mkfifo(up_path(call).c_str(), 0600) != 0)
        return Error::from_errno(errno, "making " + up_path(call));
    const Clock::time_point began = Clock::now();
    const Clock::time_point deadline = began + patience;
    std::string reason;
    for (;;) {
        Result<SshEnd> end = run_once(call, began, deadline, interrupts);
        if (!end && end.error().code != Errc::timed_out) return end;
        if (end) {
            if (end->has_connected || end->was_interrupted || is_final(end->log)) return end;
            reason = end->log;
        }
        if (Clock::now() + pause_between_attempts >= deadline)
            return Error(Errc::timed_out, "ssh did not come up within " +
                                              std::to_string(patience.count() / 1000) + " s" +
                                              (reason.empty() ? "" : ": " + reason));
        const Result<int> interrupted =
            poll_fd(interrupts.fd(), POLLIN, pause_between_attempts, {});
        if (interrupted && *interrupted > 0) {
            interrupts.take();
            SshEnd stopped;
            stopped.was_interrupted = true;
            stopped.log = reason;
            return stopped;
        }
    }
}

}  // namespace banger::cli

#include "core/base/child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "core/base/process.hpp"

namespace banger {

namespace {

using Clock = std::chrono::steady_clock;

/// What the child needs between fork and exec, laid out before the fork: afterwards only
/// async-signal-safe calls are allowed, because another thread may have held a lock.
struct ChildPlan {
    std::vector<char*> argv;
    std::vector<char*> envp;
    std::vector<std::string> environment;
    std::vector<int> kept;  // sorted, all ≥ 3
    int report = -1;        // errno of what failed goes here
};

[[noreturn]] void fail_child(int report) {
    const int error_number = errno;
    [[maybe_unused]] const ssize_t written = ::write(report, &error_number, sizeof error_number);
    ::_exit(127);
}

void close_others(const std::vector<int>& kept) {
    unsigned first = 3;
    for (const int fd : kept) {
        const unsigned keep = static_cast<unsigned>(fd);
        if (keep > first) ::syscall(SYS_close_range, first, keep - 1, 0);
        first = keep + 1;
    }
    ::syscall(SYS_close_range, first, ~0u, 0);
}

void reset_signals() {
    for (int signal = 1; signal < NSIG; ++signal)
        ::signal(signal, SIG_DFL);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void become(const Command& command, const ChildPlan& plan, pid_t parent) {
    reset_signals();
    if (command.new_session) ::setsid();
    if (command.dies_with_parent) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(127);
    }
    if (command.file_size_limit) {
        const rlim_t bytes = command.file_size_limit->count();
        const rlimit limit = {bytes, bytes};
        // A lower limit of our own stays: raising it needs rights that we do not have.
        rlimit present{};
        ::getrlimit(RLIMIT_FSIZE, &present);
        if (bytes < present.rlim_max && ::setrlimit(RLIMIT_FSIZE, &limit) != 0)
            fail_child(plan.report);
        ::signal(SIGXFSZ, SIG_IGN);  // survives execve(2)
    }
    // Moved out of the way first: a borrowed descriptor may itself be 0, 1 or 2.
    int standard[3] = {command.standard_input, command.standard_output, command.standard_error};
    for (int& fd : standard) {
        fd = fd >= 0 ? ::fcntl(fd, F_DUPFD, 3) : ::open("/dev/null", O_RDWR);
        if (fd >= 0 && fd < 3) fd = ::fcntl(fd, F_DUPFD, 3);
        if (fd < 0) fail_child(plan.report);
    }
    for (int target = 0; target < 3; ++target)
        if (::dup2(standard[target], target) < 0) fail_child(plan.report);
    for (const int fd : command.inherited)
        if (::fcntl(fd, F_SETFD, 0) != 0) fail_child(plan.report);
    if (::chdir(command.working_folder.c_str()) != 0) fail_child(plan.report);
    close_others(plan.kept);
    ::execve(command.program.c_str(), plan.argv.data(), plan.envp.data());
    fail_child(plan.report);
}

ChildPlan plan_for(const Command& command, int report) {
    ChildPlan plan;
    plan.argv.push_back(const_cast<char*>(command.program.c_str()));
    for (const std::string& argument : command.arguments)
        plan.argv.push_back(const_cast<char*>(argument.c_str()));
    plan.argv.push_back(nullptr);
    for (const auto& [name, value] : command.environment)
        plan.environment.push_back(name + "=" + value);
    for (std::string& variable : plan.environment)
        plan.envp.push_back(variable.data());
    plan.envp.push_back(nullptr);
    plan.kept = command.inherited;
    plan.kept.push_back(report);
    std::ranges::sort(plan.kept);
    plan.report = report;
    return plan;
}

}  // namespace

std::string shell_quote(const std::string& word) {
    constexpr std::string_view plain =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:=@_";
    if (!word.empty() && word.find_first_not_of(plain) == word.npos) return word;
    std::string out = "'";
    for (const char c : word) {
        if (c == '\'')
            out += "'\\''";
        else
            out += c;
    }
    return out + "'";
}

std::string Command::text() const {
    std::string out = shell_quote(program);
    for (const std::string& argument : arguments)
        out += " " + shell_quote(argument);
    return out;
}

std::string ExitStatus::text() const {
    return signal != 0 ? "killed by signal " + std::to_string(signal)
                       : "exit status " + std::to_string(code);
}

Child::Child(ProcessId id, UniqueFd pidfd, bool owns_group)
    : id_(id), pidfd_(std::move(pidfd)), owns_group_(owns_group), is_running_(true) {}

Child::Child(Child&& other) noexcept
    : id_(other.id_),
      pidfd_(std::move(other.pidfd_)),
      owns_group_(other.owns_group_),
      is_running_(std::exchange(other.is_running_, false)) {}

Child& Child::operator=(Child&& other) noexcept {
    if (this == &other) return *this;
    if (is_running_) terminate(std::chrono::milliseconds(0));
    id_ = other.id_;
    pidfd_ = std::move(other.pidfd_);
    owns_group_ = other.owns_group_;
    is_running_ = std::exchange(other.is_running_, false);
    return *this;
}

Child::~Child() {
    if (is_running_) terminate(std::chrono::milliseconds(0));
}

void Child::detach() { is_running_ = false; }

void Child::signal_group(int signal) const {
    const pid_t pid = static_cast<pid_t>(id_.pid);
    // Not yet reaped, so the number is still ours.
    if (!owns_group_ || ::kill(-pid, signal) != 0) ::kill(pid, signal);
}

ExitStatus Child::reap() {
    int status = 0;
    while (::waitpid(static_cast<pid_t>(id_.pid), &status, 0) < 0 && errno == EINTR) {
    }
    is_running_ = false;
    if (WIFSIGNALED(status)) return {0, WTERMSIG(status)};
    return {WEXITSTATUS(status), 0};
}

Result<ExitStatus> Child::wait(std::stop_token stop) {
    BANGER_TRY(poll_fd(pidfd_.get(), POLLIN, std::chrono::milliseconds(-1), std::move(stop)));
    return reap();
}

ExitStatus Child::terminate(std::chrono::milliseconds grace) {
    if (!is_running_) return {};
    if (grace.count() > 0) {
        signal_group(SIGTERM);
        const Result<bool> ended = wait_for_exit(pidfd_, grace, {});
        if (ended && *ended) {
            // What it started may have stayed behind.
            signal_group(SIGKILL);
            return reap();
        }
    }
    signal_group(SIGKILL);
    return reap();
}

Result<Child> spawn(const Command& command) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
    UniqueFd report_read(ends[0]);
    // Out of the way of 0, 1 and 2, which the child replaces.
    UniqueFd report_write(::fcntl(ends[1], F_DUPFD_CLOEXEC, 3));
    ::close(ends[1]);
    if (!report_write) return Error::from_errno(errno, "dup");

    ChildPlan plan = plan_for(command, report_write.get());
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return Error::from_errno(errno, "fork");
    if (pid == 0) become(command, plan, parent);

    report_write.reset();
    int error_number = 0;
    ssize_t count = 0;
    while ((count = ::read(report_read.get(), &error_number, sizeof error_number)) < 0 &&
           errno == EINTR) {
    }
    UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    const Result<ProcessId> id = process_id_of(pid);
    Child child(id ? *id : ProcessId{pid, 0}, std::move(pidfd), command.new_session);
    if (count > 0) {
        child.reap();
        return Error::from_errno(error_number, "starting " + command.program);
    }
    if (!child.pidfd()) return Error::from_errno(errno, "pidfd_open");
    return child;
}

namespace {

struct Capture {
    UniqueFd read_end;
    std::string* text = nullptr;
};

/// One read; false when the writer is gone.
bool drain_once(Capture& capture, std::uint64_t limit) {
    char buffer[16384];
    const ssize_t count = ::read(capture.read_end.get(), buffer, sizeof buffer);
    if (count < 0) return errno == EINTR || errno == EAGAIN;
    if (count == 0) return false;
    const std::size_t room = limit - std::min<std::uint64_t>(limit, capture.text->size());
    capture.text->append(buffer, std::min(room, static_cast<std::size_t>(count)));
    return true;
}

Result<UniqueFd> open_capture(Capture& capture, std::string& text) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
    capture = {UniqueFd(ends[0]), &text};
    return UniqueFd(ends[1]);
}

}  // namespace

Result<CommandOutput> run_command(Command command, std::chrono::milliseconds deadline,
                                  ByteCount limit, std::stop_token stop) {
    CommandOutput output;
    Capture captures[2];
    UniqueFd out = BANGER_TRY(open_capture(captures[0], output.standard_output));
    UniqueFd err = BANGER_TRY(open_capture(captures[1], output.standard_error));
    command.standard_output = out.get();
    command.standard_error = err.get();
    Child child = BANGER_TRY(spawn(command));
    out.reset();
    err.reset();

    const Clock::time_point end = Clock::now() + deadline;
    for (;;) {
        // The child's exit ends the reading too: a grandchild may hold the pipes for ever.
        pollfd waits[3] = {{captures[0].read_end.get(), POLLIN, 0},
                           {captures[1].read_end.get(), POLLIN, 0},
                           {child.pidfd().get(), POLLIN, 0}};
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
        // 100 ms bounds how late a stop request is seen; this loop runs only while a child does.
        const int timeout = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 100));
        if (::poll(waits, 3, timeout) < 0 && errno != EINTR)
            return Error::from_errno(errno, "poll");
        if (stop.stop_requested() || Clock::now() >= end) {
            child.terminate(std::chrono::seconds(2));
            if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
            return Error(Errc::timed_out, command.program + " took too long");
        }
        bool is_idle = true;
        for (int i = 0; i < 2; ++i) {
            if (waits[i].revents == 0) continue;
            is_idle = false;
            if (!drain_once(captures[i], limit.count())) captures[i].read_end.reset();
        }
        if (is_idle && waits[2].revents != 0) break;
    }
    output.status = BANGER_TRY(child.wait({}));
    return output;
}

Result<std::string> find_program(const std::string& name) {
    const auto is_program = [](const std::string& path) {
        return ::access(path.c_str(), X_OK) == 0;
    };
    if (name.find('/') != name.npos) {
        if (is_program(name)) return name;
        return Error(Errc::not_found, name + " is not an executable file");
    }
    const char* path = std::getenv("PATH");
    // The administrator's folders too: Debian keeps mke2fs and others there, off a user's PATH.
    std::string folders = path ? path : "/usr/local/bin:/usr/bin:/bin";
    folders += ":/usr/sbin:/sbin";
    for (std::size_t begin = 0; begin <= folders.size();) {
        const std::size_t end = std::min(folders.find(':', begin), folders.size());
        const std::string folder = folders.substr(begin, end - begin);
        // A relative folder in PATH would run what lies in the current one.
        if (folder.starts_with('/') && is_program(folder + "/" + name)) return folder + "/" + name;
        begin = end + 1;
    }
    return Error(Errc::not_found, name + " is not on PATH");
}

std::map<std::string, std::string> minimal_environment() {
    std::map<std::string, std::string> environment = {
        {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        {"LANG", "C.UTF-8"},
    };
    for (const char* name : {"PATH", "HOME", "USER", "TMPDIR", "http_proxy", "https_proxy",
                             "no_proxy", "all_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"})
        if (const char* value = std::getenv(name)) environment[name] = value;
    return environment;
}

}  // namespace banger

#include "daemons/vsock-agent/exec_session.hpp"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "daemons/vsock-agent/system.hpp"
#include "daemons/vsock-agent/users.hpp"

namespace banger::agent {

using guest::ExecRequest;

namespace {

constexpr const char* default_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Between SIGHUP and SIGKILL.
constexpr std::uint64_t hang_up_grace_ms = 3000;
/// What a terminal still holds arrives within this after the end of its session.
constexpr std::uint64_t terminal_drain_ms = 500;
constexpr int exit_not_started = 125;
constexpr int exit_not_runnable = 126;
constexpr int exit_not_found = 127;

struct Pipe {
    UniqueFd read_end;
    UniqueFd write_end;
};

Result<Pipe> make_pipe() {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno(errno, "making a pipe");
    return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

void set_nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

void set_window(int terminal, const TerminalSize& size) {
    const winsize window{size.rows, size.columns, 0, 0};
    ioctl(terminal, TIOCSWINSZ, &window);
}

/// The image's own devpts, so that the terminal has a name in there.
Result<Pipe> open_terminal(const std::string& root, const TerminalSize& size) {
    const std::string path = (root == "/" ? "" : root) + "/dev/pts/ptmx";
    UniqueFd master(open(path.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
    if (!master) return Error::from_errno(errno, "opening a terminal");
    int unlocked = 0;
    if (ioctl(master.get(), TIOCSPTLCK, &unlocked) != 0)
        return Error::from_errno(errno, "opening a terminal");
    UniqueFd slave(ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!slave) return Error::from_errno(errno, "opening a terminal");
    set_window(master.get(), size);
    return Pipe{std::move(master), std::move(slave)};
}

/// NAME=value, the last one of a name; with what every command has.
std::vector<std::string> environment_of(const ExecRequest& request, const ImageUser& user) {
    std::array<char, 65> host{};
    gethostname(host.data(), host.size() - 1);
    std::vector<std::string> all = {std::string("PATH=") + default_path,
                                    std::string("HOSTNAME=") + host.data(), "HOME=" + user.home};
    for (const std::string& text : request.environment) {
        const std::string name = text.substr(0, std::min(text.find('='), text.size())) + "=";
        std::erase_if(all, [&](const std::string& known) { return known.starts_with(name); });
        // A name alone is none: there is nothing here to take its value from.
        if (name.size() <= text.size()) all.push_back(text);
    }
    return all;
}

Result<std::string> find_shell(const ImageRoot& image, const ImageUser& user) {
    for (const std::string& shell :
         {user.shell, std::string("/bin/bash"), std::string("/bin/sh"), std::string("/bin/ash"),
          std::string("/bin/dash"), std::string("/bin/zsh")}) {
        const bool is_shell = shell.size() > 1 && shell.starts_with('/') &&
                              !shell.ends_with("/nologin") && !shell.ends_with("/false");
        if (is_shell && image.has_program(shell.substr(1))) return shell;
    }
    return Error(Errc::unsupported, "the image has no shell");
}

/// All that the child needs, made before the fork.
struct Start {
    std::string root;
    ImageUser user;
    std::vector<std::string> words;
    std::vector<std::string> environment;
    std::string folder;
    bool makes_folder = false;
    std::array<int, 3> streams{};
    bool has_terminal = false;
};

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> out;
    for (std::string& text : texts)
        out.push_back(text.data());
    out.push_back(nullptr);
    return out;
}

[[noreturn]] void give_up(int status, const std::string& what) {
    const std::string line = "banger: " + what + ": " + std::strerror(errno) + "\n";
    [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, line.data(), line.size());
    _exit(status);
}

void make_folders(const std::string& path) {
    for (std::size_t at = 0; at != path.npos;) {
        at = path.find('/', at + 1);
        mkdir(path.substr(0, at).c_str(), 0755);
    }
}

void become(const ImageUser& user) {
    if (geteuid() != 0 && user.uid == geteuid()) return;  // a test without rights
    if (setgroups(user.groups.size(), user.groups.data()) != 0 || setgid(user.gid) != 0 ||
        setuid(user.uid) != 0)
        give_up(exit_not_started, "becoming user " + std::to_string(user.uid));
}

/// In the child.
[[noreturn]] void run(Start& start) {
    setsid();
    if (start.has_terminal) ioctl(start.streams[0], TIOCSCTTY, 0);
    for (int stream = 0; stream < 3; ++stream)
        dup2(start.streams[static_cast<std::size_t>(stream)], stream);
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; ++number)
        signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    // The agent is spared when memory runs out; what it starts is not.
    const UniqueFd score(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
    [[maybe_unused]] const Result<void> ignored = write_bytes(score.get(), "0");
    if (start.root != "/" && (chroot(start.root.c_str()) != 0 || chdir("/") != 0))
        give_up(exit_not_started, "entering the image");
    umask(022);
    if (start.makes_folder) make_folders(start.folder);
    become(start.user);
    if (chdir(start.folder.c_str()) != 0) give_up(exit_not_started, "going to " + start.folder);
    const std::vector<char*> words = pointers(start.words);
    std::vector<char*> environment = pointers(start.environment);
    environ = environment.data();
    execvp(words[0], words.data());
    give_up(errno == ENOENT ? exit_not_found : exit_not_runnable, start.words[0]);
}

std::uint8_t status_of(int wait_status) {
    return static_cast<std::uint8_t>(WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status)
                                                              : WEXITSTATUS(wait_status));
}

}  // namespace

Result<std::unique_ptr<ExecSession>> ExecSession::start(std::uint64_t id, const std::string& root,
                                                        const ExecRequest& request) {
    const ImageRoot image = BANGER_TRY(ImageRoot::open(root));
    Start start;
    start.root = root;
    start.user = BANGER_TRY(find_user(request.user, image.read("etc/passwd").value_or(""),
                                      image.read("etc/group").value_or("")));
    start.words = request.words;
    if (start.words.empty()) start.words = {BANGER_TRY(find_shell(image, start.user))};
    start.environment = environment_of(request, start.user);
    start.folder = request.folder;
    start.makes_folder = request.makes_folder;
    if (!start.folder.empty() && !start.folder.starts_with('/')) start.folder.insert(0, "/");
    if (start.folder.empty())
        start.folder = image.has(start.user.home.substr(1)) ? start.user.home : "/";

    std::unique_ptr<ExecSession> session(new ExecSession(id, request.stream));
    session->has_terminal_ = request.terminal.has_value();
    std::array<Pipe, 3> pipes;
    if (request.terminal) {
        pipes[0] = BANGER_TRY(open_terminal(root, *request.terminal));
        start.streams = {pipes[0].write_end.get(), pipes[0].write_end.get(),
                         pipes[0].write_end.get()};
        start.has_terminal = true;
        session->input_fd_ = std::move(pipes[0].read_end);
        session->outputs_[0] = {session->input_fd_.duplicate(), ExecKind::output};
    } else {
        for (Pipe& pipe : pipes)
            pipe = BANGER_TRY(make_pipe());
        start.streams = {pipes[0].read_end.get(), pipes[1].write_end.get(),
                         pipes[2].write_end.get()};
        session->input_fd_ = std::move(pipes[0].write_end);
        session->outputs_[0] = {std::move(pipes[1].read_end), ExecKind::output};
        session->outputs_[1] = {std::move(pipes[2].read_end), ExecKind::error_output};
    }
    set_nonblocking(session->input_fd_.get());
    for (const Output& output : session->outputs_)
        if (output.fd) set_nonblocking(output.fd.get());
    session->pid_ = fork();
    if (session->pid_ < 0) return Error::from_errno(errno, "starting a process");
    if (session->pid_ == 0) run(start);
    return session;
}

ExecSession::~ExecSession() = default;

void ExecSession::say(std::string& out, ExecKind kind, std::string_view data) const {
    out += guest::encode_session_frame(id_, kind, data);
}

void ExecSession::take(const ExecFrame& frame) {
    if (is_over_ || is_hung_up()) return;
    switch (frame.kind) {
        case ExecKind::input:
            if (frame.data.size() > input_left_ || has_input_ended_) return hang_up();
            input_left_ -= frame.data.size();
            // What a command that reads no more would have got is dropped, and credited.
            if (input_fd_)
                input_ += frame.data;
            else
                input_owed_ += static_cast<std::uint32_t>(frame.data.size());
            return;
        case ExecKind::input_end:
            has_input_ended_ = true;
            return;
        case ExecKind::signal: {
            const int number = static_cast<unsigned char>(frame.data[0]);
            if (!has_exited_ && number > 0 && number < 32) signal_group(number);
            return;
        }
        case ExecKind::window:
            if (has_terminal_ && input_fd_) set_window(input_fd_.get(), window_of(frame));
            return;
        case ExecKind::credit:
            output_left_ = std::min<std::uint64_t>(output_left_ + credit_of(frame), exec_window);
            return;
        default:
            return hang_up();
    }
}

/// One that has only just been forked leads no group yet.
void ExecSession::signal_group(int number) const {
    if (kill(-pid_, number) != 0) kill(pid_, number);
}

void ExecSession::on_exit(int wait_status) {
    // Whoever is left of a session that was hung up goes too. Its leader is not reaped yet, so the
    // number is its own.
    if (is_hung_up()) signal_group(SIGKILL);
    has_exited_ = true;
    status_ = status_of(wait_status);
    exited_at_ms_ = uptime_ms();
}

void ExecSession::hang_up() {
    if (is_hung_up()) return;
    kill_at_ms_ = uptime_ms() + hang_up_grace_ms;
    input_.clear();
    input_fd_.reset();
    for (Output& output : outputs_)
        output.fd.reset();
    if (!has_exited_) signal_group(SIGHUP);
}

void ExecSession::add_polls(std::vector<pollfd>& fds, bool has_room) const {
    if (input_fd_ && !input_.empty()) fds.push_back({input_fd_.get(), POLLOUT, 0});
    for (const Output& output : outputs_)
        if (output.fd && has_room && output_left_ > 0) fds.push_back({output.fd.get(), POLLIN, 0});
}

std::uint64_t ExecSession::due_ms() const {
    if (is_hung_up() && !has_exited_) return kill_at_ms_;
    return has_exited_ && has_terminal_ ? exited_at_ms_ + terminal_drain_ms : 0;
}

void ExecSession::feed(std::string& out) {
    while (input_fd_ && !input_.empty()) {
        const ssize_t count = write(input_fd_.get(), input_.data(), input_.size());
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) break;
        const std::size_t taken = count < 0 ? input_.size() : static_cast<std::size_t>(count);
        input_owed_ += static_cast<std::uint32_t>(taken);
        input_.erase(0, taken);
        if (count < 0 && !has_terminal_) input_fd_.reset();
    }
    if (has_input_ended_ && input_.empty()) {
        // A terminal has no end that could be closed; its user would type Ctrl-D.
        if (!has_terminal_) input_fd_.reset();
    }
    if (input_owed_ < exec_window / 4) return;
    input_left_ += input_owed_;
    say(out, ExecKind::credit, credit_data(std::exchange(input_owed_, 0)));
}

bool ExecSession::drain(Output& output, std::string& out) {
    std::array<char, max_exec_data> buffer{};
    while (output.fd && output_left_ > 0 && out.size() < max_waiting_output) {
        const std::size_t most = std::min<std::uint64_t>(buffer.size(), output_left_);
        const ssize_t count = read(output.fd.get(), buffer.data(), most);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) return true;
        if (count <= 0) {  // EIO is a terminal's end
            output.fd.reset();
            return true;
        }
        output_left_ -= static_cast<std::uint64_t>(count);
        say(out, output.kind, {buffer.data(), static_cast<std::size_t>(count)});
    }
    return !output.fd;
}

void ExecSession::pump(std::string& out) {
    if (is_over_) return;
    if (is_hung_up()) {
        if (!has_exited_ && uptime_ms() >= kill_at_ms_) {
            signal_group(SIGKILL);
            kill_at_ms_ = uptime_ms() + hang_up_grace_ms;
        }
        is_over_ = has_exited_;
        if (is_over_) say(out, ExecKind::exit, std::string(1, static_cast<char>(status_)));
        return;
    }
    feed(out);
    bool is_dry = true;
    for (Output& output : outputs_)
        is_dry = drain(output, out) && is_dry;
    // Whoever it left behind may hold its streams for ever; what it wrote itself is there now. Only
    // a terminal hands on with a delay.
    const bool may_hold_more =
        has_terminal_ && outputs_[0].fd && uptime_ms() < exited_at_ms_ + terminal_drain_ms;
    if (!has_exited_ || !is_dry || may_hold_more) return;
    is_over_ = true;
    say(out, ExecKind::exit, std::string(1, static_cast<char>(status_)));
}

}  // namespace banger::agent

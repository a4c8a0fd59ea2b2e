#include "cli/agent_session.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <string>

#include "cli/session.hpp"
#include "core/base/exec_frames.hpp"
#include "core/client/upgrade.hpp"
#include "core/protocol/exec_fields.hpp"

namespace banger::cli {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

/// For the command to end after a signal.
constexpr std::chrono::milliseconds grace = 5s;
/// Our own output may wait for its reader up to here; then the guest's waits in the guest.
constexpr std::size_t max_waiting = std::size_t{256} << 10;

/// Every key goes to the guest, until this goes.
class RawTerminal {
public:
    RawTerminal() {
        if (::tcgetattr(STDIN_FILENO, &before_) != 0) return;
        termios raw = before_;
        ::cfmakeraw(&raw);
        is_raw_ = ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
    }
    ~RawTerminal() {
        if (is_raw_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
    }
    RawTerminal(const RawTerminal&) = delete;
    RawTerminal& operator=(const RawTerminal&) = delete;

private:
    termios before_{};
    bool is_raw_ = false;
};

/// SIGWINCH as a descriptor.
class WindowChanges {
public:
    WindowChanges() {
        sigset_t caught;
        ::sigemptyset(&caught);
        ::sigaddset(&caught, SIGWINCH);
        ::sigprocmask(SIG_BLOCK, &caught, &mask_before_);
        fd_.reset(::signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK));
    }
    ~WindowChanges() { ::sigprocmask(SIG_SETMASK, &mask_before_, nullptr); }
    WindowChanges(const WindowChanges&) = delete;
    WindowChanges& operator=(const WindowChanges&) = delete;
    [[nodiscard]] int fd() const { return fd_.get(); }
    void take() const {
        signalfd_siginfo ignored;
        while (::read(fd_.get(), &ignored, sizeof ignored) > 0) {
        }
    }

private:
    sigset_t mask_before_{};
    UniqueFd fd_;
};

std::optional<banger::TerminalSize> window_size() {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) return std::nullopt;
    return banger::TerminalSize{size.ws_row, size.ws_col};
}

Error lost() {
    return {Errc::unavailable,
            "bangerd went away while the command ran; the command gets a hang-up",
            "The machine runs on. Run the command again."};
}

/// One of our streams that the guest's output goes to. It may be somebody else's too, so it is
/// never made non-blocking: what poll(2) says is writable takes PIPE_BUF without waiting (pipe(7)).
struct Sink {
    int fd = -1;
    std::string waiting = {};
    /// False when nobody reads it any more.
    bool write_some() {
        const ssize_t count =
            ::write(fd, waiting.data(), std::min<std::size_t>(waiting.size(), PIPE_BUF));
        if (count < 0) return errno == EAGAIN || errno == EINTR;
        waiting.erase(0, static_cast<std::size_t>(count));
        return true;
    }
};

class Conversation {
public:
    Conversation(client::Upgraded upgraded, std::uint32_t window, Interrupts& interrupts)
        : socket_(std::move(upgraded.socket)), interrupts_(interrupts), input_left_(window) {
        reader_.append(upgraded.rest);
    }

    Result<AgentEnd> run() {
        BANGER_TRY(take_frames());
        while (true) {
            const bool is_written = output_.waiting.empty() && errors_.waiting.empty();
            if (status_ && is_written) return AgentEnd{*status_, stop_by_.has_value()};
            if (failure_ && is_written) return *failure_;
            if (is_lost_ && is_written) return lost();
            BANGER_TRY(step());
            if (is_output_gone_) return AgentEnd{128 + SIGPIPE, stop_by_.has_value()};
            if (stop_by_ && Clock::now() >= *stop_by_)
                return AgentEnd{interrupts_.exit_status(), true};
        }
    }

private:
    Result<void> step() {
        const bool has_ended = status_ || failure_ || is_lost_;
        const bool has_room = output_.waiting.size() + errors_.waiting.size() < max_waiting;
        const bool reads_input =
            !has_ended && !has_input_ended_ && input_left_ > 0 && to_daemon_.size() < max_exec_data;
        std::array<pollfd, 6> waits = {
            {{has_ended || (!has_room && to_daemon_.empty()) ? -1 : socket_.get(),
              static_cast<short>((has_room ? POLLIN : 0) | (to_daemon_.empty() ? 0 : POLLOUT)), 0},
             {reads_input ? STDIN_FILENO : -1, POLLIN, 0},
             {output_.waiting.empty() ? -1 : output_.fd, POLLOUT, 0},
             {errors_.waiting.empty() ? -1 : errors_.fd, POLLOUT, 0},
             {interrupts_.fd(), POLLIN, 0},
             {changes_.fd(), POLLIN, 0}}};
        if (::poll(waits.data(), waits.size(), patience()) < 0)
            return errno == EINTR ? ok() : Result<void>(Error::from_errno(errno, "poll"));
        if (waits[0].revents != 0) BANGER_TRY(talk());
        if (waits[1].revents != 0) read_input();
        if (waits[2].revents != 0 && !output_.write_some()) is_output_gone_ = true;
        // Errors that nobody reads are not worth the end of the command.
        if (waits[3].revents != 0 && !errors_.write_some()) errors_.waiting.clear();
        if (waits[4].revents != 0) pass_on_signal();
        if (waits[5].revents != 0) pass_on_window();
        return ok();
    }

    [[nodiscard]] int patience() const {
        if (!stop_by_) return -1;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(*stop_by_ - Clock::now());
        return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
    }

    Result<void> talk() {
        while (!to_daemon_.empty()) {
            const ssize_t sent = ::send(socket_.get(), to_daemon_.data(), to_daemon_.size(),
                                        MSG_NOSIGNAL | MSG_DONTWAIT);
            // One that does not listen any more may have said why; that is still to be read.
            if (sent < 0 && errno != EAGAIN && errno != EINTR) to_daemon_.clear();
            if (sent < 0) break;
            to_daemon_.erase(0, static_cast<std::size_t>(sent));
        }
        std::array<char, std::size_t{64} << 10> buffer;  // NOLINT: filled by recv
        const ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return ok();
        if (count <= 0) {
            is_lost_ = true;
            return ok();
        }
        reader_.append({buffer.data(), static_cast<std::size_t>(count)});
        return take_frames();
    }

    Result<void> take_frames() {
        while (const std::optional<ExecFrame> frame = BANGER_TRY(reader_.next())) {
            if (frame->kind == ExecKind::output) output_.waiting += frame->data;
            if (frame->kind == ExecKind::error_output) errors_.waiting += frame->data;
            if (frame->kind == ExecKind::credit) input_left_ += credit_of(*frame);
            if (frame->kind == ExecKind::exit) status_ = static_cast<unsigned char>(frame->data[0]);
            if (frame->kind == ExecKind::failed) failure_ = failure_of(*frame);
        }
        return ok();
    }

    void read_input() {
        std::array<char, max_exec_data> buffer;  // NOLINT: filled by read
        const std::size_t most = std::min<std::size_t>(buffer.size(), input_left_);
        const ssize_t count = ::read(STDIN_FILENO, buffer.data(), most);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (count <= 0) {
            has_input_ended_ = true;
            to_daemon_ += framed_exec(ExecKind::input_end);
            return;
        }
        input_left_ -= static_cast<std::size_t>(count);
        to_daemon_ +=
            framed_exec(ExecKind::input, {buffer.data(), static_cast<std::size_t>(count)});
    }

    void pass_on_signal() {
        const int number = interrupts_.take();
        if (number == 0) return;
        to_daemon_ += framed_exec(ExecKind::signal, std::string(1, static_cast<char>(number)));
        if (!stop_by_) stop_by_ = Clock::now() + grace;
    }

    void pass_on_window() {
        changes_.take();
        if (const std::optional<banger::TerminalSize> size = window_size())
            to_daemon_ += framed_exec(ExecKind::window, window_data(*size));
    }

    UniqueFd socket_;
    Interrupts& interrupts_;
    WindowChanges changes_;
    ExecFrameReader reader_;
    std::string to_daemon_;
    std::size_t input_left_;
    bool has_input_ended_ = false;
    Sink output_{STDOUT_FILENO};
    Sink errors_{STDERR_FILENO};
    std::optional<int> status_;
    std::optional<Error> failure_;
    bool is_lost_ = false;
    bool is_output_gone_ = false;
    std::optional<Clock::time_point> stop_by_;
};

}  // namespace

Result<AgentEnd> run_by_agent(Session& session, protocol::ExecInVm request,
                              Interrupts& interrupts) {
    const bool has_terminal = request.terminal.has_value();
    if (has_terminal) {
        const banger::TerminalSize size = window_size().value_or(banger::TerminalSize{});
        request.terminal = protocol::TerminalSize{size.rows, size.columns};
    }
    BANGER_TRY(session.daemon.connect());  // starts it where that is needed
    client::Upgraded upgraded = BANGER_TRY(client::upgrade(
        session.daemon.place().paths.socket, "io.banger.Vm.Exec", rpc::encode(request),
        {.deadline = {}, .stop = {}, .stop_fd = interrupts.fd()}));
    const auto reply = BANGER_TRY(
        rpc::decode<protocol::ExecInVmReply>(upgraded.reply, "reply", rpc::Unknown::ignored));
    std::optional<RawTerminal> raw;
    if (has_terminal) raw.emplace();
    return Conversation(std::move(upgraded), reply.window, interrupts).run();
}

}  // namespace banger::cli

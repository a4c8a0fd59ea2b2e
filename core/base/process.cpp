#include "core/base/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/base/file.hpp"

namespace banger {

namespace {

using Clock = std::chrono::steady_clock;

/// State letter and start time from /proc/PID/stat. The command name is in parentheses and may
/// contain anything, so fields are counted from the last ')': proc(5).
struct ProcessStat {
    char state = '?';
    std::uint64_t start_time = 0;
    std::uint64_t cpu_ticks = 0;  ///< user and system
    std::uint64_t resident_pages = 0;
};

Result<ProcessStat> read_stat(std::int64_t pid) {
    const std::string path = "/proc/" + std::to_string(pid) + "/stat";
    Result<std::string> text = read_file(path, ByteCount::kib(4));
    const std::string gone = "no process " + std::to_string(pid);
    if (!text) {
        if (text.error().code == Errc::not_found) return Error(Errc::not_found, gone);
        return std::move(text).error();
    }
    const std::size_t end = text->rfind(')');
    if (end == text->npos || end + 2 >= text->size()) return Error(Errc::not_found, gone);
    ProcessStat stat;
    stat.state = (*text)[end + 2];
    const char* at = text->c_str() + end + 2;
    for (int field = 3; at; ++field) {
        const std::uint64_t value = std::strtoull(at, nullptr, 10);
        if (field == 14 || field == 15) stat.cpu_ticks += value;
        if (field == 22) stat.start_time = value;
        if (field == 24) {
            stat.resident_pages = value;
            return stat;
        }
        at = std::char_traits<char>::find(at, std::char_traits<char>::length(at), ' ');
        if (at) ++at;
    }
    return Error(Errc::internal, "cannot read the start time in " + path);
}

}  // namespace

Result<ProcessId> process_id_of(std::int64_t pid) {
    const ProcessStat stat = BANGER_TRY(read_stat(pid));
    if (stat.state == 'Z' || stat.state == 'X')
        return Error(Errc::not_found, "process " + std::to_string(pid) + " has ended");
    return ProcessId{pid, stat.start_time};
}

Result<ProcessUsage> usage_of(const ProcessId& process) {
    const ProcessStat stat = BANGER_TRY(read_stat(process.pid));
    if (stat.state == 'Z' || stat.state == 'X' || stat.start_time != process.start_time)
        return Error(Errc::not_found, "process " + std::to_string(process.pid) + " has ended");
    const auto ticks = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    return ProcessUsage{ByteCount::bytes(stat.resident_pages * page),
                        std::chrono::milliseconds(stat.cpu_ticks * 1000 / ticks)};
}

Result<UniqueFd> open_pidfd(const ProcessId& process) {
    const auto gone = [&] {
        return Error(Errc::not_found, "process " + std::to_string(process.pid) + " has ended");
    };
    if (process.pid <= 0) return gone();
    UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
    if (!fd) {
        const int error_number = errno;
        if (error_number == ESRCH || error_number == EINVAL) return gone();
        return Error::from_errno(error_number, "pidfd_open");
    }
    // Checked after the pidfd holds it: from here on the number cannot change its owner unseen.
    const Result<ProcessId> now = process_id_of(process.pid);
    if (!now || now->start_time != process.start_time) return gone();
    return fd;
}

bool is_running(const ProcessId& process) { return open_pidfd(process).has_value(); }

Result<void> send_signal(const UniqueFd& pidfd, int signal) {
    if (::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0) return ok();
    return Error::from_errno(errno, "sending signal " + std::to_string(signal));
}

Result<bool> wait_for_exit(const UniqueFd& pidfd, std::chrono::milliseconds deadline,
                           std::stop_token stop) {
    const int revents = BANGER_TRY(poll_fd(pidfd.get(), POLLIN, deadline, std::move(stop)));
    return revents != 0;
}

void reap_if_child(const UniqueFd& pidfd) {
    siginfo_t info{};
    (void)::waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), &info, WEXITED | WNOHANG);
}

Result<void> kill_and_wait(const ProcessId& process) {
    const Result<UniqueFd> pidfd = open_pidfd(process);
    if (!pidfd) return pidfd.error().code == Errc::not_found ? ok() : Result<void>(pidfd.error());
    const Result<void> sent = send_signal(*pidfd, SIGKILL);
    if (!sent && sent.error().code != Errc::not_found) return sent;
    if (BANGER_TRY(wait_for_exit(*pidfd, std::chrono::seconds(10), {}))) {
        reap_if_child(*pidfd);
        return ok();
    }
    return Error(
        Errc::timed_out, "process " + std::to_string(process.pid) + " did not end after SIGKILL",
        "It hangs in the kernel; look at /proc/" + std::to_string(process.pid) + "/stack.");
}

Result<int> poll_fd(int fd, short events, std::chrono::milliseconds deadline,
                    std::stop_token stop) {
    if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
    UniqueFd wake;
    if (stop.stop_possible()) {
        wake.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (!wake) return Error::from_errno(errno, "eventfd");
    }
    const int wake_fd = wake.get();
    const std::stop_callback on_stop(stop, [wake_fd] {
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t written = ::write(wake_fd, &one, sizeof one);
    });
    const Clock::time_point end = Clock::now() + deadline;
    for (;;) {
        int timeout = -1;
        if (deadline.count() >= 0) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
            timeout = static_cast<int>(
                std::max<std::int64_t>(0, std::min<std::int64_t>(left.count(), 1'000'000'000)));
        }
        pollfd waits[2] = {{fd, events, 0}, {wake_fd, POLLIN, 0}};
        const int ready = ::poll(waits, wake ? 2 : 1, timeout);
        if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
        if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
        if (ready > 0 && waits[0].revents != 0) return static_cast<int>(waits[0].revents);
        if (deadline.count() >= 0 && Clock::now() >= end) return 0;
    }
}

}  // namespace banger

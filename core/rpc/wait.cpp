#include "core/rpc/wait.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>

#include "banger/unique_fd.hpp"

namespace banger::rpc {

namespace {

int remaining_milliseconds(const WaitLimits& limits) {
    if (!limits.deadline) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        *limits.deadline - std::chrono::steady_clock::now());
    return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000));
}

Error cancelled(const char* what) {
    return {Errc::cancelled, std::string("stopped while waiting for ") + what};
}

Result<void> poll_all(int fd, short events, int stop_event, const WaitLimits& limits,
                      const char* what) {
    // poll(2) skips the negative ones.
    pollfd all[] = {{fd, events, 0}, {stop_event, POLLIN, 0}, {limits.stop_fd, POLLIN, 0}};
    while (true) {
        const int count = ::poll(all, std::size(all), remaining_milliseconds(limits));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, std::string("waiting for ") + what);
        if (all[1].revents != 0 || all[2].revents != 0) return cancelled(what);
        if (all[0].revents != 0) return {};
        if (limits.deadline && std::chrono::steady_clock::now() >= *limits.deadline)
            return Error(Errc::timed_out, std::string(what) + " did not come in time");
    }
}

}  // namespace

Result<void> wait_for(int fd, short events, const WaitLimits& limits, const char* what) {
    if (limits.stop.stop_requested()) return cancelled(what);
    if (!limits.stop.stop_possible()) return poll_all(fd, events, -1, limits, what);
    const UniqueFd stop_event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!stop_event) return Error::from_errno(errno, std::string("waiting for ") + what);
    const std::stop_callback wake(limits.stop, [&] {
        // The counter cannot overflow with one write, so this cannot fail.
        static_cast<void>(::eventfd_write(stop_event.get(), 1));
    });
    return poll_all(fd, events, stop_event.get(), limits, what);
}

}  // namespace banger::rpc

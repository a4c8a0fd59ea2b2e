#pragma once

#include <chrono>
#include <optional>
#include <stop_token>

#include "banger/result.hpp"

namespace banger::rpc {

/// What may end a wait early.
struct WaitLimits {
    std::optional<std::chrono::steady_clock::time_point> deadline = {};
    std::stop_token stop = {};
    int stop_fd = -1;  ///< ends the wait when readable; not read
};

/// Blocks until poll(2) reports one of `events` (or an error, or that the peer has gone, which the
/// next read or write then tells). Errc::timed_out, cancelled; `what` is what did not happen, "the
/// answer". Any thread.
Result<void> wait_for(int fd, short events, const WaitLimits& limits, const char* what);

}  // namespace banger::rpc

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>

namespace boost::asio {
class io_context;
}

namespace banger {

/// Looks at something every now and then, on one worker thread, while machines run; without any
/// there is no timer. The next look is timed from the end of the one before.
class LookTimer {
public:
    using Look = std::function<void(std::stop_token)>;
    LookTimer(boost::asio::io_context& io, std::chrono::milliseconds interval, Look look);
    /// Fires the token of the present look and waits for it. After the io_context has stopped.
    ~LookTimer();
    LookTimer(const LookTimer&) = delete;
    LookTimer& operator=(const LookTimer&) = delete;

    /// How many machines run; on the I/O thread.
    void set_running(std::size_t machines);

private:
    struct Inside;
    std::shared_ptr<Inside> inside_;
};

}  // namespace banger

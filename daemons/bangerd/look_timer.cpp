#include "daemons/bangerd/look_timer.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

namespace banger {

namespace asio = boost::asio;

struct LookTimer::Inside : std::enable_shared_from_this<Inside> {
    Inside(asio::io_context& context, std::chrono::milliseconds time, Look action)
        : io(context), timer(context), interval(time), look(std::move(action)) {}
    asio::io_context& io;
    asio::steady_timer timer;
    std::chrono::milliseconds interval;
    Look look;
    std::stop_source stop;
    std::size_t running = 0;  // all of these of the I/O thread
    bool is_timed = false;    // or looking
    asio::thread_pool worker{1};

    void next() {
        is_timed = running > 0;
        if (!is_timed) return;
        timer.expires_after(interval);
        timer.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
            if (error) return self->next();
            asio::post(self->worker, [self] { self->look_now(); });
        });
    }
    void look_now() {
        look(stop.get_token());
        asio::post(io, [self = shared_from_this()] { self->next(); });
    }
};

LookTimer::LookTimer(asio::io_context& io, std::chrono::milliseconds interval, Look look)
    : inside_(std::make_shared<Inside>(io, interval, std::move(look))) {}

LookTimer::~LookTimer() {
    inside_->stop.request_stop();
    inside_->worker.join();
}

void LookTimer::set_running(std::size_t machines) {
    inside_->running = machines;
    if (machines == 0) inside_->timer.cancel();
    if (machines > 0 && !inside_->is_timed) inside_->next();
}

}  // namespace banger

#include "plugins/net-bridge/afterwork.hpp"

#include <utility>

#include "core/base/blocked_signals.hpp"

namespace banger {

using Clock = std::chrono::steady_clock;

Afterwork::Afterwork(Job last, std::chrono::milliseconds linger,
                     std::function<void(const Error&)> report)
    : last_(std::move(last)), linger_(linger), report_(std::move(report)) {
    const BlockedSignals blocked;
    thread_ = std::thread([this] { work(); });
}

Afterwork::~Afterwork() {
    {
        const std::lock_guard lock(mutex_);
        is_ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void Afterwork::add(Job job) {
    {
        const std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
    }
    changed_.notify_all();
}

bool Afterwork::wait(const std::function<bool()>& is_done, std::stop_token stop) {
    std::unique_lock lock(mutex_);
    return changed_.wait(lock, std::move(stop), [&] { return !has_jobs() || is_done(); });
}

Result<void> Afterwork::settle() {
    std::unique_lock lock(mutex_);
    ++hurrying_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !has_jobs() && !is_last_due_; });
    --hurrying_;
    return std::exchange(errors_, {}).result();
}

void Afterwork::run(std::unique_lock<std::mutex>& lock, const Job& job) {
    is_busy_ = true;
    lock.unlock();
    const Result<void> done = job();
    if (!done) report_(done.error());
    lock.lock();
    errors_.add(done);
    is_busy_ = false;
    quiet_since_ = Clock::now();
    changed_.notify_all();
}

void Afterwork::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        if (!jobs_.empty()) {
            const Job job = std::move(jobs_.front());
            jobs_.pop_front();
            is_last_due_ = true;
            run(lock, job);
        } else if (is_last_due_ &&
                   (hurrying_ != 0 || is_ending_ || Clock::now() >= quiet_since_ + linger_)) {
            is_last_due_ = false;
            run(lock, last_);
        } else if (is_ending_) {
            return;
        } else if (is_last_due_) {
            changed_.wait_until(lock, quiet_since_ + linger_);
        } else {
            changed_.wait(lock);
        }
    }
}

}  // namespace banger

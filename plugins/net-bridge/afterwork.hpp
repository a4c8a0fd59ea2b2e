#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>

#include "banger/result.hpp"
#include "core/base/rollback.hpp"

namespace banger {

/// What may be done after the caller has its answer, because it is mostly waiting for the kernel:
/// jobs, one after another on a thread of its own, and when none came for a while, one more: the
/// last. Whoever ends it waits for all of that. Safe from any thread.
class Afterwork {
public:
    using Job = std::function<Result<void>()>;

    /// `report` is told of each failure. The last job runs `linger` after the one before it.
    Afterwork(Job last, std::chrono::milliseconds linger, std::function<void(const Error&)> report);
    Afterwork(const Afterwork&) = delete;
    Afterwork& operator=(const Afterwork&) = delete;
    /// Does everything that is left, without lingering.
    ~Afterwork();

    void add(Job job);
    /// Returns when `is_done` holds, or no job is left that could make it hold; false when `stop`
    /// came first. `is_done` is asked again after each job.
    bool wait(const std::function<bool()>& is_done, std::stop_token stop);
    /// Does everything that is left, without lingering. The failures since the last time.
    Result<void> settle();

private:
    void work();
    void run(std::unique_lock<std::mutex>& lock, const Job& job);
    [[nodiscard]] bool has_jobs() const { return is_busy_ || !jobs_.empty(); }

    const Job last_;
    const std::chrono::milliseconds linger_;
    const std::function<void(const Error&)> report_;
    std::mutex mutex_;
    std::condition_variable_any changed_;
    std::deque<Job> jobs_;
    ErrorCollector errors_;
    std::chrono::steady_clock::time_point quiet_since_;
    bool is_busy_ = false;
    bool is_last_due_ = false;
    bool is_ending_ = false;
    int hurrying_ = 0;  ///< callers in settle()
    std::thread thread_;
};

}  // namespace banger

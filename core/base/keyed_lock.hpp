#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>

#include "banger/result.hpp"

namespace banger {

/// One lock for each name: what happens to one machine or one image happens in turn, different ones
/// at once. Waiting ends at once when the stop token is triggered. Safe from any thread; outlives
/// every guard.
class KeyedLock {
public:
    /// Holds the name until destroyed. May be destroyed on another thread than it was made on.
    class [[nodiscard]] Guard {
    public:
        Guard(Guard&& other) noexcept
            : owner_(std::exchange(other.owner_, nullptr)), key_(std::move(other.key_)) {}
        Guard& operator=(Guard&&) = delete;
        Guard(const Guard&) = delete;
        ~Guard() {
            if (owner_) owner_->release(key_);
        }

    private:
        friend class KeyedLock;
        Guard(KeyedLock* owner, std::string key) : owner_(owner), key_(std::move(key)) {}
        KeyedLock* owner_;
        std::string key_;
    };

    /// Waits for the name. Errc::cancelled.
    Result<Guard> acquire(const std::string& key, std::stop_token stop);
    /// Errc::busy when somebody still holds it at `deadline`.
    Result<Guard> acquire_until(const std::string& key,
                                std::chrono::steady_clock::time_point deadline,
                                std::stop_token stop);
    /// Errc::busy when somebody holds it.
    Result<Guard> try_acquire(const std::string& key);

private:
    void release(const std::string& key);

    std::mutex mutex_;
    std::condition_variable_any freed_;
    std::set<std::string> held_;
};

}  // namespace banger

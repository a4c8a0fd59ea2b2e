#include "core/base/keyed_lock.hpp"

namespace banger {

namespace {
Error busy(const std::string& key) {
    return {Errc::busy, key + " is being worked on", "Try again in a moment."};
}
}  // namespace

Result<KeyedLock::Guard> KeyedLock::acquire(const std::string& key, std::stop_token stop) {
    std::unique_lock lock(mutex_);
    if (!freed_.wait(lock, stop, [&] { return !held_.contains(key); }))
        return Error(Errc::cancelled, "cancelled");
    held_.insert(key);
    return Guard(this, key);
}

Result<KeyedLock::Guard> KeyedLock::acquire_until(const std::string& key,
                                                  std::chrono::steady_clock::time_point deadline,
                                                  std::stop_token stop) {
    std::unique_lock lock(mutex_);
    if (!freed_.wait_until(lock, stop, deadline, [&] { return !held_.contains(key); })) {
        if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
        return busy(key);
    }
    held_.insert(key);
    return Guard(this, key);
}

Result<KeyedLock::Guard> KeyedLock::try_acquire(const std::string& key) {
    const std::lock_guard lock(mutex_);
    if (!held_.insert(key).second) return busy(key);
    return Guard(this, key);
}

void KeyedLock::release(const std::string& key) {
    {
        const std::lock_guard lock(mutex_);
        held_.erase(key);
    }
    freed_.notify_all();
}

}  // namespace banger

#include "failpoints.hpp"

#include <charconv>

namespace banger {

namespace {

Result<std::pair<std::string, unsigned>> parse_step(const std::string& text) {
    const std::size_t colon = text.find(':');
    const std::string step = text.substr(0, colon);
    unsigned n = 1;
    bool is_good = step.find('.') != step.npos;
    if (is_good && colon != text.npos) {
        const char* const end = text.data() + text.size();
        const auto [stop, status] = std::from_chars(text.data() + colon + 1, end, n);
        is_good = status == std::errc() && stop == end && n > 0;
    }
    if (is_good) return std::pair(step, n);
    return Error(Errc::invalid_argument, "\"" + text + "\" is no step",
                 "Write ROLE.METHOD or ROLE.METHOD:N, as in storage.create:2.");
}

}  // namespace

void Failpoints::fail(const std::string& step, unsigned n) {
    const std::lock_guard lock(mutex_);
    fail_[step] = n;
}

void Failpoints::hang(const std::string& step, unsigned n) {
    const std::lock_guard lock(mutex_);
    hang_[step] = n;
}

void Failpoints::await_hang() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return hanging_ > 0; });
}

void Failpoints::release() {
    {
        const std::lock_guard lock(mutex_);
        ++releases_;
    }
    changed_.notify_all();
}

Result<void> Failpoints::arm(const std::vector<std::string>& fail,
                             const std::vector<std::string>& hang) {
    for (const std::string& text : fail) {
        const auto [step, n] = BANGER_TRY(parse_step(text));
        this->fail(step, n);
    }
    for (const std::string& text : hang) {
        const auto [step, n] = BANGER_TRY(parse_step(text));
        this->hang(step, n);
    }
    return ok();
}

bool Failpoints::is_due(Countdowns& countdowns, const std::string& step) {
    const auto at = countdowns.find(step);
    if (at == countdowns.end() || --at->second > 0) return false;
    countdowns.erase(at);
    return true;
}

Result<void> Failpoints::pass(const std::string& step, std::stop_token stop) {
    std::unique_lock lock(mutex_);
    if (is_due(hang_, step)) {
        ++hanging_;
        const std::uint64_t before = releases_;
        changed_.notify_all();
        changed_.wait(lock, stop, [&] { return releases_ != before; });
        --hanging_;
    }
    if (stop.stop_requested()) return Error(Errc::cancelled, step + " was cancelled");
    if (is_due(fail_, step))
        return Error(Errc::internal, step + " failed, as the test wanted",
                     "Take the failpoint out.");
    return ok();
}

}  // namespace banger

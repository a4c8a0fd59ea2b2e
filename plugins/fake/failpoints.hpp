#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"

namespace banger {

/// How a test makes a fake misbehave. Each making call of a fake passes one step, named
/// "ROLE.METHOD", when it is half-way: what it made so far has to be undone again.
///
/// Safe from any thread.
class Failpoints {
public:
    /// Lets the n-th pass from now on fail with Errc::internal and a remedy. Once.
    void fail(const std::string& step, unsigned n = 1);
    /// Lets the n-th pass from now on block until it is cancelled, or released. Once.
    void hang(const std::string& step, unsigned n = 1);
    /// Returns when a call hangs.
    void await_hang();
    /// Lets every hanging call go on.
    void release();

    /// Reads "ROLE.METHOD[:N]" as in the settings `fail` and `hang`.
    Result<void> arm(const std::vector<std::string>& fail, const std::vector<std::string>& hang);

    /// Called by the fakes. Errc::cancelled when the token is triggered, hanging or not.
    Result<void> pass(const std::string& step, std::stop_token stop);

private:
    using Countdowns = std::map<std::string, unsigned>;
    /// Whether this is the pass that was armed.
    static bool is_due(Countdowns& countdowns, const std::string& step);

    std::mutex mutex_;
    std::condition_variable_any changed_;
    Countdowns fail_;
    Countdowns hang_;
    unsigned hanging_ = 0;
    std::uint64_t releases_ = 0;
};

}  // namespace banger

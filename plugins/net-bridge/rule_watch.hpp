#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

namespace banger {

/// Hears of what happens to nftables: of tables named "banger" that are deleted, by us or by
/// somebody else (a reload of the host's own firewall often begins with "flush ruleset"), and of
/// nothing happening any more.
class RuleWatch {
public:
    /// Called from a thread of the watch.
    struct Hooks {
        /// After a deletion is in force; often enough, perhaps too often, never too late.
        std::function<void()> on_deleted;
        /// Once, when nobody changed a rule for some seconds.
        std::function<void()> on_quiet;
    };
    /// In the caller's network namespace.
    static Result<std::unique_ptr<RuleWatch>> start(Hooks hooks);
    /// Waits for a call that is under way.
    ~RuleWatch();
    RuleWatch(const RuleWatch&) = delete;
    RuleWatch& operator=(const RuleWatch&) = delete;

private:
    RuleWatch() = default;

    UniqueFd wake_;  ///< an eventfd: readable means end
    std::thread thread_;
};

}  // namespace banger

#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

namespace banger {

/// Hears of nftables tables named "banger" that are deleted, by us or by somebody else: a reload of
/// the host's own firewall often begins with "flush ruleset".
class RuleWatch {
public:
    /// `on_deleted` is called from a thread of the watch, after the deletion is in force; often
    /// enough, perhaps too often, never too late. In the caller's network namespace.
    static Result<std::unique_ptr<RuleWatch>> start(std::function<void()> on_deleted);
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

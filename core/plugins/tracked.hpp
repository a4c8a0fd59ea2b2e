#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/plugin.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"

/// Wraps each role so that core sees what its plugins are doing: which calls are in flight and
/// since when, and how long the ended ones took. A stuck plugin shows in `plugin info` and `doctor`
/// instead of being a silent hang. An exception that a plugin lets out ends here as Errc::internal.
namespace banger {

/// One call of a role method.
struct PluginCall {
    std::string plugin;
    Role role = Role::network;
    std::string method;  ///< "attach"
    std::string vm;      ///< machine id, or a reference for image sources; empty when there is none
    std::chrono::steady_clock::time_point started;
};

/// The ended calls of one method.
struct CallCount {
    Role role = Role::network;
    std::string method;
    std::uint64_t calls = 0;
    std::uint64_t failures = 0;
    std::chrono::nanoseconds total{0};
    std::chrono::nanoseconds longest{0};
};

/// What a tracker tells others. All optional; called from the calling thread, without a lock held.
struct CallHooks {
    /// Asked before each method that returns a Result. An Error is returned instead of calling the
    /// plugin: how tests make the n-th step fail.
    std::function<std::optional<Error>(const PluginCall&)> before;
    /// Told of each call that took longer than `slow` when it ends.
    std::function<void(const PluginCall&, std::chrono::nanoseconds took)> slow_call;
    std::chrono::nanoseconds slow = std::chrono::seconds(30);
};

/// The calls of one plugin. Safe from any thread.
class CallTracker {
public:
    CallTracker(std::string plugin, CallHooks hooks)
        : plugin_(std::move(plugin)), hooks_(std::move(hooks)) {}
    [[nodiscard]] const std::string& plugin() const { return plugin_; }
    [[nodiscard]] const CallHooks& hooks() const { return hooks_; }

    [[nodiscard]] std::vector<PluginCall> in_flight() const;  ///< oldest first
    [[nodiscard]] std::vector<CallCount> counts() const;

    using Ticket = std::list<PluginCall>::iterator;
    Ticket begin(Role role, std::string_view method, std::string_view vm);
    void end(Ticket ticket, bool succeeded);

private:
    std::string plugin_;
    CallHooks hooks_;
    mutable std::mutex mutex_;
    std::list<PluginCall> in_flight_;
    std::vector<CallCount> counts_;
};

/// The roles of one plugin, each behind its decorator. The plugin and the tracker outlive it.
class TrackedRoles {
public:
    TrackedRoles(const Roles& inner, CallTracker& tracker);
    ~TrackedRoles();
    TrackedRoles(const TrackedRoles&) = delete;
    TrackedRoles& operator=(const TrackedRoles&) = delete;
    [[nodiscard]] Roles roles() const;

private:
    std::unique_ptr<Network> network_;
    std::unique_ptr<Dns> dns_;
    std::unique_ptr<Storage> storage_;
    std::unique_ptr<ImageSource> image_source_;
    std::unique_ptr<VmBackend> vm_backend_;
};

}  // namespace banger

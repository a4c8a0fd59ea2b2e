#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "banger/plugin.hpp"
#include "banger/result.hpp"
#include "banger/web.hpp"
#include "core/plugin_host/crashes.hpp"
#include "core/plugin_host/hosted_process.hpp"
#include "core/remote/proxies.hpp"
#include "core/remote/web.hpp"

namespace banger::plugin_host {

/// How long a plugin in a process of its own may take, and how often it may crash.
struct Patience {
    std::chrono::milliseconds start{20'000};
    std::chrono::milliseconds call{60'000};
    std::chrono::milliseconds checks{10'000};
    std::chrono::milliseconds long_call{3'600'000};
    std::chrono::milliseconds silence{60'000};  ///< within a long call, without progress
    std::chrono::milliseconds stopping{5'000};  ///< after a stop, to undo
    Crashes::Limit crashes = {};                ///< then: quarantine
};

struct HostedOptions {
    /// Borrowed file; confine, start, log and program as in Recipe.
    Recipe recipe;
    std::vector<Role> roles;  ///< of its manifest
    Web* web = nullptr;       ///< null: its manifest asks for no network. Outlives this
    Patience patience;
    std::string crash_file;  ///< where crashes are written down; empty: nowhere
    std::string identity;    ///< of the plugin's file: another one has not crashed yet
};

/// How a hosted plugin is, for `plugin list` and `doctor`.
struct Health {
    std::size_t processes = 0;  ///< that run now
    std::string last_crash;     ///< "killed by signal 11"; empty: none
    bool is_quarantined = false;
    std::optional<Error> trouble;  ///< why the last one that was to be started was not
};

/// A plugin in a process of its own, that core does not believe.
///
/// A library has one process with a connection for each call at once. An executable speaks on one
/// connection, so each connection is a process: up to four for an image source, which keeps nothing
/// in memory, one for every other role. Processes are started when a call needs one, and again when
/// one has ended; whoever was being served gets Errc::unavailable. One that does not answer in
/// time, or with garbage, is killed, which counts as a crash. After too many crashes no more are
/// started, until forgive(): every call fails with Errc::unavailable at once.
///
/// Safe from any thread. Its roles live as long as it.
class HostedPlugin {
public:
    explicit HostedPlugin(HostedOptions options);
    ~HostedPlugin();
    HostedPlugin(const HostedPlugin&) = delete;
    HostedPlugin& operator=(const HostedPlugin&) = delete;

    /// Starts a process, unless the plugin is an image source alone: that is started by its first
    /// call. Not for a vm-backend.
    Result<Roles> open();
    /// Whether the file is a plugin that fits, in a process that does nothing else.
    Result<void> probe();
    [[nodiscard]] Health health() const;
    /// Lets it try again.
    Result<void> forgive();

private:
    using ProcessPointer = std::shared_ptr<HostedProcess>;

    Result<rpc::PacketChannel> connect();
    Result<rpc::PacketChannel> connect_to_library();
    Result<rpc::PacketChannel> connect_to_executable();
    Result<ProcessPointer> start();
    [[nodiscard]] Result<void> may_start() const;
    void forget_ended();
    void handle_close(int socket, remote::Closing why, const std::string& what);
    void handle_end(const ExitStatus& status, bool was_killed, const std::string& blame);
    [[nodiscard]] std::string name() const { return options_.recipe.confine.name.str(); }

    const HostedOptions options_;
    std::unique_ptr<remote::WebRole> web_;
    remote::Server core_;  ///< what its processes may ask of core

    std::mutex starting_;  ///< one start at a time; taken before mutex_
    mutable std::mutex mutex_;
    std::list<ProcessPointer> processes_;
    Crashes crashes_;
    std::optional<Started> started_;
    std::optional<Error> trouble_;

    std::unique_ptr<remote::RemotePlugin> plugin_;
    std::unique_ptr<Network> network_;
    std::unique_ptr<ImageSource> image_source_;
    std::unique_ptr<Storage> storage_;
};

}  // namespace banger::plugin_host

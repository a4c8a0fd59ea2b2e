#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "core/base/child.hpp"
#include "core/plugin_host/messages.hpp"
#include "core/remote/server.hpp"
#include "core/rpc/packet_channel.hpp"

namespace banger::plugin_host {

/// How a plugin is started: all that its process gets.
struct Recipe {
    std::string program;  ///< banger-plugin-host
    int file = -1;        ///< borrowed: the library or executable that was checked
    Confine confine;
    Start start;
    std::chrono::milliseconds patience{20'000};  ///< until it has started
    /// Gives each process a control group; it has none of the plugin's code yet, and gets it when
    /// this returns. Any thread; optional.
    std::function<void(const ProcessId& process)> contain = {};
    /// Gets the lines that it writes, from a thread of the process'.
    std::function<void(LogLevel level, std::string_view line)> log;
};

/// One process of a plugin, from its start to its end.
///
/// A thread of its own starts it (it dies with that thread), reads what it writes, and reaps it.
/// Safe from any thread but that one.
class HostedProcess {
public:
    /// Called once, from its thread, when it has ended: how, and what for it was killed (empty: it
    /// was not, or because nobody needs it any more).
    using OnEnd =
        std::function<void(const ExitStatus& status, bool was_killed, const std::string& blame)>;

    /// Starts it and waits until it has said what it is. Errc::unavailable with the reason when it
    /// refuses, ends, or does not answer in time. `core` serves what it asks of core.
    static Result<std::shared_ptr<HostedProcess>> start(const Recipe& recipe, remote::Server& core,
                                                        OnEnd on_end);
    /// Kills it when it still runs, and waits.
    ~HostedProcess();
    HostedProcess(const HostedProcess&) = delete;
    HostedProcess& operator=(const HostedProcess&) = delete;

    [[nodiscard]] const Started& started() const { return started_; }
    [[nodiscard]] std::int64_t pid() const { return pid_; }
    /// Core's end of its channel; good until taken.
    [[nodiscard]] rpc::PacketChannel& channel() { return *channel_; }
    /// Nothing when it was taken before.
    [[nodiscard]] std::optional<rpc::PacketChannel> take_channel() {
        return std::exchange(channel_, std::nullopt);
    }
    /// The number of the socket of channel(), also after it was taken.
    [[nodiscard]] int socket() const { return socket_; }

    /// Ends it at once; `blame` says for what, when it is its own fault.
    void kill(const std::string& blame);
    /// It has closed its channel: it gets a moment to end by itself.
    void expect_end();
    [[nodiscard]] bool has_ended() const;

private:
    explicit HostedProcess(remote::Server& core, OnEnd on_end)
        : core_(core), on_end_(std::move(on_end)) {}
    struct Ends;
    Result<void> begin(const Recipe& recipe);
    Result<void> shake_hands(const Recipe& recipe);
    [[nodiscard]] Error ended_early() const;
    void keep(const Recipe& recipe, Ends ends);
    void watch(const Recipe& recipe, Child& child, UniqueFd output, rpc::PacketChannel* asked);
    [[nodiscard]] bool connect_to_core(rpc::PacketChannel& asked);

    remote::Server& core_;
    const OnEnd on_end_;
    Started started_;
    std::int64_t pid_ = 0;
    std::optional<rpc::PacketChannel> channel_;
    int socket_ = -1;

    mutable std::mutex mutex_;  // of the following
    mutable std::condition_variable changed_;
    std::optional<Result<void>> spawned_;
    UniqueFd pidfd_;
    std::optional<ExitStatus> status_;
    bool was_killed_ = false;
    std::string blame_;

    std::jthread keeper_;
};

}  // namespace banger::plugin_host

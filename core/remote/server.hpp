#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "banger/host.hpp"
#include "banger/plugin.hpp"
#include "banger/result.hpp"
#include "core/rpc/packet_channel.hpp"

namespace banger::remote {

class WebRole;  // web_role.hpp

/// A plugin that is served: its instance outlives the server.
struct ServedPlugin {
    PluginName name;
    Roles roles;
    Settings settings;       ///< shown to the client
    WebRole* web = nullptr;  ///< besides the roles; outlives the server too
};

struct ServerLimits {
    std::size_t connections = 32;
    std::size_t calls = 16;                          ///< in flight at once, stuck ones too
    std::chrono::milliseconds call{60'000};          ///< then the call's stop token is triggered
    std::chrono::milliseconds long_call{3'600'000};  ///< the same for methods that take a Call
    std::chrono::milliseconds grace{10'000};  ///< to undo; then the caller is told without waiting
    std::chrono::milliseconds send{10'000};   ///< for a peer to read an answer
};

/// Serves the roles of plugins to the peers of packet channels.
///
/// Each connection has a thread and at most one call, so a plugin is called from as many threads as
/// there are connections with a call. Order of work for a packet: size and descriptors
/// (PacketChannel) → strict JSON → method in the table → parameters, all known and each in range →
/// number and kind of descriptors → the plugin. A packet that is not even a call is answered and
/// the connection closed. What the plugin throws is Errc::internal.
///
/// A peer that closes its connection, or its sending half, cancels the call: the stop token is
/// triggered, and the answer comes when everything is undone. The same happens at the deadline, and
/// the caller then gets Errc::timed_out. A plugin that does not come back within `grace` after that
/// keeps its thread and its place among the calls in flight, but not its caller. Who may connect is
/// for the program to decide before add().
class Server {
public:
    /// Told of what was refused and of stuck calls. From any thread.
    using Log = std::function<void(LogLevel level, std::string_view text)>;

    Server(std::vector<ServedPlugin> plugins, ServerLimits limits, Log log);
    /// Closes what is idle, triggers the stop token of every call and waits for all of them.
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// Serves this connection until either side closes it. Over the limit, the peer gets
    /// Errc::busy and is closed. Does not block.
    void add(rpc::PacketChannel channel);

    /// Lets calls in flight end by themselves and takes no new ones. False when there are still
    /// some after `patience`.
    bool drain(std::chrono::milliseconds patience);
    /// Triggers the stop token of every call in flight and closes what is idle. For good.
    void cancel();

    [[nodiscard]] std::size_t connections() const;
    [[nodiscard]] std::size_t calls_in_flight() const;
    /// No call is that much over its deadline and grace.
    [[nodiscard]] bool is_healthy(std::chrono::milliseconds overdue) const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace banger::remote

#pragma once

#include <chrono>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/rpc/fields.hpp"
#include "core/rpc/message.hpp"
#include "core/rpc/peer.hpp"
#include "core/rpc/wait.hpp"

namespace banger::client {

/// How one call is made. Everything may be left out.
struct CallOptions {
    /// Gets each progress reply, on the calling thread; the call is sent with `more`.
    std::function<void(const Progress&)> on_progress = {};
    /// Either ends the call with Errc::cancelled, once the daemon has undone what it made (20 s at
    /// most); the connection is of no use any more. A call that was quicker than the stop gives its
    /// result. stop_fd does so when it becomes readable (a signalfd), and stays the caller's.
    std::stop_token stop = {};
    int stop_fd = -1;
    /// For the whole call; zero is none. Errc::timed_out closes the connection too.
    std::chrono::milliseconds timeout{0};
};

/// A blocking connection to bangerd. No thread, no Asio, nothing at start: the command line lives
/// in milliseconds. One call at a time; one thread.
///
///     Connection daemon = BANGER_TRY(Connection::connect(path, 5s));
///     ListVmsReply all = BANGER_TRY(daemon.call<ListVmsReply>("io.banger.Vm.List", ListVms{}));
///     CreateVmReply made = BANGER_TRY(daemon.call<CreateVmReply>(
///         "io.banger.Vm.Create", create, {.on_progress = draw, .stop_fd = interrupts.get()}));
///     BANGER_TRY(daemon.stream<LogsOfVmReply>("io.banger.Vm.Logs", LogsOfVm{"sandbox", true},
///                                             [](const LogsOfVmReply& part) { return print(part);
///                                             }));
///
/// Errors: what the daemon answered, as its handler returned it (`Failed` becomes the same Error
/// again); Errc::unavailable when the connection is lost, and then is_open() is false;
/// Errc::corrupt when the answer is no message or does not fit Out, which means that the versions
/// differ. Fields that a newer daemon added are ignored.
class Connection {
public:
    /// Errc::unavailable when nobody listens there (also when the path does not exist), timed_out
    /// when the daemon does not accept, permission_denied.
    static Result<Connection> connect(const std::string& path, std::chrono::milliseconds timeout);
    /// Takes a connected stream socket.
    explicit Connection(UniqueFd socket) : socket_(std::move(socket)) {}

    /// One call, one result.
    template <class Out, class In>
    Result<Out> call(std::string_view method, const In& in, const CallOptions& options = {}) {
        const rpc::Json last = BANGER_TRY(exchange(
            {std::string(method), rpc::encode(in), static_cast<bool>(options.on_progress), false},
            options, {}));
        return read<Out>(last);
    }

    /// Every reply, the last one included, goes to `on_item`; its Error ends the call like a stop.
    template <class Out, class In, class OnItem>
    Result<void> stream(std::string_view method, const In& in, OnItem on_item,
                        const CallOptions& options = {}) {
        const auto hand_on = [&](const rpc::Json& each) -> Result<void> {
            const Out item = BANGER_TRY(read<Out>(each));
            return on_item(item);
        };
        const rpc::Json last = BANGER_TRY(
            exchange({std::string(method), rpc::encode(in), true, false}, options, hand_on));
        return hand_on(last);
    }

    /// No answer is waited for.
    template <class In>
    Result<void> notify(std::string_view method, const In& in, const CallOptions& options = {}) {
        return send({std::string(method), rpc::encode(in), false, true}, options);
    }

    [[nodiscard]] bool is_open() const { return socket_.is_valid(); }
    /// A pidfd of the daemon, to see when it has ended.
    [[nodiscard]] Result<UniqueFd> process() const { return rpc::peer_pidfd(socket_.get()); }
    void close() { socket_.reset(); }

private:
    using OnReply = std::function<Result<void>(const rpc::Json&)>;
    template <class Out>
    static Result<Out> read(const rpc::Json& json) {
        Result<Out> out = rpc::decode<Out>(json, "reply", rpc::Unknown::ignored);
        if (!out) return misfit(out.error());
        return out;
    }
    static Error misfit(const Error& error);

    /// Sends, hands every continuing reply on (progress to options.on_progress, else to on_reply),
    /// and returns the parameters of the last.
    Result<rpc::Json> exchange(const rpc::CallMessage& call, const CallOptions& options,
                               const OnReply& on_reply);
    Result<void> send(const rpc::CallMessage& call, const CallOptions& options);
    Result<rpc::ReplyMessage> cancel(Error why);
    Result<rpc::ReplyMessage> receive_last(const rpc::WaitLimits& limits,
                                           const CallOptions& options, const OnReply& on_reply);

    UniqueFd socket_;
    rpc::MessageSplitter splitter_;
};

}  // namespace banger::client

#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/rpc/fields.hpp"
#include "core/rpc/json.hpp"
#include "core/rpc/message.hpp"
#include "core/rpc/peer.hpp"

namespace boost::asio {
class io_context;
}

/// A Varlink server. In full:
///
///     // io.banger.Clock.varlink, embedded by banger_add_varlink() as rpc_text::io_banger_Clock:
///     //   interface io.banger.Clock
///     //   type Progress (stage: string, done: int, total: int, unit: string)
///     //   method Now() -> (seconds: int)
///     //   method Wait(seconds: int) -> (progress: ?Progress, waited: ?int)
///     //   error Failed (code: string, message: string, remedy: string)
///     struct NowReply { std::int64_t seconds; };
///     struct WaitFor { std::int64_t seconds; };
///     struct WaitReply { std::optional<Progress> progress; std::optional<std::int64_t> waited; };
///     // … Fields<> of the three …
///
///     Interface clock("io.banger.Clock", text);
///     clock.method<Nothing, NowReply>("Now", [](const Nothing&) -> Result<NowReply> {
///         return NowReply{std::time(nullptr)};                     // on the I/O thread: never
///         blocks
///     });
///     clock.job<WaitFor, WaitReply>("Wait", {.deadline = 10min},
///                                   [](const WaitFor& in, Reporter<WaitReply>& call) ->
///                                   Result<WaitReply> {
///         call.report({"waiting", 0, 0, Progress::Unit::none});    // on a worker: may block
///         …until call.stop().stop_requested()…
///         return WaitReply{{}, in.seconds};
///     });
///
///     boost::asio::io_context io;
///     Server server(io, {.vendor = "banger", .product = "bangerd", .version = "1"});
///     server.add(std::move(clock));
///     BANGER_TRY(server.listen(BANGER_TRY(listen_at(path))));
///     io.run();
///
/// Every method of Server is called on the thread that runs the io_context. Quick methods run there
/// too; jobs run on the server's own workers, which are started when first needed. Requests on one
/// connection are answered in order, the next begins when the one before is done. When the peer
/// closes its connection, or half of it, the stop token of its job fires and its other requests are
/// dropped; a job that is over its deadline is stopped likewise, and its caller gets
/// Errc::timed_out.
///
/// A job may take the connection itself (varlink's `upgrade`): once its reply is written the socket
/// is the job's, in whatever protocol the two have agreed on, and the server forgets it. Such a
/// call has to be the only one on its way, and its caller says nothing more before it has the
/// reply.
///
/// A handler's Error becomes `INTERFACE.Failed` (code, message, remedy). Parameters that do not fit
/// are org.varlink.service.InvalidParameter. org.varlink.service itself (GetInfo,
/// GetInterfaceDescription) is built in. No descriptor ever crosses: what comes in is closed
/// unread.
///
/// A peer that exceeds a limit, sends what is no message, or does not read its replies is dropped,
/// and Hooks::on_dropped hears of it: the server itself does not log.
namespace banger::rpc {

/// One call as its job sees it: also where progress goes. Belongs to the server; valid until the
/// handler returns. Safe from any thread.
class Request : public Call {
public:
    /// Whether the caller asked for several replies.
    [[nodiscard]] virtual bool wants_more() const = 0;
    /// One reply before the last. Without wants_more() it is dropped. Blocks while the peer has not
    /// read what was sent before; Errc::cancelled when it has gone or does not read at all.
    virtual Result<void> send(Json parameters) = 0;
    /// Whether the caller gives the connection away.
    [[nodiscard]] virtual bool wants_upgrade() const = 0;
    /// `take` gets the connected socket, on the I/O thread, once a reply that is no error is
    /// written. It is not called when the caller has gone. Only with wants_upgrade().
    virtual void upgrade(std::function<void(UniqueFd)> take) = 0;
};

/// The same with the type of the method's replies.
template <class Out>
class Reporter : public Call {
public:
    explicit Reporter(Request& request) : request_(&request) {}
    [[nodiscard]] std::stop_token stop() const override { return request_->stop(); }
    /// Sent as a reply `{"progress": …}` when the caller asked for more, else dropped; also dropped
    /// when the peer is slow, or the last one went less than 50 ms ago. Never blocks.
    void report(const Progress& progress) override { request_->report(progress); }
    [[nodiscard]] bool wants_more() const { return request_->wants_more(); }
    /// See Request::send().
    Result<void> send(const Out& out) { return request_->send(encode(out)); }
    /// See Request.
    [[nodiscard]] bool wants_upgrade() const { return request_->wants_upgrade(); }
    void upgrade(std::function<void(UniqueFd)> take) { request_->upgrade(std::move(take)); }

private:
    Request* request_;
};

struct JobOptions {
    /// From the start of the job, not counting the wait for a worker; zero is none.
    std::chrono::milliseconds deadline{0};
};

/// A name, its .varlink text, and a table of methods.
class Interface {
public:
    struct Method {
        std::string name;
        bool is_job = false;
        JobOptions options;
        std::function<ReplyMessage(const Json& parameters, Request& request)> run;
        Shape in;
        Shape out;
    };

    Interface(std::string name, std::string_view text) : name_(std::move(name)), text_(text) {}

    /// Runs on the I/O thread and must not block. handler: Result<Out>(const In&).
    template <class In, class Out, class Handler>
    void method(std::string name, Handler handler) {
        add<In, Out>(
            std::move(name), false, {},
            [handler = std::move(handler)](const In& in, Request& /*request*/) -> Result<Out> {
                return handler(in);
            });
    }
    /// Runs on a worker and may block. handler: Result<Out>(const In&, Reporter<Out>&). Over the
    /// limit of jobs that run or wait the caller gets Errc::busy.
    template <class In, class Out, class Handler>
    void job(std::string name, JobOptions options, Handler handler) {
        add<In, Out>(std::move(name), true, options,
                     [handler = std::move(handler)](const In& in, Request& request) -> Result<Out> {
                         Reporter<Out> reporter(request);
                         return handler(in, reporter);
                     });
    }

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] const std::string& text() const { return text_; }
    [[nodiscard]] const std::vector<Method>& methods() const { return methods_; }
    [[nodiscard]] const Method* find(std::string_view method) const;

private:
    template <class In, class Out, class Handler>
    void add(std::string method, bool is_job, JobOptions options, Handler handler) {
        // Two jobs run the same handler at once: it must not change what it captured.
        methods_.push_back({std::move(method), is_job, options,
                            [interface = name_, handler = std::move(handler)](
                                const Json& parameters, Request& request) {
                                std::string failed_at;
                                Result<In> in = decode<In>(parameters, "parameters",
                                                           Unknown::refused, &failed_at);
                                if (!in) return invalid_parameter(failed_at, in.error());
                                Result<Out> out = handler(*in, request);
                                if (!out) return failed_reply(interface, out.error());
                                return ReplyMessage{encode(*out), false, {}};
                            },
                            shape_of<In>(), shape_of<Out>()});
    }
    static ReplyMessage invalid_parameter(std::string_view where, const Error& error);

    std::string name_;
    std::string text_;
    std::vector<Method> methods_;
};

struct ServiceInfo {
    std::string vendor = {};
    std::string product = {};
    std::string version = {};
    std::string url = {};
};

struct ServerLimits {
    std::size_t connections = 128;          ///< in all; further ones wait in the kernel's queue
    std::size_t connections_per_uid = 100;  ///< further ones are closed at once
    std::size_t running_jobs = 32;          ///< workers
    std::size_t waiting_jobs = 64;
    /// Requests read ahead on one connection while one of its jobs runs.
    std::size_t read_ahead_bytes = max_message_bytes;
    /// Not yet read by one peer: past this its next request waits.
    std::size_t output_bytes = std::size_t{1} << 20;
    /// A peer that has not read, or has sent half a message, for this long is dropped.
    std::chrono::milliseconds patience{30'000};
};

/// What the daemon wants to know. All called on the I/O thread; each may be empty.
struct ServerHooks {
    /// Decides at accept; an Error closes the connection. Empty: this process' own user and root.
    std::function<Result<void>(const PeerCredentials&)> may_connect = {};
    /// A peer was refused or dropped, or accept(2) failed: for the log.
    std::function<void(const Error&)> on_dropped = {};
    /// The number of connections or of requests in flight has changed: read activity().
    std::function<void()> on_activity = {};
};

struct Activity {
    std::size_t connections = 0;
    std::size_t requests = 0;  ///< being answered, or jobs whose caller has gone but that still run
    friend bool operator==(const Activity&, const Activity&) = default;
};

class Server {
public:
    Server(boost::asio::io_context& io, ServiceInfo info, ServerLimits limits = {},
           ServerHooks hooks = {});
    /// Closes everything, stops the jobs, and blocks until they have returned. The io_context may
    /// have been stopped before, and must outlive this.
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// Before listen(). Errc::already_exists for a name that is there.
    Result<void> add(Interface interface);
    /// Takes a listening stream socket, from listen_at() or inherited_listeners(). Any number.
    Result<void> listen(UniqueFd listener);
    /// Takes one connected stream socket (a socketpair in a test); the policy is asked all the
    /// same.
    Result<void> serve(UniqueFd connection);

    [[nodiscard]] Activity activity() const;
    /// Closes the listeners; connections go on.
    void stop_accepting();
    /// stop_accepting(), closes each connection once it has nothing in flight, then calls
    /// `drained`. Jobs are not stopped: use stop_jobs() when patience ends.
    void drain(std::function<void()> drained);
    /// Fires the stop token of every job.
    void stop_jobs();

    class Inside;  ///< in server.cpp

private:
    std::shared_ptr<Inside> inside_;
};

}  // namespace banger::rpc

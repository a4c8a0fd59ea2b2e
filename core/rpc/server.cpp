#include "core/rpc/server.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "core/base/names.hpp"
#include "core/rpc/idl.hpp"
#include "core/rpc/role_fields.hpp"
#include "core/rpc/upgrade.hpp"
#include "varlink/org.varlink.service.hpp"

namespace banger::rpc {

namespace asio = boost::asio;
using Stream = asio::local::stream_protocol;
using boost::system::error_code;

namespace {

constexpr std::size_t chunk_bytes = std::size_t{16} << 10;
/// Replies before the last that may wait for a slow peer: progress is dropped past this, and
/// Request::send() waits.
constexpr std::size_t room_bytes = std::size_t{256} << 10;
constexpr std::chrono::milliseconds progress_pause{50};
/// After accept(2) failed for want of descriptors or memory.
constexpr std::chrono::milliseconds accept_pause{200};
constexpr std::string_view service_name = "org.varlink.service";

struct ServiceInfoReply {
    std::string vendor;
    std::string product;
    std::string version;
    std::string url;
    std::vector<std::string> interfaces;
};
struct InterfaceNamed {
    std::string interface;
};
struct DescriptionReply {
    std::string description;
};

}  // namespace

template <>
struct Fields<ServiceInfoReply> {
    static constexpr auto list = fields(
        field("vendor", &ServiceInfoReply::vendor), field("product", &ServiceInfoReply::product),
        field("version", &ServiceInfoReply::version), field("url", &ServiceInfoReply::url),
        field("interfaces", &ServiceInfoReply::interfaces));
};
template <>
struct Fields<InterfaceNamed> {
    static constexpr auto list = fields(field("interface", &InterfaceNamed::interface));
};
template <>
struct Fields<DescriptionReply> {
    static constexpr auto list = fields(field("description", &DescriptionReply::description));
};

// ---- Interface ----

const Interface::Method* Interface::find(std::string_view method) const {
    for (const Method& each : methods_)
        if (each.name == method) return &each;
    return nullptr;
}

ReplyMessage Interface::invalid_parameter(std::string_view where, const Error& error) {
    // The specification's error has the field's name alone; message and remedy are for our own
    // client.
    const std::string_view root = "parameters.";
    if (where.starts_with(root)) where.remove_prefix(root.size());
    Json::Object parameters;
    parameters.push_back({"parameter", Json(where)});
    parameters.push_back({"message", Json(error.message)});
    parameters.push_back({"remedy", Json(error.remedy)});
    return {Json(std::move(parameters)), false, std::string(service_name) + ".InvalidParameter"};
}

namespace {

/// The reply as text with its NUL; one that is too large becomes the error that says so.
std::string framed(std::string_view interface, const ReplyMessage& reply) {
    Result<std::string> text = write_message(reply);
    if (!text) text = write_message(failed_reply(interface, text.error()));
    return std::move(text).value_or("{}") + '\0';
}

/// Handlers do not throw; one that does must not take the daemon with it.
ReplyMessage run_guarded(const Interface& interface, const Interface::Method& method,
                         const Json& parameters, Request& request) {
    std::string why;
    try {
        return method.run(parameters, request);
    } catch (const std::exception& failure) {
        why = failure.what();
    } catch (...) {
        why = "something that is no exception";
    }
    return failed_reply(interface.name(), {Errc::internal, method.name + " threw: " + why});
}

/// What quick methods get: they have neither time nor replies before the last.
class QuickRequest final : public Request {
public:
    [[nodiscard]] std::stop_token stop() const override { return {}; }
    void report(const Progress& /*progress*/) override {}
    [[nodiscard]] bool wants_more() const override { return false; }
    Result<void> send(Json /*parameters*/) override { return {}; }
    [[nodiscard]] bool wants_upgrade() const override { return false; }
    void upgrade(std::function<void(UniqueFd)> /*take*/) override {}
};

/// How much one peer has not read yet: counted where replies are made (workers) and where they are
/// written (the I/O thread).
class Backlog {
public:
    void add(std::size_t bytes) {
        const std::lock_guard lock(mutex_);
        bytes_ += bytes;
    }
    void remove(std::size_t bytes) {
        const std::lock_guard lock(mutex_);
        bytes_ -= bytes;
        room_.notify_all();
    }
    void close() {
        const std::lock_guard lock(mutex_);
        is_closed_ = true;
        room_.notify_all();
    }
    [[nodiscard]] std::size_t bytes() const {
        const std::lock_guard lock(mutex_);
        return bytes_;
    }
    [[nodiscard]] bool has_room() const {
        const std::lock_guard lock(mutex_);
        return !is_closed_ && bytes_ < room_bytes;
    }
    /// False when the peer is gone or the wait was stopped.
    bool wait_for_room(const std::stop_token& stop) {
        std::unique_lock lock(mutex_);
        room_.wait(lock, stop, [&] { return is_closed_ || bytes_ < room_bytes; });
        return !is_closed_ && !stop.stop_requested();
    }

private:
    mutable std::mutex mutex_;
    std::condition_variable_any room_;
    std::size_t bytes_ = 0;
    bool is_closed_ = false;
};

}  // namespace

// ---- one job ----

class Connection;

/// A job from its request to its reply. Made and finished on the I/O thread, run on a worker; it
/// stays when its connection goes.
class Job final : public Request, public std::enable_shared_from_this<Job> {
public:
    Job(asio::io_context& io, const Interface& interface, const Interface::Method& method,
        AnyCall any, std::weak_ptr<Connection> connection, std::shared_ptr<Backlog> backlog)
        : interface_(interface),
          method_(method),
          call_(std::move(any.call)),
          is_upgrade_(any.is_upgrade),
          connection_(std::move(connection)),
          io_(io),
          backlog_(std::move(backlog)),
          deadline_(io) {}

    [[nodiscard]] std::stop_token stop() const override { return stop_.get_token(); }
    [[nodiscard]] bool wants_more() const override { return call_.more; }
    void report(const Progress& progress) override;
    Result<void> send(Json parameters) override;
    [[nodiscard]] bool wants_upgrade() const override { return is_upgrade_; }
    void upgrade(std::function<void(UniqueFd)> take) override { take_ = std::move(take); }

    /// On a worker, once: the last reply, framed.
    std::string run();
    /// On the I/O thread, after that: who wants the connection.
    [[nodiscard]] std::function<void(UniqueFd)> take() { return std::exchange(take_, nullptr); }
    /// On the I/O thread.
    void start_deadline();
    void stop_deadline() { deadline_.cancel(); }
    void request_stop() { stop_.request_stop(); }

    [[nodiscard]] const std::weak_ptr<Connection>& connection() const { return connection_; }
    [[nodiscard]] bool is_oneway() const { return call_.oneway; }
    [[nodiscard]] bool has_deadline() const { return method_.options.deadline.count() > 0; }

private:
    void hand_over(const ReplyMessage& reply);
    bool is_due(const Progress& progress);

    const Interface& interface_;
    const Interface::Method& method_;
    CallMessage call_;
    bool is_upgrade_;
    std::weak_ptr<Connection> connection_;
    asio::io_context& io_;
    std::shared_ptr<Backlog> backlog_;
    asio::steady_timer deadline_;
    std::stop_source stop_;
    std::atomic<bool> is_late_ = false;
    std::function<void(UniqueFd)> take_;
    std::mutex progress_mutex_;
    std::string last_stage_;
    std::chrono::steady_clock::time_point last_progress_;
};

// ---- workers ----

/// A bounded pool, whose threads are started when there is work for them.
class Workers {
public:
    Workers(std::size_t most_threads, std::size_t most_waiting)
        : most_threads_(most_threads), most_waiting_(most_waiting) {}

    /// False when there is no place.
    bool add(std::function<void()> task);
    /// Drops what waits; returns when the running ones have ended.
    void finish();

private:
    void run();

    std::size_t most_threads_;
    std::size_t most_waiting_;
    std::mutex mutex_;
    std::condition_variable work_;
    std::deque<std::function<void()>> waiting_;
    std::vector<std::thread> threads_;
    std::size_t running_ = 0;
    bool is_finishing_ = false;
};

bool Workers::add(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    const std::size_t pending = waiting_.size() + running_;
    if (pending >= threads_.size() && threads_.size() < most_threads_) {
        try {
            threads_.emplace_back([this] { run(); });
        } catch (const std::system_error&) {
            // The system has no thread left; those that run will come to it.
            if (threads_.empty()) return false;
        }
    } else if (pending >= most_threads_ + most_waiting_) {
        return false;
    }
    waiting_.push_back(std::move(task));
    work_.notify_one();
    return true;
}

void Workers::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        work_.wait(lock, [&] { return is_finishing_ || !waiting_.empty(); });
        if (waiting_.empty()) return;
        std::function<void()> task = std::move(waiting_.front());
        waiting_.pop_front();
        ++running_;
        lock.unlock();
        task();
        task = {};  // what it holds may end here, but not under the lock
        lock.lock();
        --running_;
    }
}

void Workers::finish() {
    std::deque<std::function<void()>> dropped;
    {
        const std::lock_guard lock(mutex_);
        is_finishing_ = true;
        dropped.swap(waiting_);
        work_.notify_all();
    }
    for (std::thread& thread : threads_)
        thread.join();
    threads_.clear();
}

// ---- the server ----

class Server::Inside : public std::enable_shared_from_this<Server::Inside> {
public:
    Inside(asio::io_context& io, ServiceInfo info, ServerLimits limits, ServerHooks hooks);

    Result<void> add(Interface interface);
    Result<void> listen(UniqueFd listener);
    Result<void> serve(UniqueFd connection);
    void shut_down();

    [[nodiscard]] Activity activity() const { return {connections_.size(), jobs_.size()}; }
    void stop_accepting();
    void drain(std::function<void()> drained);
    void stop_jobs();

    // For connections.
    [[nodiscard]] const ServerLimits& limits() const { return limits_; }
    [[nodiscard]] bool is_draining() const { return static_cast<bool>(drained_); }
    /// Answers at once (the reply), or begins a job (nothing).
    std::optional<ReplyMessage> handle(AnyCall any, const std::shared_ptr<Connection>& connection,
                                       std::shared_ptr<Job>& job);
    void forget(const std::shared_ptr<Connection>& connection, const std::optional<Error>& why);

private:
    void accept(const std::shared_ptr<Stream::acceptor>& acceptor);
    void accept_one(const std::shared_ptr<Stream::acceptor>& acceptor);
    void resume_accepting();
    Result<void> admit(Stream::socket socket);
    Result<void> begin(const Interface& interface, const Interface::Method& method, AnyCall any,
                       const std::shared_ptr<Connection>& connection, std::shared_ptr<Job>& job);
    void finished(const std::shared_ptr<Job>& job, std::string reply);
    ReplyMessage describe(std::string_view method, const Json& parameters) const;
    ReplyMessage unknown_method(const Interface& interface, const std::string& method) const;
    void notify_activity();
    void notify_dropped(const Error& error);

    asio::io_context& io_;
    ServiceInfo info_;
    ServerLimits limits_;
    ServerHooks hooks_;
    std::map<std::string, Interface, std::less<>> interfaces_;
    std::vector<std::shared_ptr<Stream::acceptor>> acceptors_;
    std::vector<std::shared_ptr<Stream::acceptor>> paused_;
    asio::steady_timer accept_timer_;
    std::set<std::shared_ptr<Connection>> connections_;
    std::map<uid_t, std::size_t> per_uid_;
    std::set<std::shared_ptr<Job>> jobs_;
    std::function<void()> drained_;
    Workers workers_;
};

// ---- one connection ----

/// Everything here runs on the I/O thread.
class Connection : public std::enable_shared_from_this<Connection> {
public:
    Connection(std::shared_ptr<Server::Inside> server, asio::io_context& io, Stream::socket socket,
               uid_t peer)
        : server_(std::move(server)),
          socket_(std::move(socket)),
          peer_(peer),
          read_timer_(io),
          write_timer_(io),
          backlog_(std::make_shared<Backlog>()) {}

    void start() { read(); }
    [[nodiscard]] uid_t peer() const { return peer_; }
    [[nodiscard]] const std::shared_ptr<Backlog>& backlog() const { return backlog_; }

    /// A reply before the last, already counted in the backlog.
    void send_counted(std::string text);
    /// The job is done; a oneway call has no reply. `take`, if any, gets the connection after it.
    void job_done(std::string reply, bool is_oneway, std::function<void(UniqueFd)> take);
    /// `why` is empty when the peer went by itself.
    void close(const std::optional<Error>& why);
    void close_if_drained();

private:
    void read();
    void received(error_code error, std::size_t count);
    void peer_closed();
    void process();
    void process_one(const std::string& text);
    void watch_half_message(bool has_taken_one);
    void send(std::string text);
    void write();
    void written(error_code error, std::size_t count);
    void give_away();

    std::shared_ptr<Server::Inside> server_;
    Stream::socket socket_;
    uid_t peer_;
    asio::steady_timer read_timer_;
    asio::steady_timer write_timer_;
    std::shared_ptr<Backlog> backlog_;
    std::shared_ptr<Job> job_;
    MessageSplitter splitter_;
    std::array<char, chunk_bytes> chunk_{};
    std::deque<std::string> replies_;
    std::size_t written_ = 0;             ///< of the first reply
    std::function<void(UniqueFd)> take_;  ///< who gets the connection when the reply is written
    bool is_reading_ = false;             ///< a read is under way
    bool is_upgrading_ = false;           ///< and none begins any more
    bool is_waiting_for_rest_ = false;
    bool has_peer_closed_ = false;
    bool is_closed_ = false;
};

void Connection::read() {
    is_reading_ = true;
    socket_.async_read_some(asio::buffer(chunk_),
                            [self = shared_from_this()](error_code error, std::size_t count) {
                                self->received(error, count);
                            });
}

void Connection::received(error_code error, std::size_t count) {
    is_reading_ = false;
    if (is_closed_) return;
    if (error) return peer_closed();
    const Result<void> added = splitter_.add({chunk_.data(), count});
    if (!added) return close(added.error());
    process();
    if (is_closed_) return;
    if (splitter_.pending() > server_->limits().read_ahead_bytes + chunk_bytes)
        return close(Error(Errc::no_space, "a peer sends requests faster than it reads replies"));
    if (!is_upgrading_) read();
}

/// What it asked for last is cancelled and what has not begun is dropped. A peer that closed only
/// its sending half may be waiting for the answer, which comes when everything is undone.
void Connection::peer_closed() {
    has_peer_closed_ = true;
    read_timer_.cancel();
    if (job_)
        job_->request_stop();
    else if (replies_.empty())
        close({});
}

void Connection::process() {
    bool has_taken_one = false;
    // One after the other, so that replies come in the order of the requests; none while the peer
    // does not read those it has.
    while (!is_closed_ && !has_peer_closed_ && !job_ &&
           backlog_->bytes() < server_->limits().output_bytes) {
        const std::optional<std::string> text = splitter_.next();
        if (!text) break;
        has_taken_one = true;
        process_one(*text);
    }
    if (!is_closed_) watch_half_message(has_taken_one);
}

void Connection::process_one(const std::string& text) {
    Result<AnyCall> any = read_any_call(text);
    if (!any) return close(std::move(any).error().context("reading what a peer sent"));
    const CallMessage& call = any->call;
    const bool is_oneway = call.oneway;
    is_upgrading_ = any->is_upgrade;
    // What is read from here on may be of the other protocol: there must be no read under way.
    if (is_upgrading_ && (is_reading_ || splitter_.pending() > 0))
        return close(Error(Errc::corrupt, "a peer says more beside a call with \"upgrade\""));
    const std::string interface = call.method.substr(0, call.method.rfind('.'));
    const std::optional<ReplyMessage> reply =
        server_->handle(*std::move(any), shared_from_this(), job_);
    if (!reply) return;
    is_upgrading_ = false;  // only a job can take it
    if (!is_oneway) send(framed(interface, *reply));
}

/// Half a message may wait for its rest, but not for ever: it would keep the daemon from being
/// idle.
void Connection::watch_half_message(bool has_taken_one) {
    if (!splitter_.is_inside()) {
        is_waiting_for_rest_ = false;
        read_timer_.cancel();
        return;
    }
    if (is_waiting_for_rest_ && !has_taken_one) return;
    is_waiting_for_rest_ = true;
    read_timer_.expires_after(server_->limits().patience);
    read_timer_.async_wait([self = shared_from_this()](error_code error) {
        if (error || self->is_closed_ || !self->is_waiting_for_rest_) return;
        self->close(Error(Errc::timed_out, "a peer sent half a message and no more"));
    });
}

void Connection::send_counted(std::string text) {
    if (is_closed_) return;
    replies_.push_back(std::move(text));
    if (replies_.size() == 1) write();
}

void Connection::send(std::string text) {
    backlog_->add(text.size());
    send_counted(std::move(text));
}

void Connection::write() {
    write_timer_.expires_after(server_->limits().patience);
    write_timer_.async_wait([self = shared_from_this()](error_code error) {
        if (error || self->is_closed_) return;
        self->close(Error(Errc::timed_out, "a peer does not read its replies"));
    });
    socket_.async_write_some(asio::buffer(replies_.front()) + written_,
                             [self = shared_from_this()](error_code error, std::size_t count) {
                                 self->written(error, count);
                             });
}

void Connection::written(error_code error, std::size_t count) {
    if (is_closed_) return;
    if (error) return close({});
    backlog_->remove(count);
    written_ += count;
    if (written_ == replies_.front().size()) {
        replies_.pop_front();
        written_ = 0;
    }
    if (!replies_.empty()) return write();
    write_timer_.cancel();
    if (take_) return give_away();
    // What was written may have been progress: the answer of a job that still runs is to come.
    if (has_peer_closed_ && !job_) return close({});
    process();
    close_if_drained();
}

/// No read is under way, and nothing is left to write: the socket is as if just accepted.
void Connection::give_away() {
    error_code error;
    UniqueFd socket(socket_.release(error));
    const std::function<void(UniqueFd)> take = std::exchange(take_, nullptr);
    close({});
    if (!error) take(std::move(socket));
}

void Connection::job_done(std::string reply, bool is_oneway, std::function<void(UniqueFd)> take) {
    job_.reset();
    if (is_closed_) return;
    take_ = std::move(take);
    if (std::exchange(is_upgrading_, false) && !take_) read();
    if (!is_oneway) send(std::move(reply));
    if (has_peer_closed_ && replies_.empty()) return close({});
    process();
    close_if_drained();
}

void Connection::close_if_drained() {
    if (!is_closed_ && server_->is_draining() && !job_ && replies_.empty()) close({});
}

void Connection::close(const std::optional<Error>& why) {
    if (is_closed_) return;
    is_closed_ = true;
    error_code ignored;
    socket_.close(ignored);
    read_timer_.cancel();
    write_timer_.cancel();
    backlog_->close();
    if (job_) job_->request_stop();
    job_.reset();
    server_->forget(shared_from_this(), why);
}

// ---- Job ----

void Job::hand_over(const ReplyMessage& reply) {
    std::string text = framed(interface_.name(), reply);
    backlog_->add(text.size());
    asio::post(io_, [connection = connection_, text = std::move(text)]() mutable {
        if (const std::shared_ptr<Connection> still = connection.lock())
            still->send_counted(std::move(text));
    });
}

bool Job::is_due(const Progress& progress) {
    const std::lock_guard lock(progress_mutex_);
    const auto now = std::chrono::steady_clock::now();
    if (progress.stage == last_stage_ && now - last_progress_ < progress_pause) return false;
    last_stage_ = progress.stage;
    last_progress_ = now;
    return true;
}

void Job::report(const Progress& progress) {
    if (!call_.more || !backlog_->has_room() || !is_due(progress)) return;
    Json::Object parameters;
    parameters.push_back({"progress", encode(progress)});
    hand_over({Json(std::move(parameters)), true, {}});
}

Result<void> Job::send(Json parameters) {
    if (!call_.more) return {};
    if (!backlog_->wait_for_room(stop_.get_token()))
        return Error(Errc::cancelled, "the caller has gone");
    hand_over({std::move(parameters), true, {}});
    return {};
}

std::string Job::run() {
    if (stop_.stop_requested())
        return framed(
            interface_.name(),
            failed_reply(interface_.name(), {Errc::cancelled, "stopped before it began"}));
    ReplyMessage reply = run_guarded(interface_, method_, call_.parameters, *this);
    if (!reply.error.empty()) take_ = nullptr;
    if (is_late_ && !reply.error.empty()) {
        const auto seconds = std::chrono::ceil<std::chrono::seconds>(method_.options.deadline);
        reply = failed_reply(interface_.name(),
                             {Errc::timed_out, method_.name + " took longer than " +
                                                   std::to_string(seconds.count()) + " s"});
    }
    return framed(interface_.name(), reply);
}

void Job::start_deadline() {
    deadline_.expires_after(method_.options.deadline);
    deadline_.async_wait([self = shared_from_this()](error_code error) {
        if (error) return;
        self->is_late_ = true;
        self->request_stop();
    });
}

// ---- Server::Inside ----

Server::Inside::Inside(asio::io_context& io, ServiceInfo info, ServerLimits limits,
                       ServerHooks hooks)
    : io_(io),
      info_(std::move(info)),
      limits_(limits),
      hooks_(std::move(hooks)),
      accept_timer_(io),
      workers_(limits.running_jobs, limits.waiting_jobs) {
    if (hooks_.may_connect) return;
    hooks_.may_connect = [](const PeerCredentials& peer) -> Result<void> {
        if (peer.uid == ::geteuid() || peer.uid == 0) return {};
        return Error(Errc::permission_denied,
                     "user " + std::to_string(peer.uid) + " may not connect");
    };
}

Result<void> Server::Inside::add(Interface interface) {
    std::string name = interface.name();
    if (name == service_name || !interfaces_.try_emplace(name, std::move(interface)).second)
        return Error(Errc::already_exists, "the interface " + name + " is there already");
    return {};
}

Result<void> Server::Inside::listen(UniqueFd listener) {
    auto acceptor = std::make_shared<Stream::acceptor>(io_);
    error_code error;
    acceptor->assign(Stream(), listener.get(), error);
    if (error) return Error::from_errno(error.value(), "taking a listening socket");
    static_cast<void>(listener.release());
    acceptor->native_non_blocking(true, error);
    if (error) return Error::from_errno(error.value(), "taking a listening socket");
    acceptors_.push_back(acceptor);
    accept(acceptor);
    return {};
}

Result<void> Server::Inside::serve(UniqueFd connection) {
    Stream::socket socket(io_);
    error_code error;
    socket.assign(Stream(), connection.get(), error);
    if (error) return Error::from_errno(error.value(), "taking a connection");
    static_cast<void>(connection.release());
    return admit(std::move(socket));
}

void Server::Inside::accept(const std::shared_ptr<Stream::acceptor>& acceptor) {
    if (!acceptor->is_open()) return;
    if (connections_.size() >= limits_.connections) {
        paused_.push_back(acceptor);
        return;
    }
    // Asio's own accept leaves a moment in which a child process could inherit the connection, and
    // then its peer would never see it closed.
    acceptor->async_wait(Stream::acceptor::wait_read,
                         [self = shared_from_this(), acceptor](error_code error) {
                             if (!error) self->accept_one(acceptor);
                         });
}

void Server::Inside::accept_one(const std::shared_ptr<Stream::acceptor>& acceptor) {
    if (!acceptor->is_open()) return;
    UniqueFd socket(
        ::accept4(acceptor->native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    const int number = errno;
    if (socket) {
        if (const Result<void> served = serve(std::move(socket)); !served)
            notify_dropped(served.error());
        return accept(acceptor);
    }
    const bool is_passing = number == EAGAIN || number == EINTR || number == ECONNABORTED;
    if (is_passing) return accept(acceptor);
    notify_dropped(Error::from_errno(number, "accepting a connection"));
    // Out of descriptors: the connection stays in the queue, so trying at once would spin.
    paused_.push_back(acceptor);
    accept_timer_.expires_after(accept_pause);
    accept_timer_.async_wait([self = shared_from_this()](error_code aborted) {
        if (!aborted) self->resume_accepting();
    });
}

void Server::Inside::resume_accepting() {
    std::vector<std::shared_ptr<Stream::acceptor>> paused;
    paused.swap(paused_);
    for (const std::shared_ptr<Stream::acceptor>& acceptor : paused)
        accept(acceptor);
}

Result<void> Server::Inside::admit(Stream::socket socket) {
    const PeerCredentials peer = BANGER_TRY(peer_credentials(socket.native_handle()));
    BANGER_TRY(hooks_.may_connect(peer).context("refusing process " + std::to_string(peer.pid)));
    if (per_uid_[peer.uid] >= limits_.connections_per_uid)
        return Error(Errc::busy, "user " + std::to_string(peer.uid) + " has too many connections");
    ++per_uid_[peer.uid];
    const auto connection =
        std::make_shared<Connection>(shared_from_this(), io_, std::move(socket), peer.uid);
    connections_.insert(connection);
    connection->start();
    notify_activity();
    return {};
}

void Server::Inside::forget(const std::shared_ptr<Connection>& connection,
                            const std::optional<Error>& why) {
    if (connections_.erase(connection) == 0) return;
    if (--per_uid_[connection->peer()] == 0) per_uid_.erase(connection->peer());
    if (why) notify_dropped(*why);
    resume_accepting();
    notify_activity();
}

std::optional<ReplyMessage> Server::Inside::handle(AnyCall any,
                                                   const std::shared_ptr<Connection>& connection,
                                                   std::shared_ptr<Job>& job) {
    const CallMessage& call = any.call;
    const std::size_t dot = call.method.rfind('.');
    const std::string name = call.method.substr(0, dot);
    const std::string method_name = call.method.substr(dot + 1);
    if (name == service_name) return describe(method_name, call.parameters);
    const auto found = interfaces_.find(name);
    if (found == interfaces_.end()) return service_error("InterfaceNotFound", "interface", name);
    const Interface& interface = found->second;
    const Interface::Method* method = interface.find(method_name);
    if (method == nullptr) return unknown_method(interface, method_name);
    if (!method->is_job) {
        QuickRequest request;
        return run_guarded(interface, *method, call.parameters, request);
    }
    const Result<void> begun = begin(interface, *method, std::move(any), connection, job);
    if (!begun) return failed_reply(name, begun.error());
    return std::nullopt;
}

Result<void> Server::Inside::begin(const Interface& interface, const Interface::Method& method,
                                   AnyCall any, const std::shared_ptr<Connection>& connection,
                                   std::shared_ptr<Job>& job) {
    auto fresh = std::make_shared<Job>(io_, interface, method, std::move(any), connection,
                                       connection->backlog());
    const bool has_place = workers_.add([self = shared_from_this(), fresh] {
        if (fresh->has_deadline()) asio::post(self->io_, [fresh] { fresh->start_deadline(); });
        asio::post(self->io_, [self, fresh, reply = fresh->run()]() mutable {
            self->finished(fresh, std::move(reply));
        });
    });
    if (!has_place)
        return Error(Errc::busy, "bangerd has too much to do", "Try again in a moment.");
    jobs_.insert(fresh);
    job = std::move(fresh);
    notify_activity();
    return {};
}

void Server::Inside::finished(const std::shared_ptr<Job>& job, std::string reply) {
    job->stop_deadline();
    if (jobs_.erase(job) == 0) return;
    if (const std::shared_ptr<Connection> connection = job->connection().lock())
        connection->job_done(std::move(reply), job->is_oneway(), job->take());
    notify_activity();
}

ReplyMessage Server::Inside::describe(std::string_view method, const Json& parameters) const {
    if (method == "GetInfo") {
        ServiceInfoReply reply{info_.vendor, info_.product, info_.version, info_.url, {}};
        reply.interfaces.emplace_back(service_name);
        for (const auto& [name, interface] : interfaces_)
            reply.interfaces.push_back(name);
        return {encode(reply), false, {}};
    }
    if (method != "GetInterfaceDescription")
        return service_error("MethodNotFound", "method", method);
    const Result<InterfaceNamed> wanted = decode<InterfaceNamed>(parameters, "parameters");
    if (!wanted) return service_error("InvalidParameter", "parameter", "interface");
    if (wanted->interface == service_name)
        return {encode(DescriptionReply{std::string(varlink::org_varlink_service)}), false, {}};
    const auto found = interfaces_.find(wanted->interface);
    if (found == interfaces_.end())
        return service_error("InterfaceNotFound", "interface", wanted->interface);
    return {encode(DescriptionReply{found->second.text()}), false, {}};
}

ReplyMessage Server::Inside::unknown_method(const Interface& interface,
                                            const std::string& method) const {
    const Result<Idl> idl = Idl::parse(interface.text());
    const bool is_promised = idl && idl->find_method(method) != nullptr;
    return service_error(is_promised ? "MethodNotImplemented" : "MethodNotFound", "method", method);
}

void Server::Inside::stop_accepting() {
    for (const std::shared_ptr<Stream::acceptor>& acceptor : acceptors_) {
        error_code ignored;
        acceptor->close(ignored);
    }
    acceptors_.clear();
    paused_.clear();
    accept_timer_.cancel();
}

void Server::Inside::drain(std::function<void()> drained) {
    stop_accepting();
    drained_ = std::move(drained);
    // close() takes them out of the set.
    const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
    for (const std::shared_ptr<Connection>& connection : all)
        connection->close_if_drained();
    notify_activity();
}

void Server::Inside::stop_jobs() {
    for (const std::shared_ptr<Job>& job : jobs_)
        job->request_stop();
}

void Server::Inside::shut_down() {
    hooks_ = {};
    drained_ = {};
    stop_accepting();
    stop_jobs();
    const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
    for (const std::shared_ptr<Connection>& connection : all)
        connection->close({});
    workers_.finish();
    jobs_.clear();
}

void Server::Inside::notify_activity() {
    if (hooks_.on_activity) hooks_.on_activity();
    if (!drained_ || !connections_.empty() || !jobs_.empty()) return;
    asio::post(io_, std::exchange(drained_, {}));
}

void Server::Inside::notify_dropped(const Error& error) {
    if (hooks_.on_dropped) hooks_.on_dropped(error);
}

// ---- Server ----

Server::Server(asio::io_context& io, ServiceInfo info, ServerLimits limits, ServerHooks hooks)
    : inside_(std::make_shared<Inside>(io, std::move(info), limits, std::move(hooks))) {}
Server::~Server() { inside_->shut_down(); }
Result<void> Server::add(Interface interface) { return inside_->add(std::move(interface)); }
Result<void> Server::listen(UniqueFd listener) { return inside_->listen(std::move(listener)); }
Result<void> Server::serve(UniqueFd connection) { return inside_->serve(std::move(connection)); }
Activity Server::activity() const { return inside_->activity(); }
void Server::stop_accepting() { inside_->stop_accepting(); }
void Server::drain(std::function<void()> drained) { inside_->drain(std::move(drained)); }
void Server::stop_jobs() { inside_->stop_jobs(); }

}  // namespace banger::rpc

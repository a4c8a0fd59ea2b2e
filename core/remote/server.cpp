#include "core/remote/server.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "core/base/names.hpp"
#include "core/base/version.hpp"
#include "core/remote/description.hpp"
#include "core/remote/marshal.hpp"
#include "core/rpc/message.hpp"

namespace banger::remote {

namespace {

using Clock = std::chrono::steady_clock;
using rpc::Json;
using rpc::PacketChannel;

/// Who the errors of an answer come from (rpc::failed_reply).
constexpr std::string_view error_interface = "banger";
/// More than a person reads; an error must always fit into a packet.
constexpr std::size_t max_sentence = 8192;
constexpr std::chrono::milliseconds least_between_progress{50};
constexpr Clock::time_point never = Clock::time_point::max();

Error bounded(Error error) {
    error.message.resize(std::min(error.message.size(), max_sentence));
    error.remedy.resize(std::min(error.remedy.size(), max_sentence));
    return error;
}

/// The text of an answer that fits into a packet.
std::string packet_of(const rpc::ReplyMessage& reply) {
    const Result<std::string> text = rpc::write_message(reply);
    if (text && text->size() <= rpc::max_packet_bytes) return *text;
    const Error error(Errc::no_space, "the answer is larger than one message may be");
    return rpc::write_message(rpc::failed_reply(error_interface, error)).value();
}

/// One call of a plugin, and how its caller hears of it. Shared by the connection's thread and the
/// watch, which may look at it a while after it ended: the channel is used before the answer only,
/// and its thread sends that (or learns that the watch did) before it closes the channel.
class RunningCall final : public Call {
public:
    RunningCall(PacketChannel& channel, std::string method, const ServerLimits& limits,
                bool is_long)
        : channel_(channel),
          socket_(channel.socket().get()),
          method_(std::move(method)),
          limits_(limits),
          deadline_(Clock::now() + (is_long ? limits.long_call : limits.call)) {}

    [[nodiscard]] std::stop_token stop() const override { return source_.get_token(); }

    void report(const Progress& progress) override {
        const std::lock_guard lock(mutex_);
        const Clock::time_point now = Clock::now();
        if (is_answered_ || now - last_progress_ < least_between_progress) return;
        last_progress_ = now;
        // With the deadline now, a peer that does not read misses it and delays nobody.
        static_cast<void>(
            channel_.send(packet_of({rpc::encode(progress), true, {}}), {}, Clock::now()));
    }

    /// False when the peer does not take it: the connection is of no use any more.
    bool answer(const Result<Answer>& result) {
        const std::lock_guard lock(mutex_);
        if (is_answered_) return false;
        is_answered_ = true;
        if (!result) return send(error_for_caller(result.error()), {});
        std::vector<int> descriptors;
        for (const UniqueFd& fd : result->descriptors)
            descriptors.push_back(fd.get());
        return send({result->result, false, {}}, descriptors);
    }

    // ---- for the watch, one thread ----

    [[nodiscard]] const std::string& method() const { return method_; }
    [[nodiscard]] int socket() const { return socket_; }
    [[nodiscard]] bool is_stopped() const { return source_.stop_requested(); }
    /// When look() wants to be called again.
    [[nodiscard]] Clock::time_point next_look() const {
        if (gave_up_) return never;
        return is_stopped() ? deadline_.load() + limits_.grace : deadline_.load();
    }
    /// From any thread.
    [[nodiscard]] bool is_overdue(std::chrono::milliseconds by, Clock::time_point now) const {
        return now >= deadline_.load() + limits_.grace + by;
    }
    /// The peer has gone or half-closed.
    void cancel() {
        deadline_ = std::min(deadline_.load(), Clock::now());
        source_.request_stop();
    }
    /// True when it gave the call up just now.
    bool look(Clock::time_point now) {
        if (now >= deadline_.load() && !is_stopped()) {
            is_late_ = true;
            source_.request_stop();
        }
        if (gave_up_ || now < deadline_.load() + limits_.grace) return false;
        gave_up_ = true;
        // Held: somebody is sending the answer at this moment, within a deadline of its own.
        const std::unique_lock lock(mutex_, std::try_to_lock);
        if (!lock || is_answered_) return false;
        is_answered_ = true;
        // The plugin may still be undoing: nobody waits for it.
        static_cast<void>(channel_.send(packet_of(rpc::failed_reply(error_interface, timed_out())),
                                        {}, Clock::now()));
        ::shutdown(socket(), SHUT_RDWR);
        return true;
    }

private:
    [[nodiscard]] Error timed_out() const {
        return {Errc::timed_out, method_ + " took longer than it may",
                "See what it waits for in the log of the process that has the plugin."};
    }
    [[nodiscard]] rpc::ReplyMessage error_for_caller(const Error& error) const {
        if (is_late_ && error.code == Errc::cancelled)
            return rpc::failed_reply(error_interface, timed_out());
        return rpc::failed_reply(error_interface, bounded(error));
    }
    bool send(const rpc::ReplyMessage& reply, std::span<const int> descriptors) {
        return channel_.send(packet_of(reply), descriptors, Clock::now() + limits_.send)
            .has_value();
    }

    PacketChannel& channel_;
    const int socket_;
    const std::string method_;
    const ServerLimits& limits_;
    std::stop_source source_;
    std::mutex mutex_;  // of sending, and of the next two
    bool is_answered_ = false;
    Clock::time_point last_progress_;
    std::atomic<bool> is_late_ = false;
    std::atomic<Clock::time_point> deadline_;
    bool gave_up_ = false;  // of the watch
};

using Calls = std::vector<std::shared_ptr<RunningCall>>;

/// What an entry of the table becomes once it is known whose method it is.
struct Handler {
    bool is_long = false;
    std::function<Result<Answer>(const Json& parameters, std::vector<UniqueFd> descriptors,
                                 Call& call)>
        run;
};

Network* target(const Roles& roles, const Network*) { return roles.network; }
Dns* target(const Roles& roles, const Dns*) { return roles.dns; }
Storage* target(const Roles& roles, const Storage*) { return roles.storage; }
ImageSource* target(const Roles& roles, const ImageSource*) { return roles.image_source; }
VmBackend* target(const Roles& roles, const VmBackend*) { return roles.vm_backend; }
StorageCloning* target(const Roles& roles, const StorageCloning*) {
    return roles.storage != nullptr ? roles.storage->cloning() : nullptr;
}
VmPausing* target(const Roles& roles, const VmPausing*) {
    return roles.vm_backend != nullptr ? roles.vm_backend->pausing() : nullptr;
}
VmSnapshots* target(const Roles& roles, const VmSnapshots*) {
    return roles.vm_backend != nullptr ? roles.vm_backend->snapshots() : nullptr;
}

template <class Class>
Class* target(const ServedPlugin& plugin) {
    if constexpr (std::is_same_v<Class, WebRole>)
        return plugin.web;
    else
        return target(plugin.roles, static_cast<const Class*>(nullptr));
}

/// Decodes, checks, calls.
template <auto member, std::size_t count, class Class>
Result<Answer> run(const Method<member, count>& entry, Class& role, const Json& parameters,
                   std::vector<UniqueFd> descriptors, Call& call) {
    using Types = Signature<decltype(member)>;
    for (const rpc::JsonMember& given : *parameters.if_object())
        if (std::ranges::find(entry.parameters, std::string_view(given.name)) ==
            entry.parameters.end())
            return Error(Errc::invalid_argument, given.name + ": there is no such field");
    Incoming in{entry.parameters.data(), descriptor_kind<member>, parameters,
                std::move(descriptors), call};
    typename Types::Arguments arguments;
    Result<void> read;
    std::apply([&](auto&... each) { static_cast<void>(((read = each.read(in)) && ...)); },
               arguments);
    if (!read) return std::move(read).error();
    if (in.next_descriptor != in.descriptors.size())
        return Error(Errc::invalid_argument, "the call has too many descriptors");
    return std::apply(
        [&](auto&... each) {
            return Outcome<typename Types::Return>::write((role.*member)(each.get()...));
        },
        arguments);
}

template <auto member, std::size_t count>
void add_handler(const Method<member, count>& entry, const ServedPlugin& plugin,
                 std::map<std::string, Handler, std::less<>>& handlers) {
    using Types = Signature<decltype(member)>;
    using Class = typename Types::Class;
    Class* role = target<Class>(plugin);
    if (role == nullptr) return;
    handlers.emplace(
        plugin.name.str() + "/" + std::string(entry.name),
        Handler{Types::takes_call, [&entry, role](const Json& parameters,
                                                  std::vector<UniqueFd> descriptors, Call& call) {
                    return run(entry, *role, parameters, std::move(descriptors), call);
                }});
}

PluginDescription describe(const ServedPlugin& plugin) {
    PluginDescription said{plugin.name, {}, {}, false, false, false, plugin.settings};
    const Roles& roles = plugin.roles;
    if (roles.network != nullptr) {
        said.roles.push_back(Role::network);
        said.addressing = roles.network->addressing();
    }
    if (roles.dns != nullptr) said.roles.push_back(Role::dns);
    if (roles.storage != nullptr) {
        said.roles.push_back(Role::storage);
        said.cloning = roles.storage->cloning() != nullptr;
    }
    if (roles.image_source != nullptr) said.roles.push_back(Role::image_source);
    if (roles.vm_backend != nullptr) {
        said.roles.push_back(Role::vm_backend);
        said.pausing = roles.vm_backend->pausing() != nullptr;
        said.snapshots = roles.vm_backend->snapshots() != nullptr;
    }
    return said;
}

Result<Answer> run_guarded(const Handler& handler, const std::string& method,
                           const Json& parameters, std::vector<UniqueFd> descriptors, Call& call) {
    try {
        return handler.run(parameters, std::move(descriptors), call);
    } catch (const std::exception& failure) {
        return Error(Errc::internal, method + " threw: " + failure.what(),
                     "Report it to the plugin's author.");
    } catch (...) {
        return Error(Errc::internal, method + " threw", "Report it to the plugin's author.");
    }
}

}  // namespace

Result<void> check_descriptor(int fd, FdKind kind) {
    const auto refuse = [](std::string_view why) {
        return Error(Errc::invalid_argument, "a descriptor of the call " + std::string(why));
    };
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0) return Error::from_errno(errno, "looking at a descriptor of the call");
    if ((flags & O_PATH) != 0) return refuse("is a mere place (O_PATH)");
    struct stat status {};
    if (::fstat(fd, &status) != 0)
        return Error::from_errno(errno, "looking at a descriptor of the call");
    const int mode = flags & O_ACCMODE;
    if (kind != FdKind::sink) {
        if (!S_ISREG(status.st_mode)) return refuse("is not a regular file");
        if (mode != O_RDONLY && mode != O_RDWR) return refuse("is not open for reading");
    } else {
        if (!S_ISREG(status.st_mode) && !S_ISFIFO(status.st_mode))
            return refuse("is neither a regular file nor a pipe");
        if (mode != O_WRONLY && mode != O_RDWR) return refuse("is not open for writing");
    }
    return ok();
}

Result<void> Argument<const MachineSpec&>::read(Incoming& in) {
    value.emplace(BANGER_TRY(read_parameter<MachineSpec>(in)));
    const auto next = [&]() -> Result<int> {
        if (in.next_descriptor == in.descriptors.size()) return too_few_descriptors();
        const int fd = in.descriptors[in.next_descriptor++].get();
        BANGER_TRY(check_descriptor(fd, FdKind::source));
        return fd;
    };
    value->kernel_fd = BANGER_TRY(next());
    value->initramfs_fd = BANGER_TRY(next());
    for (Disk& disk : value->disks) {
        if (!disk.read_only) continue;
        if (!disk.path.empty())
            return Error(Errc::invalid_argument, "a disk that is read only comes without a path");
        disk.path = "/proc/self/fd/" + std::to_string(BANGER_TRY(next()));
    }
    return ok();
}

struct Server::State {
    struct Connection {
        std::optional<PacketChannel> channel;  ///< closed when its thread is about to end
        std::jthread thread;
    };

    const ServerLimits limits;
    const Log log;
    std::map<std::string, Handler, std::less<>> handlers;
    Answer description;

    mutable std::mutex mutex;  // of the following
    std::condition_variable changed;
    std::list<Connection> connections;
    Calls calls;
    bool is_leaving = false;

    UniqueFd wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    std::jthread watch;

    State(std::vector<ServedPlugin> plugins, ServerLimits given, Log told);
    void say(LogLevel level, const std::string& text) const {
        if (log) log(level, text);
    }
    void wake_watch() const { static_cast<void>(::eventfd_write(wake.get(), 1)); }
    void watch_calls(const std::stop_token& stop);
    void serve(Connection& connection);
    bool handle(PacketChannel& channel, rpc::Packet packet);
    Result<std::shared_ptr<RunningCall>> begin(PacketChannel& channel, const std::string& method,
                                               bool is_long);
    void end(const std::shared_ptr<RunningCall>& call);
    void refuse(PacketChannel& channel, const Error& error) const;
    void close_idle();
};

Server::State::State(std::vector<ServedPlugin> plugins, ServerLimits given, Log told)
    : limits(given), log(std::move(told)) {
    Description all{std::string(version().number), {}};
    for (const ServedPlugin& plugin : plugins) {
        all.plugins.push_back(describe(plugin));
        std::apply([&](const auto&... entry) { (add_handler(entry, plugin, handlers), ...); },
                   all_methods);
    }
    description = answer_with(all);
    watch = std::jthread([this](const std::stop_token& stop) { watch_calls(stop); });
}

/// One thread for all calls: sees who has gone and what is late.
void Server::State::watch_calls(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
        Calls now_running;
        {
            const std::lock_guard lock(mutex);
            now_running = calls;
        }
        std::vector<pollfd> polled{{wake.get(), POLLIN, 0}};
        Clock::time_point next = never;
        for (const std::shared_ptr<RunningCall>& call : now_running) {
            polled.push_back({call->is_stopped() ? -1 : call->socket(), POLLRDHUP, 0});
            next = std::min(next, call->next_look());
        }
        int timeout = -1;
        if (next != never)
            timeout = static_cast<int>(std::clamp<std::int64_t>(
                std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count(), 0,
                60'000));
        if (::poll(polled.data(), polled.size(), timeout) < 0) continue;
        eventfd_t ignored = 0;
        if (polled[0].revents != 0) static_cast<void>(::eventfd_read(wake.get(), &ignored));
        for (std::size_t i = 0; i < now_running.size(); ++i) {
            if (polled[i + 1].revents != 0) now_running[i]->cancel();
            if (now_running[i]->look(Clock::now()))
                say(LogLevel::error, now_running[i]->method() + " is stuck: its caller was let go");
        }
    }
}

Result<std::shared_ptr<RunningCall>> Server::State::begin(PacketChannel& channel,
                                                          const std::string& method, bool is_long) {
    std::shared_ptr<RunningCall> call;
    {
        const std::lock_guard lock(mutex);
        if (is_leaving) return Error(Errc::unavailable, "the helper is ending", "Try again.");
        if (calls.size() >= limits.calls)
            return Error(Errc::busy,
                         std::to_string(calls.size()) + " calls are in flight, no more are taken",
                         "Try again in a moment.");
        call = std::make_shared<RunningCall>(channel, method, limits, is_long);
        calls.push_back(call);
    }
    wake_watch();
    return call;
}

void Server::State::end(const std::shared_ptr<RunningCall>& call) {
    const std::lock_guard lock(mutex);
    std::erase(calls, call);
    changed.notify_all();
}

void Server::State::refuse(PacketChannel& channel, const Error& error) const {
    static_cast<void>(channel.send(packet_of(rpc::failed_reply(error_interface, bounded(error))),
                                   {}, Clock::now() + limits.send));
}

/// False when the connection is to be closed.
bool Server::State::handle(PacketChannel& channel, rpc::Packet packet) {
    Result<rpc::CallMessage> message = rpc::read_call(packet.text);
    if (message && (message->more || message->oneway))
        message = Error(Errc::corrupt, "a call of this hop has one answer");
    if (!message) {
        say(LogLevel::warning, "refused a packet: " + message.error().message);
        refuse(channel, message.error());
        return false;
    }
    const std::string& method = message->method;
    const bool is_bare = packet.descriptors.empty() && message->parameters.if_object()->empty();
    if (method == describe_method && is_bare) {
        const Result<void> sent = channel.send(packet_of({description.result, false, {}}), {},
                                               Clock::now() + limits.send);
        return sent.has_value();
    }
    const auto handler = handlers.find(method);
    if (handler == handlers.end()) {
        say(LogLevel::warning, "refused a call of " + quoted(method.substr(0, 100)));
        refuse(channel, {Errc::unsupported, quoted(method.substr(0, 100)) + " is not served here",
                         "bangerd and its helper may be of different versions; run `banger system "
                         "restart`."});
        return true;
    }
    Result<std::shared_ptr<RunningCall>> call = begin(channel, method, handler->second.is_long);
    if (!call) {
        refuse(channel, call.error());
        return true;
    }
    const Result<Answer> result = run_guarded(handler->second, method, message->parameters,
                                              std::move(packet.descriptors), **call);
    if (!result &&
        (result.error().code == Errc::internal || result.error().code == Errc::timed_out))
        say(LogLevel::error, result.error().text());
    const bool is_taken = (*call)->answer(result);
    end(*call);
    return is_taken;
}

void Server::State::serve(Connection& connection) {
    PacketChannel& channel = *connection.channel;
    while (true) {
        Result<rpc::Packet> packet = channel.receive(never, {});
        if (!packet) {
            if (packet.error().code != Errc::unavailable) {
                say(LogLevel::warning, "closed a connection: " + packet.error().message);
                refuse(channel, packet.error());
            }
            break;
        }
        if (!handle(channel, std::move(packet).value())) break;
        const std::lock_guard lock(mutex);
        if (is_leaving) break;
    }
    const std::lock_guard lock(mutex);
    // Closing alone would leave the peer waiting while the watch still polls this socket.
    ::shutdown(channel.socket().get(), SHUT_RDWR);
    connection.channel.reset();
    changed.notify_all();
}

/// Idle connections read their end; a call in flight would be cancelled by the same.
void Server::State::close_idle() {
    for (Connection& connection : connections) {
        const bool is_busy = std::ranges::any_of(calls, [&](const auto& call) {
            return connection.channel && call->socket() == connection.channel->socket().get();
        });
        if (connection.channel && !is_busy) ::shutdown(connection.channel->socket().get(), SHUT_RD);
    }
}

Server::Server(std::vector<ServedPlugin> plugins, ServerLimits limits, Log log)
    : state_(std::make_unique<State>(std::move(plugins), limits, std::move(log))) {}

void Server::cancel() {
    const std::lock_guard lock(state_->mutex);
    state_->is_leaving = true;
    // Idle ones read their end; the watch sees those at work half-closed.
    for (State::Connection& connection : state_->connections)
        if (connection.channel) ::shutdown(connection.channel->socket().get(), SHUT_RD);
    state_->wake_watch();
}

Server::~Server() {
    cancel();
    // The watch must live until the last thread has ended.
    for (State::Connection& connection : state_->connections)
        if (connection.thread.joinable()) connection.thread.join();
    state_->watch.request_stop();
    state_->wake_watch();
}

void Server::add(PacketChannel channel) {
    std::list<State::Connection> ended;  // joined without the lock
    std::unique_lock lock(state_->mutex);
    for (auto each = state_->connections.begin(); each != state_->connections.end();) {
        const auto next = std::next(each);
        if (!each->channel) ended.splice(ended.end(), state_->connections, each);
        each = next;
    }
    if (state_->is_leaving || state_->connections.size() >= state_->limits.connections) {
        lock.unlock();
        state_->say(LogLevel::warning, "refused a connection: there are too many");
        static_cast<void>(channel.send(
            packet_of(rpc::failed_reply(
                error_interface,
                {Errc::busy, "the helper has too many connections", "Try again in a moment."})),
            {}, Clock::now()));
        return;
    }
    State::Connection& connection = state_->connections.emplace_back();
    connection.channel.emplace(std::move(channel));
    try {
        connection.thread = std::jthread([this, &connection] { state_->serve(connection); });
    } catch (const std::system_error&) {  // no thread left
        state_->connections.pop_back();
    }
}

bool Server::drain(std::chrono::milliseconds patience) {
    std::unique_lock lock(state_->mutex);
    state_->is_leaving = true;
    state_->close_idle();
    return state_->changed.wait_for(lock, patience, [&] { return state_->calls.empty(); });
}

std::size_t Server::connections() const {
    const std::lock_guard lock(state_->mutex);
    return static_cast<std::size_t>(std::ranges::count_if(
        state_->connections, [](const auto& each) { return each.channel.has_value(); }));
}

std::size_t Server::calls_in_flight() const {
    const std::lock_guard lock(state_->mutex);
    return state_->calls.size();
}

bool Server::is_healthy(std::chrono::milliseconds overdue) const {
    const std::lock_guard lock(state_->mutex);
    return std::ranges::none_of(state_->calls, [&](const std::shared_ptr<RunningCall>& call) {
        return call->is_overdue(overdue, Clock::now());
    });
}

}  // namespace banger::remote

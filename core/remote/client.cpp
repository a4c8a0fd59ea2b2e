#include "core/remote/client.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>

#include "core/base/names.hpp"
#include "core/remote/marshal.hpp"
#include "core/rpc/message.hpp"
#include "core/rpc/peer.hpp"

namespace banger::remote {

namespace {

using Clock = std::chrono::steady_clock;
using rpc::PacketChannel;

constexpr timeval connect_patience{10, 0};

Error cancelled(const std::string& method) { return {Errc::cancelled, method + " was cancelled"}; }

/// Where a connection broke.
enum class Broke {
    no,
    before,  ///< the server cannot have seen the call
    after,   ///< it may have
};

struct Exchange {
    Result<Answer> answer;
    Broke broke = Broke::no;
    bool is_reusable = false;
    std::string misdeed = {};  ///< of the far end
};

/// Reads until the last reply, half-closing when the caller wants to stop.
Exchange await_answer(PacketChannel& channel, const Client::Request& request, std::stop_token stop,
                      Clock::time_point deadline, const ClientLimits& limits, const FarEnd& far) {
    const bool is_long = request.call != nullptr;
    bool is_half_closed = false;
    Clock::time_point silent_until = is_long ? Clock::now() + limits.silence : deadline;
    while (true) {
        Result<rpc::Packet> packet = channel.receive(std::min(deadline, silent_until), stop);
        if (!packet && packet.error().code == Errc::cancelled) {
            ::shutdown(channel.socket().get(), SHUT_WR);
            is_half_closed = true;
            stop = {};
            deadline = std::min(deadline, Clock::now() + limits.stopping);
            silent_until = deadline;
            continue;
        }
        if (!packet && packet.error().code == Errc::unavailable)
            return {packet.error(), Broke::after, false};
        if (!packet && packet.error().code == Errc::timed_out) {
            const std::string late = far.name + " did not answer " + request.method +
                                     (is_half_closed ? " after it was stopped" : " in time");
            if (is_half_closed) return {cancelled(request.method), Broke::no, false, late};
            return {Error(Errc::timed_out, late, far.remedy), Broke::no, false, late};
        }
        const auto misdeed = [&](const Error& error) -> Exchange {
            const Error said(error.code,
                             far.name + " answered " + request.method +
                                 " with what is no answer: " + error.message,
                             far.remedy);
            return {said, Broke::no, false, said.message};
        };
        if (!packet) return misdeed(packet.error());
        if (!is_half_closed && is_long) silent_until = Clock::now() + limits.silence;
        Result<rpc::ReplyMessage> reply = rpc::read_reply(packet->text);
        if (!reply) return misdeed(reply.error());
        if (!reply->continues) {
            if (!reply->error.empty()) return {rpc::error_of(*reply), Broke::no, !is_half_closed};
            return {Answer{std::move(reply->parameters), std::move(packet->descriptors)}, Broke::no,
                    !is_half_closed};
        }
        const Result<Progress> progress =
            rpc::decode<Progress>(reply->parameters, "progress", rpc::Unknown::ignored);
        if (progress && request.call != nullptr) request.call->report(*progress);
    }
}

}  // namespace

Connect connect_to(std::string socket_path) {
    return [path = std::move(socket_path)]() -> Result<PacketChannel> {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        if (path.empty() || path.size() >= sizeof address.sun_path)
            return Error(Errc::invalid_argument, path + " is too long for a socket");
        std::memcpy(static_cast<void*>(address.sun_path), path.c_str(), path.size() + 1);
        UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        if (!socket) return Error::from_errno(errno, "making a socket");
        ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &connect_patience,
                     sizeof connect_patience);
        if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address),  // NOLINT
                      sizeof address) != 0) {
            const int number = errno;
            if (number == EACCES || number == EPERM)
                return Error(Errc::permission_denied, path + " is not for this user",
                             "The owner of this installation alone can use it; see `banger system "
                             "status`.");
            return Error(
                Errc::unavailable,
                Error::from_errno(number, "connecting to the root helper at " + path).message,
                "Start it: systemctl start bangerd-root.socket.");
        }
        const rpc::PeerCredentials peer = BANGER_TRY(rpc::peer_credentials(socket.get()));
        if (peer.uid != 0 && peer.uid != ::geteuid())
            return Error(Errc::permission_denied,
                         "uid " + std::to_string(peer.uid) + " listens at " + path +
                             ", who is neither root nor this user",
                         "Remove what listens there and install again.");
        return PacketChannel(std::move(socket));
    };
}

struct Client::State {
    const Connect connect;
    const ClientLimits limits;
    const FarEnd far;
    Description description;

    std::mutex mutex;
    std::condition_variable_any changed;
    std::vector<PacketChannel> idle;
    std::size_t open = 0;  ///< idle or at work

    State(Connect given, ClientLimits bounds, FarEnd peer)
        : connect(std::move(given)), limits(bounds), far(std::move(peer)) {}
    ~State() { close(std::move(idle)); }
    void close(std::vector<PacketChannel> channels) const {
        for (const PacketChannel& channel : channels)
            tell(channel, Closing::ours, {});
    }
    void tell(const PacketChannel& channel, Closing why, const std::string& what) const {
        if (far.on_close) far.on_close(channel.socket().get(), why, what);
    }
    Result<PacketChannel> take(const std::string& method, const std::stop_token& stop,
                               Clock::time_point deadline);
    void give_back(std::optional<PacketChannel> channel);
    Result<Exchange> exchange(const Request& request, const std::string& text,
                              const std::stop_token& stop, Clock::time_point deadline);
    Result<Answer> call(const Request& request);
};

Result<PacketChannel> Client::State::take(const std::string& method, const std::stop_token& stop,
                                          Clock::time_point deadline) {
    {
        std::unique_lock lock(mutex);
        if (!changed.wait_until(lock, stop, deadline,
                                [&] { return !idle.empty() || open < limits.connections; })) {
            if (stop.stop_requested()) return cancelled(method);
            return Error(Errc::timed_out, method + " did not get its turn in time", far.remedy);
        }
        if (!idle.empty()) {
            PacketChannel channel = std::move(idle.back());
            idle.pop_back();
            return channel;
        }
        ++open;
    }
    Result<PacketChannel> channel = connect();
    if (!channel) give_back({});
    return channel;
}

/// Nothing: the connection is of no use any more, and what is idle is as old or older.
void Client::State::give_back(std::optional<PacketChannel> channel) {
    std::vector<PacketChannel> old;  // closed without the lock
    {
        const std::lock_guard lock(mutex);
        if (channel) {
            idle.push_back(*std::move(channel));
        } else {
            --open;
            open -= idle.size();
            old.swap(idle);
        }
        changed.notify_all();
    }
    close(std::move(old));
}

Result<Exchange> Client::State::exchange(const Request& request, const std::string& text,
                                         const std::stop_token& stop, Clock::time_point deadline) {
    PacketChannel channel = BANGER_TRY(take(request.method, stop, deadline));
    Exchange result{Error(), Broke::no, false};
    const Result<void> sent = channel.send(text, request.descriptors, deadline);
    if (sent)
        result = await_answer(channel, request, stop, deadline, limits, far);
    else
        result = {sent.error(), sent.error().code == Errc::unavailable ? Broke::before : Broke::no,
                  sent.error().code == Errc::invalid_argument};
    if (!result.is_reusable)
        tell(channel,
             !result.misdeed.empty()     ? Closing::misdeed
             : result.broke != Broke::no ? Closing::theirs
                                         : Closing::ours,
             result.misdeed);
    give_back(result.is_reusable ? std::optional(std::move(channel)) : std::nullopt);
    return result;
}

Result<Answer> Client::State::call(const Request& request) {
    const std::stop_token stop = request.call != nullptr ? request.call->stop() : request.stop;
    if (stop.stop_requested()) return cancelled(request.method);
    for (const int fd : request.descriptors)
        if (fd < 0)
            return Error(Errc::invalid_argument,
                         request.method + " needs a descriptor that is missing");
    const std::string text =
        BANGER_TRY(rpc::write_message(rpc::CallMessage{request.method, request.parameters}));
    const Clock::time_point deadline =
        Clock::now() + (request.call != nullptr               ? limits.long_call
                        : request.method.ends_with(".checks") ? limits.checks
                                                              : limits.call);
    constexpr int attempts = 2;
    for (int attempt = 1;; ++attempt) {
        Exchange result = BANGER_TRY(exchange(request, text, stop, deadline));
        if (result.broke == Broke::no) return std::move(result.answer);
        const bool may_repeat =
            result.broke == Broke::before || (request.again == Again::yes && far.is_asked_again);
        if (attempt == attempts || !may_repeat || stop.stop_requested())
            return Error(Errc::unavailable, far.name + " went away during " + request.method,
                         far.remedy);
    }
}

Client::Client(std::unique_ptr<State> state) : state_(std::move(state)) {}
Client::~Client() = default;

Result<std::shared_ptr<Client>> Client::open(Connect connect, ClientLimits limits) {
    std::shared_ptr<Client> client = make(std::move(connect), limits, {}, {});
    Request request;
    request.method = describe_method;
    request.parameters = rpc::Json(rpc::Json::Object{});
    request.again = Again::yes;
    Result<Answer> answer = client->call(request);
    if (!answer) return std::move(answer).error().context("asking the root helper what it serves");
    client->state_->description =
        BANGER_TRY(Outcome<Result<Description>>::read(std::move(answer), {}));
    return client;
}

std::shared_ptr<Client> Client::make(Connect connect, ClientLimits limits, FarEnd far,
                                     Description description) {
    auto state = std::make_unique<State>(std::move(connect), limits, std::move(far));
    state->description = std::move(description);
    return std::shared_ptr<Client>(new Client(std::move(state)));
}

const Description& Client::description() const { return state_->description; }

const FarEnd& Client::far_end() const { return state_->far; }

Result<Answer> Client::call(const Request& request) { return state_->call(request); }

}  // namespace banger::remote

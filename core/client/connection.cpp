#include "core/client/connection.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "core/client/exchange.hpp"
#include "core/rpc/role_fields.hpp"
#include "core/rpc/wait.hpp"

namespace banger::client {

namespace {

/// How long a cancelled call may take to undo what it made.
constexpr std::chrono::seconds undo_patience{20};

constexpr std::size_t chunk_bytes = std::size_t{64} << 10;

rpc::WaitLimits limits_of(const CallOptions& options) {
    rpc::WaitLimits limits{.stop = options.stop, .stop_fd = options.stop_fd};
    if (options.timeout.count() > 0)
        limits.deadline = std::chrono::steady_clock::now() + options.timeout;
    return limits;
}

Error lost() {
    return {Errc::unavailable, "bangerd went away before it had answered",
            "Run the command again; bangerd's log says why it ended."};
}

Error not_running(const std::string& path, int number) {
    return {
        Errc::unavailable,
        "bangerd does not answer at " + path + ": " + Error::from_errno(number, "connect").message,
        "Start it, or run `banger doctor`."};
}

}  // namespace

Result<void> send_all(int socket, std::string_view bytes, const rpc::WaitLimits& limits) {
    while (!bytes.empty()) {
        const ssize_t sent =
            ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            bytes.remove_prefix(static_cast<std::size_t>(sent));
            continue;
        }
        const int number = errno;
        if (number == EAGAIN)
            BANGER_TRY(rpc::wait_for(socket, POLLOUT, limits, "bangerd to listen"));
        else if (number == EPIPE || number == ECONNRESET)
            return lost();
        else if (number != EINTR)
            return Error::from_errno(number, "sending to bangerd");
    }
    return {};
}

namespace {

/// The next whole message.
Result<std::string> receive(int socket, rpc::MessageSplitter& splitter,
                            const rpc::WaitLimits& limits) {
    std::array<char, chunk_bytes> chunk;  // NOLINT: filled by recv
    while (true) {
        if (std::optional<std::string> message = splitter.next()) return *std::move(message);
        BANGER_TRY(rpc::wait_for(socket, POLLIN, limits, "bangerd's answer"));
        const ssize_t got = ::recv(socket, chunk.data(), chunk.size(), MSG_DONTWAIT);
        if (got > 0) {
            BANGER_TRY(splitter.add({chunk.data(), static_cast<std::size_t>(got)}));
            continue;
        }
        const int number = errno;
        if (got == 0 || number == ECONNRESET) return lost();
        if (number != EAGAIN && number != EINTR)
            return Error::from_errno(number, "receiving from bangerd");
    }
}

}  // namespace

Result<Connection> Connection::connect(const std::string& path, std::chrono::milliseconds timeout) {
    return Connection(BANGER_TRY(connect_to(path, timeout)));
}

Result<UniqueFd> connect_to(const std::string& path, std::chrono::milliseconds timeout) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path)
        return Error(Errc::invalid_argument, path + " is too long for a socket",
                     "Choose a runtime folder with a shorter path.");
    std::memcpy(static_cast<void*>(address.sun_path), path.c_str(), path.size() + 1);
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) return Error::from_errno(errno, "making a socket");
    // It also bounds connect(2), which waits while the queue of the listener is full (unix(7)).
    // Zero would be no bound.
    const auto micros = std::max<std::int64_t>(
        1, std::chrono::duration_cast<std::chrono::microseconds>(timeout).count());
    const timeval bound{micros / 1'000'000, micros % 1'000'000};
    if (::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound) != 0)
        return Error::from_errno(errno, "preparing a socket");
    while (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address),  // NOLINT
                     sizeof address) != 0) {
        const int number = errno;
        if (number == EINTR) continue;
        if (number == EAGAIN)
            return Error(Errc::timed_out, "bangerd does not accept connections at " + path,
                         "See what it does with `banger doctor`.");
        if (number == ENOENT || number == ECONNREFUSED) return not_running(path, number);
        return Error::from_errno(number, "connecting to bangerd at " + path);
    }
    return socket;
}

Error Connection::misfit(const Error& error) {
    return {Errc::corrupt, "bangerd's answer does not fit: " + error.message,
            "Client and daemon may be of different versions; restart bangerd."};
}

Result<void> Connection::send(const rpc::CallMessage& call, const CallOptions& options) {
    if (!is_open()) return lost();
    std::string text = BANGER_TRY(rpc::write_message(call));
    text += '\0';
    Result<void> sent = send_all(socket_.get(), text, limits_of(options));
    if (!sent) close();
    return sent;
}

Result<rpc::Json> Connection::exchange(const rpc::CallMessage& call, const CallOptions& options,
                                       const OnReply& on_reply) {
    const rpc::WaitLimits limits = limits_of(options);
    BANGER_TRY(send(call, options));
    Result<rpc::ReplyMessage> last = receive_last(limits, options, on_reply);
    if (!last && last.error().code == Errc::cancelled) last = cancel(std::move(last).error());
    if (!last) {
        // Half an exchange cannot be continued.
        close();
        return std::move(last).error();
    }
    if (!last->error.empty()) return rpc::error_of(*last);
    return std::move(last->parameters);
}

/// Closing our half tells the daemon to stop; its answer comes when what it made is undone. If the
/// call was quicker than the stop, what it made is the result.
Result<rpc::ReplyMessage> Connection::cancel(Error why) {
    ::shutdown(socket_.get(), SHUT_WR);
    rpc::WaitLimits limits;
    limits.deadline = std::chrono::steady_clock::now() + undo_patience;
    Result<rpc::ReplyMessage> last = receive_last(limits, {}, {});
    if (!last)
        return Error(
            Errc::unavailable,
            "cancelled, but bangerd did not say that all is undone: " + last.error().message,
            "See what is left: banger vm list");
    if (last->error.empty()) return last;
    Error answer = rpc::error_of(*last);
    if (answer.code != Errc::cancelled) return answer;
    return why;
}

Result<rpc::ReplyMessage> Connection::receive_last(const rpc::WaitLimits& limits,
                                                   const CallOptions& options,
                                                   const OnReply& on_reply) {
    while (true) {
        const std::string text = BANGER_TRY(receive(socket_.get(), splitter_, limits));
        rpc::ReplyMessage reply = BANGER_TRY(rpc::read_reply(text));
        if (!reply.continues || !reply.error.empty()) return reply;
        const rpc::Json* progress = reply.parameters.find("progress");
        if (progress != nullptr && options.on_progress)
            options.on_progress(BANGER_TRY(read<Progress>(*progress)));
        else if (on_reply)
            BANGER_TRY(on_reply(reply.parameters));
    }
}

}  // namespace banger::client

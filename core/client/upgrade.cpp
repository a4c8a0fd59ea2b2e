#include "core/client/upgrade.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "core/client/exchange.hpp"
#include "core/rpc/upgrade.hpp"

namespace banger::client {

namespace {

/// The daemon has answered somebody a moment ago.
constexpr std::chrono::seconds connect_patience{5};

/// Receives until there is a NUL: where it stands. What follows it is of the other protocol.
Result<std::size_t> receive_reply(int socket, std::string& bytes, const rpc::WaitLimits& limits) {
    std::array<char, 16384> chunk;  // NOLINT: filled by recv
    while (true) {
        BANGER_TRY(rpc::wait_for(socket, POLLIN, limits, "bangerd's answer"));
        const ssize_t got = ::recv(socket, chunk.data(), chunk.size(), MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got <= 0)
            return Error(Errc::unavailable, "bangerd went away before it had answered",
                         "Run the command again; bangerd's log says why it ended.");
        bytes.append(chunk.data(), static_cast<std::size_t>(got));
        const std::size_t end = bytes.find('\0');
        if (end != bytes.npos) return end;
        if (bytes.size() > rpc::max_message_bytes)
            return Error(Errc::corrupt, "bangerd's answer is longer than a message may be");
    }
}

}  // namespace

Result<Upgraded> upgrade(const std::string& path, std::string_view method,
                         const rpc::Json& parameters, const rpc::WaitLimits& limits) {
    const std::string call = BANGER_TRY(rpc::write_upgrade(method, parameters)) + '\0';
    UniqueFd socket = BANGER_TRY(connect_to(path, connect_patience));
    BANGER_TRY(send_all(socket.get(), call, limits));
    std::string bytes;
    const std::size_t end = BANGER_TRY(receive_reply(socket.get(), bytes, limits));
    rpc::ReplyMessage reply = BANGER_TRY(rpc::read_reply(std::string_view(bytes).substr(0, end)));
    if (!reply.error.empty()) return rpc::error_of(reply);
    return Upgraded{std::move(reply.parameters), std::move(socket), bytes.substr(end + 1)};
}

}  // namespace banger::client

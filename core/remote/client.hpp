#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "core/remote/description.hpp"
#include "core/remote/methods.hpp"
#include "core/rpc/json.hpp"
#include "core/rpc/packet_channel.hpp"

namespace banger::remote {

struct Answer;  // marshal.hpp

/// How a client gets a new connection to its server.
using Connect = std::function<Result<rpc::PacketChannel>()>;

/// To a socket by path. The server must be root or ourselves. Errc::unavailable with a remedy when
/// nobody listens.
Connect connect_to(std::string socket_path);

struct ClientLimits {
    /// Also how many calls run at once; further callers wait for their turn. Below the server's.
    std::size_t connections = 12;
    /// For an answer; over the server's own deadline and grace, so that these show first.
    std::chrono::milliseconds call{80'000};
    std::chrono::milliseconds long_call{3'620'000};
    std::chrono::milliseconds checks = call;  ///< for what `doctor` asks every plugin
    /// Within a long call, from one sign of life (progress) to the next.
    std::chrono::milliseconds silence = long_call;
    /// For the far end to undo after the caller has stopped a call.
    std::chrono::milliseconds stopping = long_call;
};

/// Why a connection is closed.
enum class Closing {
    ours,     ///< a call was stopped, or it is not needed any more
    theirs,   ///< the far end has closed it
    misdeed,  ///< the far end did not answer in time, or with what is no answer
};

/// Who is at the far end.
struct FarEnd {
    std::string name = "the root helper";  ///< in messages
    /// A call that it may have begun is made again where the method allows. Not for one that most
    /// likely went away because of the call.
    bool is_asked_again = true;
    std::string remedy =
        "It is started again by itself; see `systemctl status bangerd-root` if that does not help.";
    /// Told of each connection (its socket) just before it is closed; `what` says more about a
    /// misdeed. From any thread. Optional.
    std::function<void(int socket, Closing why, const std::string& what)> on_close = {};
};

/// The near end: a few connections to one server, shared by the proxies of all its plugins.
///
/// Safe from any thread, many calls at once. A server that was restarted is found again by itself:
/// a connection that broke before a call could be sent is replaced and the call made again, one
/// that broke later too if the method allows (Again). Otherwise, and when the new one breaks as
/// well, Errc::unavailable with a remedy. A stop token half-closes the connection, and the call
/// then returns what the server says when it has undone everything.
class Client {
public:
    /// What a call is, without its types.
    struct Request {
        std::string method;  ///< "net-bridge/network.attach"
        rpc::Json parameters;
        std::vector<int> descriptors;  ///< borrowed; a negative one is Errc::invalid_argument
        Again again = Again::no;
        std::stop_token stop;
        Call* call = nullptr;  ///< gets the progress; its stop() is used too; makes it a long call
    };
    /// Connects and asks what is served.
    static Result<std::shared_ptr<Client>> open(Connect connect, ClientLimits limits);
    /// For a far end of which is known already what it serves. Connects at the first call.
    static std::shared_ptr<Client> make(Connect connect, ClientLimits limits, FarEnd far,
                                        Description description);
    ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    /// As the server was when this client was opened.
    [[nodiscard]] const Description& description() const;
    [[nodiscard]] const FarEnd& far_end() const;
    Result<Answer> call(const Request& request);

private:
    struct State;
    explicit Client(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace banger::remote

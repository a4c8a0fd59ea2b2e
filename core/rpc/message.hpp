#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "core/rpc/json.hpp"

/// Varlink messages (varlink.org): JSON objects, each ended by a NUL byte on a stream. Pure: bytes
/// in, values out. The server and the client are made of these.
namespace banger::rpc {

/// One message on a stream, without its NUL; on a packet channel the kernel frames.
inline constexpr std::size_t max_message_bytes = std::size_t{1} << 20;

/// What a client sends.
struct CallMessage {
    std::string method;   ///< "io.banger.Vm.Create"
    Json parameters;      ///< an object
    bool more = false;    ///< several replies are welcome
    bool oneway = false;  ///< none is
    friend bool operator==(const CallMessage&, const CallMessage&) = default;
};

/// What the server answers.
struct ReplyMessage {
    Json parameters;         ///< an object
    bool continues = false;  ///< another one follows
    std::string error;       ///< "io.banger.Vm.Failed"; empty on success
    friend bool operator==(const ReplyMessage&, const ReplyMessage&) = default;
};

/// Without the NUL. Fails only when the result is larger than max_message_bytes (Errc::no_space).
Result<std::string> write_message(const CallMessage& call);
Result<std::string> write_message(const ReplyMessage& reply);

/// Errc::corrupt for what is no such message: bad JSON, a missing or unknown member, a wrong type,
/// a method without an interface, `more` together with `oneway`. Parameters left out are an empty
/// object.
Result<CallMessage> read_call(std::string_view text);
/// Unknown members are ignored, because a newer server may send them.
Result<ReplyMessage> read_reply(std::string_view text);

/// An Error as the reply `INTERFACE.Failed` (code, message, remedy), which every interface of
/// banger declares.
ReplyMessage failed_reply(std::string_view interface, const Error& error);
/// One of org.varlink.service: name is "MethodNotFound", "InvalidParameter", …; `member` is the
/// name of its one parameter, "method", "parameter", ….
ReplyMessage service_error(std::string_view name, std::string_view member, std::string_view value);
/// The inverse of both, for the client; reply.error is not empty. An error of somebody else's
/// becomes Errc::internal and is named.
Error error_of(const ReplyMessage& reply);

/// Cuts a byte stream into messages. Holds what next() has not taken: a caller that does not take
/// at once looks at pending().
class MessageSplitter {
public:
    explicit MessageSplitter(std::size_t limit = max_message_bytes) : limit_(limit) {}
    /// Errc::corrupt once a message is longer than the limit: the stream is of no use any more.
    Result<void> add(std::string_view bytes);
    /// The next whole message, or nothing when one is not there yet.
    std::optional<std::string> next();
    /// Bytes waiting, whole messages included.
    [[nodiscard]] std::size_t pending() const { return buffer_.size() - start_; }
    /// Part of a message has come and its end has not.
    [[nodiscard]] bool is_inside() const;

private:
    std::size_t limit_;
    std::string buffer_;
    std::size_t start_ = 0;    ///< of the first byte not taken
    std::size_t scanned_ = 0;  ///< there is no NUL between start_ and here
};

}  // namespace banger::rpc

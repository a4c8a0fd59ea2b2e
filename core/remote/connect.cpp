#include "core/remote/connect.hpp"

#include "core/remote/methods.hpp"
#include "core/rpc/message.hpp"

namespace banger::remote {

Result<void> give_connection(rpc::PacketChannel& channel, const rpc::PacketChannel& end,
                             std::chrono::steady_clock::time_point deadline) {
    const int given[] = {end.socket().get()};
    const std::string call = BANGER_TRY(rpc::write_message(
        rpc::CallMessage{std::string(connect_method), rpc::Json(rpc::Json::Object{})}));
    BANGER_TRY(channel.send(call, given, deadline));
    const rpc::Packet packet = BANGER_TRY(channel.receive(deadline, {}));
    const rpc::ReplyMessage reply = BANGER_TRY(rpc::read_reply(packet.text));
    if (!reply.error.empty()) return rpc::error_of(reply);
    return ok();
}

}  // namespace banger::remote

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/guest/agent_protocol.hpp"
#include "tests/fuzz/require.hpp"

using namespace banger;
using namespace banger::guest;

namespace {

void read_as_host(std::string_view frame) {
    const Result<AgentReply> reply = decode_reply(frame);
    if (!reply) return require(reply.error().code == Errc::corrupt);
    if (reply->error) return require(is_plain(reply->error->message));
    const Result<GuestHealth> health = decode_health(reply->parameters);
    if (health) {
        require(is_plain(health->failure));
        for (const Probe& probe : health->probes)
            require(is_plain(probe.name + probe.reason));
    }
    const Result<std::vector<GuestPort>> ports = decode_ports(reply->parameters);
    if (ports) {
        require(ports->size() <= max_ports);
        for (const GuestPort& port : *ports)
            require(is_plain(port.address + port.process));
    }
    static_cast<void>(decode_stats(reply->parameters));
}

}  // namespace

/// What a hostile guest may send, cut into pieces as a stream is: the first byte is the piece size.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::size_t piece = std::size_t{data[0]} + 1;
    std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
    FrameReader reader;
    while (!rest.empty()) {
        reader.append(rest.substr(0, piece));
        rest.remove_prefix(std::min(piece, rest.size()));
        while (const std::optional<std::string> frame = reader.next()) {
            require(!frame->empty() && frame->size() <= max_frame);
            read_as_host(*frame);
            static_cast<void>(decode_request(*frame));
        }
    }
    return 0;
}

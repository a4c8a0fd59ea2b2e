#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/guest/agent_protocol.hpp"
#include "core/guest/exec_protocol.hpp"
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
    static_cast<void>(decode_started(reply->parameters));
}

void read_session_frame(std::string_view text) {
    const Result<SessionFrame> frame = decode_session_frame(text);
    if (!frame) return require(frame.error().code == Errc::corrupt);
    require(frame->frame.data.size() <= max_exec_data);
    // The same again is the same, and has no NUL before its end.
    const std::string again =
        encode_session_frame(frame->session, frame->frame.kind, frame->frame.data);
    require(again.find('\0') == again.size() - 1);
    require(decode_session_frame(std::string_view(again).substr(0, again.size() - 1)).value() ==
            *frame);
}

void read_request(std::string_view text) {
    const Result<AgentRequest> request = decode_request(text);
    if (request && request->method == "Exec") static_cast<void>(decode_exec(request->parameters));
}

/// The same bytes as a client of a session sends them, or bangerd to it.
void read_as_client(std::string_view bytes) {
    ExecFrameReader reader;
    reader.append(bytes);
    while (true) {
        const Result<std::optional<ExecFrame>> frame = reader.next();
        if (!frame) return require(frame.error().code == Errc::corrupt);
        if (!*frame) return;
        if ((*frame)->kind == ExecKind::failed) static_cast<void>(failure_of(**frame));
        if ((*frame)->kind == ExecKind::window)
            require(window_data(window_of(**frame)) == (*frame)->data);
        if ((*frame)->kind == ExecKind::credit)
            require(credit_data(credit_of(**frame)) == (*frame)->data);
    }
}

}  // namespace

/// What a hostile guest may send, cut into pieces as a stream is: the first byte is the piece size.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::size_t piece = std::size_t{data[0]} + 1;
    std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
    read_as_client(rest);
    FrameReader reader;
    while (!rest.empty()) {
        reader.append(rest.substr(0, piece));
        rest.remove_prefix(std::min(piece, rest.size()));
        while (const std::optional<std::string> frame = reader.next()) {
            require(!frame->empty() && frame->size() <= max_frame);
            read_as_host(*frame);
            read_request(*frame);
            if (is_session_frame(*frame)) read_session_frame(*frame);
        }
    }
    return 0;
}

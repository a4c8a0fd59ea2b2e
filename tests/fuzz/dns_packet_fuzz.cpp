#include <algorithm>
#include <array>
#include <cstdlib>

#include "core/dns/authority.hpp"

using namespace banger;

namespace {

struct Server {
    dns::NameTable names;
    dns::Authority authority = [this] {
        (void)names.publish(
            {VmId::random(), VmName::parse("sandbox").value(), Ipv4Address(0xac100005)});
        return dns::Authority::make("vm", names).value();
    }();
};

}  // namespace

/// The short cut for plain queries and the library have to agree in every byte. The first byte
/// chooses transport and room, the rest is a message.
extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    static const Server server;
    if (size == 0) return 0;
    const dns::Transport transport =
        (data[0] & 1U) != 0 ? dns::Transport::tcp : dns::Transport::udp;
    std::array<std::uint8_t, dns::max_answer> room;
    const std::span<std::uint8_t> out =
        std::span(room).first((data[0] & 2U) != 0 ? 512 : dns::max_answer);
    const std::span<const std::uint8_t> query(data + 1, size - 1);
    const std::size_t answer = server.authority.answer(query, transport, out);
    std::array<std::uint8_t, dns::max_answer> other_room;
    const std::span<std::uint8_t> other = std::span(other_room).first(out.size());
    if (server.authority.answer_by_library(query, transport, other) != answer ||
        !std::ranges::equal(out.first(answer), other.first(answer)))
        std::abort();
    if (answer == 0) return 0;
    // A response to this very query, never larger than asked for, and never one to a response.
    if (answer < 12 || answer > out.size() || (query[2] & 0x80U) != 0 || (out[2] & 0x80U) == 0 ||
        out[0] != query[0] || out[1] != query[1])
        std::abort();
    return 0;
}

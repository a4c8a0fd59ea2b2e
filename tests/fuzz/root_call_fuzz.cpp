#include <fcntl.h>
#include <sys/mman.h>

#include <cstdlib>

#include "core/remote/server.hpp"
#include "core/rpc/message.hpp"
#include "tests/remote/nothing_plugin.hpp"

using namespace banger;

namespace {

/// A server of every role whose plugin does nothing, and a peer of it.
struct Hop {
    NothingPlugin plugin;
    remote::Server server{{{PluginName::parse("p").value(), plugin.roles(), {}}}, {}, {}};
    UniqueFd file{::memfd_create("file", MFD_CLOEXEC)};
    UniqueFd folder{::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    UniqueFd place{::open("/", O_PATH | O_CLOEXEC)};
    rpc::PacketChannel channel = connect();

    rpc::PacketChannel connect() {
        auto ends = rpc::PacketChannel::pair().value();
        server.add(std::move(ends.first));
        return std::move(ends.second);
    }
};

}  // namespace

/// The first byte says which descriptors go with the packet, the rest is its text. Whatever comes,
/// there is one answer, and it is well formed.
extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    static Hop* const hop = new Hop;
    if (size < 2 || size - 1 > rpc::max_packet_bytes) return 0;
    const int kinds[] = {hop->file.get(), hop->folder.get(), hop->place.get()};
    std::vector<int> descriptors;
    for (unsigned bits = data[0], i = 0; i < 3; ++i, bits >>= 2)
        if ((bits & 3U) != 0) descriptors.push_back(kinds[(bits & 3U) - 1]);
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);  // NOLINT
    const auto soon = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    if (!hop->channel.send(text, descriptors, soon)) std::abort();
    const Result<rpc::Packet> answer = hop->channel.receive(soon, {});
    if (!answer) std::abort();
    const Result<rpc::ReplyMessage> reply = rpc::read_reply(answer->text);
    if (!reply || reply->continues) std::abort();
    if (!reply->error.empty() && rpc::error_of(*reply).code == Errc::corrupt)
        hop->channel = hop->connect();
    return 0;
}

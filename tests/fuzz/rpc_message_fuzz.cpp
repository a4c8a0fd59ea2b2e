#include <cstdlib>

#include "core/rpc/message.hpp"

using namespace banger;

namespace {

void read_again(const std::string& text) {
    if (const Result<rpc::CallMessage> call = rpc::read_call(text)) {
        const Result<rpc::CallMessage> again = rpc::read_call(rpc::write_message(*call).value());
        if (!again || *again != *call) std::abort();
    }
    if (const Result<rpc::ReplyMessage> reply = rpc::read_reply(text)) {
        const Result<rpc::ReplyMessage> again = rpc::read_reply(rpc::write_message(*reply).value());
        if (!again || *again != *reply) std::abort();
        if (!reply->error.empty()) static_cast<void>(rpc::error_of(*reply));
    }
}

}  // namespace

/// The first byte says how the rest, a stream, is cut.
extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    if (size == 0) return 0;
    const std::size_t step = data[0] % 64 + 1U;
    std::string_view stream(reinterpret_cast<const char*>(data), size);  // NOLINT
    stream.remove_prefix(1);
    rpc::MessageSplitter splitter(4096);
    std::size_t taken = 0;
    for (std::size_t at = 0; at < stream.size(); at += step) {
        if (!splitter.add(stream.substr(at, step))) return 0;
        while (const std::optional<std::string> text = splitter.next()) {
            taken += text->size() + 1;
            read_again(*text);
        }
    }
    if (taken + splitter.pending() != stream.size()) std::abort();
    return 0;
}

// Firecracker's answers, whole and in pieces: no crash, and the same either way.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "plugins/vmm-firecracker/api.hpp"
#include "plugins/vmm-firecracker/http_reply.hpp"
#include "tests/fuzz/require.hpp"

using namespace banger::firecracker;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    HttpReplyReader whole;
    const banger::Result<bool> done = whole.feed(text);
    if (!done || !*done) return 0;
    HttpReplyReader pieces;
    for (std::size_t i = 0; i < size; ++i) {
        const banger::Result<bool> now = pieces.feed(text.substr(i, 1));
        require(now.has_value());
        require(*now == (i + 1 == size));
    }
    require(pieces.reply() == whole.reply());
    static_cast<void>(parse_instance_info(whole.reply().body));
    require(fault_message(whole.reply().body).size() <= 500);
    return 0;
}

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "plugins/image-debian/build_output.hpp"

/// Whatever mmdebstrap prints, in whatever pieces, is progress within its total and an explanation
/// of bounded length.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace banger;
    if (size == 0) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::size_t piece = data[0] + 1U;
    image_debian::BuildOutput output;
    for (std::size_t at = 0; at < text.size(); at += piece) {
        const std::optional<Progress> progress = output.add(text.substr(at, piece));
        if (progress && progress->total > 0 && progress->done > progress->total) __builtin_trap();
    }
    if (output.explain({1, 0}).message.size() > 8192) __builtin_trap();
    return 0;
}

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/catalog/index.hpp"

/// Whatever a catalog file holds is entries or an error with a remedy, never a crash or a hang.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace banger;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const Result<catalog::Index> entries = catalog::parse_catalog(text, "f");
    if (!entries && entries.error().remedy.empty()) __builtin_trap();
    return 0;
}

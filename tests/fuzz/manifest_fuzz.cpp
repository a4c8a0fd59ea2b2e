#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/plugins/manifest.hpp"
#include "tests/fuzz/require.hpp"

/// Whatever the file says: a manifest that keeps its own rules, or a sentence that names the file.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const banger::Result<banger::Manifest> manifest = banger::parse_manifest(text, "p.toml");
    if (!manifest) {
        require(manifest.error().message.starts_with("p.toml"));
        return 0;
    }
    require(!manifest->roles.empty());
    for (const auto& [key, setting] : manifest->settings)
        require(!setting.minimum || !setting.maximum || *setting.minimum <= *setting.maximum);
    // Defaults are within the schema's own bounds.
    require(banger::check_settings(*manifest, {}).has_value());
    return 0;
}

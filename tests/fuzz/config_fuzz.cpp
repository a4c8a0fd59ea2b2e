#include <cstddef>
#include <cstdint>
#include <string>

#include "core/config/config.hpp"
#include "tests/fuzz/require.hpp"

using banger::Config;
using banger::EffectiveValue;
using banger::FileSync;
using banger::Result;

/// Whatever the file says: a configuration whose paths are inside the home, or one clear sentence.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const Result<Config> config =
        banger::parse_config({{"c.toml", text}}, {.home = "/home/a", .default_ssh_key = "/k"});
    if (!config) {
        require(config.error().code == banger::Errc::invalid_argument);
        require(config.error().message.starts_with("c.toml:"));
        require(is_plain(config.error().message) && is_plain(config.error().remedy));
        require(!config.error().remedy.empty());
        return 0;
    }
    for (const EffectiveValue& value : banger::effective_values(*config))
        require(is_plain(value.value));
    for (const FileSync& entry : config->file_sync) {
        require(entry.host.starts_with("/home/a/") && entry.guest.starts_with("/root/"));
        require((entry.host + "/").find("/../") == std::string::npos);
        require((entry.guest + "/").find("/../") == std::string::npos);
    }
    return 0;
}

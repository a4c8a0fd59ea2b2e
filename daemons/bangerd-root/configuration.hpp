#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger::root {

/// A plugin to load, with every setting that its schema has: `banger system install` filled in the
/// defaults, because the helper reads no manifest.
struct ChosenPlugin {
    PluginName name;
    Settings settings;
    std::optional<Digest> digest;  ///< of the library; given for a third party's
};

/// All that the helper is told.
struct Configuration {
    std::uint32_t owner_uid = 0;
    std::uint32_t owner_gid = 0;
    std::vector<ChosenPlugin> plugins;
};

/// Strict JSON, every field known and needed. Errc::corrupt, invalid_argument.
Result<Configuration> parse_configuration(std::string_view text);

/// Reads the file (/etc/banger/helper.json), which like every folder above it must belong to root
/// or `trusted_uid` and be writable by no one else. Errc::unavailable otherwise.
Result<Configuration> read_configuration(const std::string& path, uid_t trusted_uid);

}  // namespace banger::root

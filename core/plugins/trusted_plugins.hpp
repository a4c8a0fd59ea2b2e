#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/values.hpp"
#include "core/plugins/loader.hpp"

/// Which third parties' plugins root lets run as root (docs/decisions/0019-root-trusts-bytes.md).
namespace banger {

/// By name, the digest of the library that root looked at.
using TrustedPlugins = std::map<std::string, Digest>;
/// In /etc/banger, readable by all.
inline constexpr std::string_view trusted_plugins_file = "trusted-plugins.json";

/// Empty where there is no such file. Read only when it and every folder above belong to `root` and
/// can be written by no one else: Errc::unavailable. Errc::corrupt, invalid_argument for its text.
Result<TrustedPlugins> read_trusted_plugins(const std::string& path, uid_t root);
Result<void> write_trusted_plugins(const std::string& path, const TrustedPlugins& trusted);

/// Whether it needs root and is not one of banger's own.
[[nodiscard]] bool is_stranger(const Manifest& manifest);

/// Why bangerd-root may not load a stranger: root never let it, or let other bytes. Reads the
/// library.
std::optional<Error> distrust_of(const PluginFiles& files, const TrustedPlugins& trusted);

/// What would let somebody else's code into the process beside the bytes that were looked at: a
/// place to look for libraries in, or a library by its path.
Result<void> check_stands_alone(const PluginFiles& files);

}  // namespace banger

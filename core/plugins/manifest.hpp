#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/host.hpp"
#include "banger/plugin.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"

/// NAME.toml, the manifest beside NAME.so: what a plugin is, read before its library is opened.
///
/// Strict: an unknown key, a wrong type, a role that does not exist or a default outside its own
/// range is refused with file and line, and with the nearest key that would have been right. Pure
/// functions; safe from any thread.
///
///     name = "net-user"
///     version = "0.1.0"
///     summary = "user-mode networking inside the VMM; needs no root"
///     roles = ["network"]
///     privilege = "none"
///     api_version = 1
///
///     [settings.guest_address]
///     type = "string"
///     default = "10.0.2.15"
///     description = "what every guest has behind its own translator"
namespace banger {

enum class Privilege {
    none,  ///< runs in bangerd, or in a child of it
    root,  ///< runs in bangerd-root; bangerd never opens the library
};
std::string_view to_string(Privilege privilege);

enum class SettingType { boolean, integer, string, list };
std::string_view to_string(SettingType type);  ///< "bool", "integer", "string", "list", as in TOML

/// One key that `[plugin.NAME]` may have. A list is one of strings.
struct SettingSchema {
    SettingType type = SettingType::string;
    SettingValue default_value;  ///< holds the alternative of `type`
    std::string description;
    std::optional<std::int64_t> minimum;  ///< integers only
    std::optional<std::int64_t> maximum;  ///< integers only
    /// Strings, and each element of a list: these words and no others. Empty: any.
    std::vector<std::string> allowed;
};
using SettingsSchema = std::map<std::string, SettingSchema, std::less<>>;

struct Manifest {
    PluginName name;
    std::string version;
    std::string summary;
    std::vector<Role> roles;  ///< at least one, each once, in the order of Role
    Privilege privilege = Privilege::none;
    std::uint32_t api_version = 0;
    SettingsSchema settings;
};

/// Reads a manifest. `file` is for messages only. Errc::corrupt for what is not TOML,
/// Errc::invalid_argument for everything else; the message begins with "FILE:LINE: ".
Result<Manifest> parse_manifest(std::string_view text, std::string_view file);

/// Checks what the user wrote in `[plugin.NAME]` and fills in the defaults. The message names the
/// key as the user knows it ("plugin.net-user.guest_address"); the caller, who knows file and line,
/// puts them in front. Errc::invalid_argument.
Result<Settings> check_settings(const Manifest& manifest, const Settings& written);

}  // namespace banger

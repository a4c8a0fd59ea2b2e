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
///
///     [sandbox]
///     read = ["/srv/images", "{folder}"]
///     network = true
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

/// What a plugin asks for that does not run in bangerd (core/plugin_host): everything else is taken
/// from it. For one that runs there it says nothing.
struct Sandbox {
    /// Files and folders: absolute paths, or "{KEY}" for those in a setting of the user's.
    std::vector<std::string> read;
    std::vector<std::string> write;  ///< folders, the same way
    bool network = false;            ///< core makes web calls for it
    ByteCount memory = ByteCount::gib(1);
};

/// For people: "reading /srv/images", "the web". Empty: nothing beyond its own folders.
std::vector<std::string> words_of(const Sandbox& sandbox);

struct Manifest {
    PluginName name;
    std::string version;
    std::string summary;
    std::vector<Role> roles;  ///< at least one, each once, in the order of Role
    Privilege privilege = Privilege::none;
    std::uint32_t api_version = 0;
    SettingsSchema settings;
    /// The name of a program beside the manifest, instead of a library; it always has a process of
    /// its own.
    std::string executable = {};
    Sandbox sandbox = {};
};

/// Reads a manifest. `file` is for messages only. Errc::corrupt for what is not TOML,
/// Errc::invalid_argument for everything else; the message begins with "FILE:LINE: ".
Result<Manifest> parse_manifest(std::string_view text, std::string_view file);

/// The paths of a sandbox with those of the settings in the place of their keys. An empty setting
/// gives none. Errc::invalid_argument for a setting that holds no absolute path.
Result<std::vector<std::string>> resolve_paths(const std::vector<std::string>& declared,
                                               const Settings& settings);

/// Checks what the user wrote in `[plugin.NAME]` and fills in the defaults. The message names the
/// key as the user knows it ("plugin.net-user.guest_address"); the caller, who knows file and line,
/// puts them in front. Errc::invalid_argument.
Result<Settings> check_settings(const Manifest& manifest, const Settings& written);

}  // namespace banger

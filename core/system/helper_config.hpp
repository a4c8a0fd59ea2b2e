#pragma once

#include <string>
#include <vector>

#include "core/config/config.hpp"
#include "core/plugins/loader.hpp"
#include "core/plugins/trusted_plugins.hpp"
#include "core/system/files.hpp"
#include "core/system/layout.hpp"

namespace banger::system {

/// The text of /etc/banger/helper.json, all that the root helper is ever told: the owner, and those
/// of the configuration's plugins that run as root, each with every setting. What the helper would
/// need a TOML parser, a schema or a default for is decided here.
///
/// A plugin's setting comes from its [plugin.NAME] table, else from the key of the configuration
/// that has its name (bridge_name, bridge_address, guest_dns, dns_zone, dns_port), else from its
/// schema. Those in `trusted` come with their digest: the helper loads no other bytes. Pure.
/// Errc::not_found for a plugin that `manifests` lacks, Errc::invalid_argument for a setting that
/// its schema refuses.
Result<std::string> helper_config(const Owner& owner, const Config& config,
                                  const std::vector<Manifest>& manifests,
                                  const TrustedPlugins& trusted);

/// The same of an installation. Third parties' plugins that need root are taken out of `release`:
/// they are not this version's to put there. What the configuration names and `release` lacks is
/// looked for in the plugin folder, and Errc::permission_denied when it needs root and is not what
/// root has trusted. `root` owns folder and list.
Result<std::string> helper_config_of(const Layout& layout, const Owner& owner, const Config& config,
                                     Release& release, uid_t root);

/// What root allowed, as it was looked at.
struct AllowedPlugin {
    PluginFiles files;
    Digest digest;
};
/// Writes down that the plugin of that name in the plugin folder may run as root, with the digest
/// of its library as it is now. Errc::invalid_argument for one that needs no such word.
Result<AllowedPlugin> trust_plugin(const Layout& layout, const PluginName& name, uid_t root);
/// False when it was not trusted.
Result<bool> distrust_plugin(const Layout& layout, const PluginName& name, uid_t root);

/// The configuration as the helper may know it: /etc/banger/config.toml over the defaults, never
/// the owner's own file.
Result<Config> load_system_config(const Layout& layout, const Owner& owner);

}  // namespace banger::system

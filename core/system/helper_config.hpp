#pragma once

#include <string>
#include <vector>

#include "core/config/config.hpp"
#include "core/plugins/manifest.hpp"
#include "core/system/layout.hpp"

namespace banger::system {

/// The text of /etc/banger/helper.json, all that the root helper is ever told: the owner, and those
/// of the configuration's plugins that run as root, each with every setting. What the helper would
/// need a TOML parser, a schema or a default for is decided here.
///
/// A plugin's setting comes from its [plugin.NAME] table, else from the key of the configuration
/// that has its name (bridge_name, bridge_address, guest_dns, dns_zone, dns_port), else from its
/// schema. Pure. Errc::not_found for a plugin that `manifests` lacks, Errc::invalid_argument for a
/// setting that its schema refuses.
Result<std::string> helper_config(const Owner& owner, const Config& config,
                                  const std::vector<Manifest>& manifests);

/// The configuration as the helper may know it: /etc/banger/config.toml over the defaults, never
/// the owner's own file.
Result<Config> load_system_config(const Layout& layout, const Owner& owner);

}  // namespace banger::system

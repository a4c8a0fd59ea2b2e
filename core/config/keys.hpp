#pragma once

#include <span>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "core/config/toml_place.hpp"

/// Every key that has a name of its own, as a table: reading it is the documentation. Internal to
/// core/config.
namespace banger::config {

struct Key {
    std::string_view section;  ///< "", "vm_defaults", "plugins"
    std::string_view name;
    Result<void> (*read)(Config& config, const Place& place);
    /// Value as it could stand in a file, and source.
    EffectiveValue (*show)(const Config& config);

    /// "vm_defaults.vcpu".
    [[nodiscard]] std::string full_name() const {
        return section.empty() ? std::string(name) : std::string(section) + "." + std::string(name);
    }
};

std::span<const Key> keys();

/// Text as TOML writes it, in quotes.
std::string toml_text(std::string_view text);

/// A plugin's setting as TOML writes it.
std::string setting_text(const SettingValue& value);

/// What holds where no file, variable or flag says otherwise.
Config default_config(const ConfigContext& context);

}  // namespace banger::config

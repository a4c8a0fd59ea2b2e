#pragma once

#include <string>
#include <vector>

#include "core/rpc/role_fields.hpp"

namespace banger::remote {

/// One plugin as its server describes it: what a proxy must know without asking again.
struct PluginDescription {
    PluginName name;
    std::vector<Role> roles;
    Addressing addressing;   ///< of the network role; empty without one
    bool cloning = false;    ///< Storage has its optional half
    bool pausing = false;    ///< VmBackend has
    bool snapshots = false;  ///< VmBackend has
    Settings settings;       ///< in effect
};

/// The answer to Describe.
struct Description {
    std::string version;  ///< of the server's build
    std::vector<PluginDescription> plugins;
};

}  // namespace banger::remote

template <>
struct banger::rpc::Fields<banger::remote::PluginDescription> {
    using T = banger::remote::PluginDescription;
    static constexpr auto list = fields(
        field("name", &T::name), field("roles", &T::roles), field("addressing", &T::addressing),
        field("cloning", &T::cloning), field("pausing", &T::pausing),
        field("snapshots", &T::snapshots), field("settings", &T::settings));
};

template <>
struct banger::rpc::Fields<banger::remote::Description> {
    using T = banger::remote::Description;
    static constexpr auto list =
        fields(field("version", &T::version), field("plugins", &T::plugins));
};

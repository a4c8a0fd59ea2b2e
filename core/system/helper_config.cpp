#include "core/system/helper_config.hpp"

#include <algorithm>

#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/plugins/inspect.hpp"
#include "core/rpc/json.hpp"

namespace banger::system {

namespace {

using rpc::Json;

/// Keys of the configuration under the names that plugins give them.
Settings shared_settings(const Owner& owner, const Config& config) {
    return {{"owner_uid", static_cast<std::int64_t>(owner.uid)},
            {"firecracker_bin", config.firecracker_bin->value_or("")},
            {"jailer_bin", config.jailer_bin->value_or("")},
            {"bridge_name", *config.bridge_name},
            {"bridge_address", config.bridge_ip->text() + "/" + std::to_string(*config.cidr)},
            {"guest_dns", config.guest_dns->text()},
            {"dns_zone", *config.dns_zone},
            {"dns_port", static_cast<std::int64_t>(*config.dns_port)}};
}

Result<Settings> settings_of(const Manifest& manifest, const Owner& owner, const Config& config) {
    Settings written;
    const auto table = config.plugin_tables.find(manifest.name.str());
    if (table != config.plugin_tables.end()) written = table->second.settings;
    for (const auto& [key, value] : shared_settings(owner, config)) {
        const auto schema = manifest.settings.find(key);
        if (schema != manifest.settings.end()) written.emplace(key, value);
    }
    return check_settings(manifest, written);
}

Json json_of(const SettingValue& value) {
    if (const bool* truth = std::get_if<bool>(&value)) return Json(*truth);
    if (const std::int64_t* number = std::get_if<std::int64_t>(&value)) return Json(*number);
    if (const std::string* text = std::get_if<std::string>(&value)) return Json(*text);
    Json::List list;
    for (const std::string& each : std::get<std::vector<std::string>>(value))
        list.emplace_back(each);
    return Json(std::move(list));
}

/// Every plugin that the configuration names, in the order in which the helper makes them.
///
/// vmm-firecracker is served whether or not it is the default: Firecracker may be installed later,
/// and a machine may ask for it.
std::vector<std::string> chosen_plugins(const Config& config,
                                        const std::vector<Manifest>& manifests) {
    std::vector<std::string> names{*config.plugins.network, *config.plugins.storage};
    if (*config.plugins.dns) names.push_back(**config.plugins.dns);
    names.push_back(*config.plugins.vm_backend);
    const std::string firecracker = "vmm-firecracker";
    if (std::ranges::any_of(manifests,
                            [&](const Manifest& each) { return each.name.str() == firecracker; }))
        names.push_back(firecracker);
    names.insert(names.end(), config.plugins.image_sources->begin(),
                 config.plugins.image_sources->end());
    std::vector<std::string> each;
    for (const std::string& name : names)
        if (std::ranges::find(each, name) == each.end()) each.push_back(name);
    return each;
}

}  // namespace

Result<std::string> helper_config(const Owner& owner, const Config& config,
                                  const std::vector<Manifest>& manifests,
                                  const TrustedPlugins& trusted) {
    Json::List plugins;
    for (const std::string& name : chosen_plugins(config, manifests)) {
        const auto manifest = std::ranges::find_if(
            manifests, [&](const Manifest& each) { return each.name.str() == name; });
        if (manifest == manifests.end()) {
            std::string known;
            for (const Manifest& each : manifests)
                known += (known.empty() ? "" : ", ") + each.name.str();
            return Error(Errc::not_found,
                         "the configuration names the plugin " + quoted(name) +
                             ", which is not part of this version",
                         "Choose another in [plugins] of /etc/banger/config.toml; there are: " +
                             known + ".");
        }
        if (manifest->privilege != Privilege::root) continue;
        const Settings settings =
            BANGER_TRY(settings_of(*manifest, owner, config).context("preparing the root helper"));
        Json::Object values;
        for (const auto& [key, value] : settings)
            values.push_back({key, json_of(value)});
        Json::Object plugin{{"name", Json(name)}, {"settings", Json(std::move(values))}};
        if (const auto entry = trusted.find(name); entry != trusted.end())
            plugin.push_back({"digest", Json(entry->second.str())});
        plugins.emplace_back(std::move(plugin));
    }
    const Json all(Json::Object{{"owner_uid", Json(static_cast<std::int64_t>(owner.uid))},
                                {"owner_gid", Json(static_cast<std::int64_t>(owner.gid))},
                                {"plugins", Json(std::move(plugins))}});
    return all.pretty_text() + "\n";
}

Result<std::string> helper_config_of(const Layout& layout, const Owner& owner, const Config& config,
                                     Release& release, uid_t root) {
    std::erase_if(release.manifests, is_stranger);
    const TrustedPlugins trusted = BANGER_TRY(read_trusted_plugins(layout.trusted_plugins, root));
    std::vector<Manifest> manifests = release.manifests;
    for (const std::string& name : chosen_plugins(config, manifests)) {
        const auto is_it = [&](const Manifest& each) { return each.name.str() == name; };
        if (std::ranges::any_of(manifests, is_it)) continue;
        if (!path_exists(layout.plugins + "/" + name + ".toml")) continue;  // said below
        Admission<PluginFiles> files = find_plugin(layout.plugins, name, root);
        if (!files) return files.refusal().error();
        if (const std::optional<Error> distrust = distrust_of(*files, trusted))
            return Error(distrust->code, files->library + ": " + distrust->message,
                         distrust->remedy);
        manifests.push_back(files->manifest);
    }
    return helper_config(owner, config, manifests, trusted);
}

Result<AllowedPlugin> trust_plugin(const Layout& layout, const PluginName& name, uid_t root) {
    const std::string file = layout.plugins + "/" + name.str();
    if (!path_exists(file + ".so") && !path_exists(file + ".toml"))
        return Error(Errc::not_found, "there is no plugin " + name.str() + " in " + layout.plugins,
                     "Put it there first: sudo install -m 644 " + name.str() + ".so " + name.str() +
                         ".toml " + layout.plugins + "/");
    Admission<PluginFiles> files = find_plugin(layout.plugins, name.str(), root);
    if (!files) return files.refusal().error();
    if (!is_stranger(files->manifest))
        return Error(Errc::invalid_argument,
                     "the plugin " + name.str() +
                         (files->manifest.privilege == Privilege::root ? " is banger's own"
                                                                       : " needs no root"),
                     "There is nothing to allow: name it in [plugins] of the configuration.");
    BANGER_TRY(check_stands_alone(*files));
    TrustedPlugins trusted = BANGER_TRY(read_trusted_plugins(layout.trusted_plugins, root));
    Digest digest = BANGER_TRY(files->digest());
    trusted.insert_or_assign(name.str(), digest);
    BANGER_TRY(write_trusted_plugins(layout.trusted_plugins, trusted));
    return AllowedPlugin{std::move(*files), std::move(digest)};
}

Result<bool> distrust_plugin(const Layout& layout, const PluginName& name, uid_t root) {
    TrustedPlugins trusted = BANGER_TRY(read_trusted_plugins(layout.trusted_plugins, root));
    if (trusted.erase(name.str()) == 0) return false;
    BANGER_TRY(write_trusted_plugins(layout.trusted_plugins, trusted));
    return true;
}

Result<Config> load_system_config(const Layout& layout, const Owner& owner) {
    Paths paths;
    paths.mode = RunMode::system;
    paths.home = owner.home;
    paths.ssh_key = owner.home + "/.local/state/banger/ssh/id_ed25519";
    paths.system_config_file = layout.config;
    // A name that no file has.
    paths.user_config_file = "";
    return load_config(paths, {});
}

}  // namespace banger::system

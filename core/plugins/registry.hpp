#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "banger/plugin.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"
#include "core/plugin_host/hosted_plugin.hpp"
#include "core/plugins/host.hpp"
#include "core/plugins/loader.hpp"
#include "core/plugins/manifest.hpp"
#include "core/plugins/tracked.hpp"

namespace banger {

/// Which plugin fills which role on this host: `[plugins]` of the configuration.
struct RoleChoice {
    std::string network;
    std::string dns = "none";  ///< "none" is built in (NoDns) and no plugin
    std::string storage;
    std::string vm_backend;
    std::vector<std::string> image_sources;  ///< asked in this order
};

/// A plugin that is linked into the program instead of loaded from a folder. For tests.
struct BuiltInPlugin {
    Manifest manifest;
    PluginFactory make;
};

struct RegistryOptions {
    /// Searched in this order; the first that has a name wins.
    std::vector<std::string> folders;
    /// Trusted beside root as owner of plugin files.
    uid_t owner = 0;
    RoleChoice choice;
    /// `[plugin.NAME]` tables as written, by plugin name.
    std::map<std::string, Settings, std::less<>> settings;
    /// "FILE:LINE" of a plugin's setting, or of its table when `key` is empty. For messages.
    std::function<std::string(const std::string& plugin, const std::string& key)> place_of = {};
    PluginFolders own_folders;
    PluginLog log;    ///< optional
    CallHooks hooks;  ///< optional; without slow_call, slow calls become lines of `log`
    /// Called once for each plugin, before anybody else can reach it: the place for recover().
    /// The roles are tracked ones. An error refuses the plugin. Runs under a lock: it must not call
    /// the registry. Optional.
    std::function<Result<void>(const PluginName&, const Roles&)> on_load;
    std::vector<BuiltInPlugin> built_in;
    HttpClient::Limits http;
    /// Paths::root_socket: where bangerd-root serves the plugins that need root. Empty (user mode):
    /// such a plugin cannot be chosen.
    std::string root_socket = {};

    /// System mode: root's list (trusted_plugins.hpp). Empty: none is kept, and who is in
    /// `folders` is believed.
    std::string trusted_plugins = {};
    /// To whom that list must belong.
    uid_t root = 0;

    /// Searched after `folders`. What lies there is not believed: it runs in a process of its own,
    /// and whatever it does is no reason for bangerd not to start.
    std::vector<std::string> third_party_folders = {};
    /// Path of banger-plugin-host.
    std::string plugin_host = {};
    /// Gives a process of a third party's plugin a control group in which it may use `memory`.
    /// The plugin is loaded there when this returns. Any thread; optional.
    std::function<void(const PluginName&, const ProcessId&, ByteCount memory)> contain = {};
    /// Third parties' plugins are left alone.
    bool is_safe_mode = false;
    plugin_host::Patience patience = {};
};

enum class PluginStatus {
    loaded,     ///< has an instance in this process
    available,  ///< could be loaded; no role asks for it
    root_only,  ///< runs in bangerd-root; never opened here
    refused,
    quarantined,  ///< crashed too often in its process; no more are started
};
/// "loaded", "available", "root-only", "refused", "quarantined"
std::string_view to_string(PluginStatus status);

/// How far a plugin is believed.
enum class Trust {
    own,        ///< lies in banger's own folder, and runs in bangerd or bangerd-root
    by_root,    ///< a third party's that root lets run in bangerd-root
    none,       ///< needs root, which root has not allowed
    sandboxed,  ///< a third party's, in a process without rights
};
/// "own", "by root", "none", "sandboxed"
std::string_view to_string(Trust trust);

/// A row of `plugin list`, and all of `plugin info`. What a refusal came too early to know is
/// empty.
struct PluginInfo {
    std::string name;
    std::string version;
    std::string summary;
    std::vector<Role> roles;
    std::vector<Role> fills;  ///< roles that this host's configuration gives it
    Privilege privilege = Privilege::none;
    /// "bangerd", "bangerd-root", "banger-plugin-host"; empty when it runs nowhere.
    std::string runs_in;
    std::string file;
    std::string digest;  ///< "sha256:…" of the library
    std::string owner;   ///< "root" or "uid 1000"
    PluginStatus status = PluginStatus::available;
    std::optional<Refusal> refusal;  ///< or what it is in quarantine for
    std::optional<Trust> trust;      ///< nothing when its manifest could not be read
    std::optional<Sandbox> sandbox;  ///< what it asks for, when it has a process of its own
    SettingsSchema settings_schema;
    Settings settings;  ///< in effect; only when loaded
    std::vector<PluginCall> in_flight;
    std::vector<CallCount> calls;
};

/// The plugins of one process: which there are, which fills which role, and what was refused.
///
/// open() looks at every folder, reads every manifest, and loads what the configuration names;
/// other plugins are loaded when a machine asks for them by name. Everything that core gets is
/// tracked (tracked.hpp) and lives as long as the registry. Methods are safe from any thread; those
/// that return a Result may block while a library is loaded.
class Registry {
public:
    /// Fails only for what the configuration names: a role that nothing fills, a plugin that is
    /// missing or refused (with the refusal's sentence), settings that do not fit its schema, a
    /// `[plugin.NAME]` table for a plugin that does not exist. A third party's plugin that is there
    /// and not to be had fails when it is called instead.
    static Result<std::unique_ptr<Registry>> open(RegistryOptions options);
    ~Registry();
    Registry(const Registry&) = delete;
    Registry& operator=(const Registry&) = delete;

    // This host's choice. Always there.
    [[nodiscard]] Network& network();
    [[nodiscard]] Dns& dns();
    [[nodiscard]] Storage& storage();
    [[nodiscard]] VmBackend& vm_backend();
    [[nodiscard]] const std::vector<std::pair<PluginName, ImageSource*>>& image_sources() const;
    [[nodiscard]] const RoleChoice& choice() const;
    /// Whether the plugin is not believed, and runs in a process of its own.
    [[nodiscard]] bool is_hosted(std::string_view name) const;

    // One machine's choice, by name. Loads the plugin if need be. Errc::not_found with the list of
    // those that fill the role, Errc::unavailable for a refused one, Errc::unsupported for one that
    // does not fill the role.
    Result<Network*> network(std::string_view name);
    Result<Storage*> storage(std::string_view name);
    Result<VmBackend*> vm_backend(std::string_view name);
    Result<ImageSource*> image_source(std::string_view name);

    /// Why a plugin that was there once is not to be had now: it is missing, refused, or in
    /// quarantine. Nothing: it is there. Loads nothing and does not block.
    [[nodiscard]] std::optional<Error> why_away(std::string_view name);

    /// Every plugin and every refusal, sorted by name. Opens the libraries that were not opened yet
    /// (without making an instance), so that a door that does not fit shows; a third party's in a
    /// process that ends afterwards.
    std::vector<PluginInfo> list();
    /// One of list(). Errc::not_found with the nearest name.
    Result<PluginInfo> info(std::string_view name);

    /// Forgets the crashes of a plugin in quarantine. Errc::unsupported for one that can have none.
    Result<void> retry(std::string_view name);

    /// Calls in flight for longer than `age`, oldest first.
    [[nodiscard]] std::vector<PluginCall> calls_older_than(std::chrono::nanoseconds age) const;
    /// Rows for `doctor`: one for each plugin (loaded, refused, stuck), then its own checks().
    std::vector<Check> checks(std::stop_token stop);

private:
    struct State;
    explicit Registry(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace banger

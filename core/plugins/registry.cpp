#include "core/plugins/registry.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <list>
#include <mutex>
#include <set>
#include <thread>

#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/plugin_host/landlock.hpp"
#include "core/plugins/no_dns.hpp"
#include "core/plugins/trusted_plugins.hpp"
#include "core/plugins/unavailable.hpp"
#include "core/remote/proxies.hpp"

namespace banger {

namespace {

constexpr std::string_view no_dns = "none";
constexpr std::chrono::minutes stuck_after{2};

/// One plugin that has a manifest. Members in the order in which they need each other.
struct Entry {
    Manifest manifest;
    std::optional<PluginFiles> files = {};  ///< nothing when it is built in
    PluginFactory factory = {};             ///< empty when it is a library
    std::optional<Library> library = {};
    std::optional<Refusal> refusal = {};
    bool is_third_party = false;
    Trust trust = Trust::own;
    std::unique_ptr<std::mutex> loading = std::make_unique<std::mutex>();  ///< taken before mutex
    bool is_probed = false;                                                ///< of a hosted one
    std::unique_ptr<PluginHost> host = {};
    std::unique_ptr<plugin_host::HostedPlugin> hosted = {};  ///< instead of `library` and `plugin`
    std::unique_ptr<CallTracker> tracker = {};
    std::optional<LoadedPlugin> plugin = {};
    std::unique_ptr<remote::RemotePlugin> remote =
        {};  ///< instead of `plugin`, for one that needs root
    std::unique_ptr<TrackedRoles> tracked = {};
    std::vector<Role> fills = {};
    std::string digest = {};  ///< of the library, once somebody asked: a start does not wait for it

    [[nodiscard]] bool has_role(Role role) const {
        return std::ranges::find(manifest.roles, role) != manifest.roles.end();
    }
    [[nodiscard]] std::string file() const { return files ? files->library : "built in"; }
    [[nodiscard]] bool is_hosted() const { return is_third_party || !manifest.executable.empty(); }
};

std::string seconds_text(std::chrono::nanoseconds time) {
    return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count()) + " s";
}

/// Without links; nothing where there is nothing.
std::optional<std::string> real_path(const std::string& path) {
    const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                           &std::free);
    if (!real) return std::nullopt;
    return std::string(real.get());
}

/// Changes whenever somebody replaces the file.
std::string identity_of(const UniqueFd& file) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return {};
    return std::to_string(status.st_ino) + " " + std::to_string(status.st_size) + " " +
           std::to_string(status.st_ctim.tv_sec) + "." + std::to_string(status.st_ctim.tv_nsec);
}

/// Whether `path` is the folder or lies in it.
bool is_beneath(const std::string& path, const std::string& folder) {
    return path == folder || folder == "/" || path.starts_with(folder + "/");
}

/// What plugins of third parties are kept from on this kernel.
Check confinement_check() {
    const int version = plugin_host::landlock_version();
    if (version > 0)
        return {"plugin host", CheckStatus::pass,
                "third parties' plugins are confined (Landlock " + std::to_string(version) +
                    ", seccomp)",
                ""};
    return {"plugin host", CheckStatus::warn,
            "this kernel has no Landlock: third parties' plugins can read and write the owner's "
            "files",
            "Boot a kernel with CONFIG_SECURITY_LANDLOCK and landlock in its lsm= list, or run "
            "banger with --safe-mode."};
}

std::string call_text(const PluginCall& call) {
    return std::string(to_string(call.role)) + "." + call.method +
           (call.vm.empty() ? "" : " of " + call.vm);
}

}  // namespace

std::string_view to_string(PluginStatus status) {
    switch (status) {
        case PluginStatus::loaded:
            return "loaded";
        case PluginStatus::available:
            return "available";
        case PluginStatus::root_only:
            return "root-only";
        case PluginStatus::refused:
            return "refused";
        case PluginStatus::quarantined:
            return "quarantined";
    }
    return "";
}

std::string_view to_string(Trust trust) {
    switch (trust) {
        case Trust::own:
            return "own";
        case Trust::by_root:
            return "by root";
        case Trust::none:
            return "none";
        case Trust::sandboxed:
            return "sandboxed";
    }
    return "";
}

/// Everything behind the registry. `mutex` guards the entries' loading and the list of refusals;
/// what is loaded never changes and is used without it.
struct Registry::State {
    RegistryOptions options;
    HttpClient http;
    mutable std::mutex mutex;
    std::deque<Entry> entries;                    ///< sorted by name; never moves an element
    std::vector<Refusal> refusals;                ///< of what has no manifest that could be read
    std::shared_ptr<remote::Client> root_client;  ///< made when the first plugin needs it
    NoDns no_dns_plugin;
    std::list<Unavailable> stand_ins;
    std::set<std::string, std::less<>> third_party_refusals;
    Roles chosen;
    std::vector<std::pair<PluginName, ImageSource*>> image_sources;

    explicit State(RegistryOptions given) : options(std::move(given)), http(options.http) {}

    void find_all();
    Entry* find(std::string_view name);
    [[nodiscard]] std::vector<std::string> names(std::optional<Role> role) const;
    Result<void> check_tables();
    Result<void> choose();
    Result<Roles> choose_one(Role role, const std::string& name);
    Result<Entry*> load(std::string_view name, Role role);
    Result<void> load(Entry& entry);
    Result<Settings> settings_of(const Manifest& manifest) const;
    Result<Roles> load_here(Entry& entry);
    Result<void> load_hosted(Entry& entry);
    Result<void> prepare_hosted(Entry& entry);
    Result<std::vector<std::string>> opened_paths(const std::vector<std::string>& declared,
                                                  const Settings& settings) const;
    void probe_hosted();
    [[nodiscard]] bool is_third_party(std::string_view name);
    void ask_root(const TrustedPlugins& trusted);
    void add_folder(const std::string& folder, bool is_third_party,
                    std::map<std::string, Entry>& found);
    Result<Roles> reach_in_root(Entry& entry);
    void open_library(Entry& entry);
    Refusal& refuse(Entry& entry, const Error& error);
    [[nodiscard]] CallHooks hooks() const;
    static PluginInfo info_of(Entry& entry);
    static void add_hosted(const Entry& entry, PluginInfo& info);
};

void Registry::State::add_folder(const std::string& folder, bool is_third_party,
                                 std::map<std::string, Entry>& found) {
    for (Admission<PluginFiles>& files : find_plugins(folder, options.owner)) {
        if (!files) {
            if (is_third_party) third_party_refusals.insert(files.refusal().name);
            refusals.push_back(files.refusal());
            continue;
        }
        const std::string name = files->manifest.name.str();
        Entry entry{.manifest = files->manifest,
                    .files = std::move(*files),
                    .is_third_party = is_third_party};
        if (is_third_party && options.is_safe_mode)
            entry.refusal = Refusal{name, entry.file(), "bangerd is in safe mode",
                                    "Restart bangerd without --safe-mode to use it again."};
        found.emplace(name, std::move(entry));
    }
}

void Registry::State::find_all() {
    std::map<std::string, Entry> found;
    for (const BuiltInPlugin& plugin : options.built_in)
        found.emplace(plugin.manifest.name.str(),
                      Entry{.manifest = plugin.manifest, .factory = plugin.make});
    for (const std::string& folder : options.folders)
        add_folder(folder, false, found);
    for (const std::string& folder : options.third_party_folders)
        add_folder(folder, true, found);
    for (auto& [name, entry] : found)
        entries.push_back(std::move(entry));
    if (!options.trusted_plugins.empty()) {
        const Result<TrustedPlugins> trusted =
            read_trusted_plugins(options.trusted_plugins, options.root);
        if (!trusted && options.log)
            options.log(LogLevel::error, "trusted plugins", trusted.error().text());
        ask_root(trusted.value_or({}));
    }
    // An earlier folder's good plugin does not make a later folder's bad one of that name matter.
    std::erase_if(refusals, [&](const Refusal& refusal) { return find(refusal.name) != nullptr; });
    std::ranges::sort(refusals, {}, &Refusal::name);
}

/// Which of those that need root bangerd-root will load.
void Registry::State::ask_root(const TrustedPlugins& trusted) {
    for (Entry& entry : entries) {
        if (!entry.files || entry.is_hosted() || !is_stranger(entry.manifest)) continue;
        const std::optional<Error> distrust = distrust_of(*entry.files, trusted);
        entry.trust = distrust ? Trust::none : Trust::by_root;
        if (distrust) refuse(entry, *distrust);
    }
}

Entry* Registry::State::find(std::string_view name) {
    const auto at = std::ranges::find_if(
        entries, [&](const Entry& entry) { return entry.manifest.name.str() == name; });
    return at == entries.end() ? nullptr : &*at;
}

std::vector<std::string> Registry::State::names(std::optional<Role> role) const {
    std::vector<std::string> result;
    for (const Entry& entry : entries)
        if (!role || entry.has_role(*role)) result.push_back(entry.manifest.name.str());
    return result;
}

Result<void> Registry::State::check_tables() {
    for (const auto& [name, table] : options.settings) {
        if (find(name)) continue;
        if (std::ranges::find(refusals, name, &Refusal::name) != refusals.end()) continue;
        const std::optional<std::string> near = nearest_word(name, names({}));
        return Error(Errc::invalid_argument,
                     (options.place_of ? options.place_of(name, "") + ": " : "") +
                         "the configuration has a table [plugin." + name + "], but no plugin " +
                         quoted(name) + " is installed",
                     near ? "Did you mean [plugin." + *near + "]?"
                          : "Remove the table, or install the plugin.");
    }
    return ok();
}

Refusal& Registry::State::refuse(Entry& entry, const Error& error) {
    entry.tracked.reset();
    entry.plugin.reset();
    entry.remote.reset();
    return entry.refusal.emplace(
        Refusal{entry.manifest.name.str(), entry.file(), error.message, error.remedy});
}

void Registry::State::open_library(Entry& entry) {
    if (!entry.files || entry.library || entry.refusal || entry.is_hosted() ||
        entry.manifest.privilege == Privilege::root)
        return;
    Admission<Library> library = Library::open(*entry.files);
    if (library)
        entry.library = *library;
    else
        entry.refusal = library.refusal();
}

CallHooks Registry::State::hooks() const {
    CallHooks hooks = options.hooks;
    if (!hooks.slow_call && options.log)
        hooks.slow_call = [log = options.log](const PluginCall& call, auto took) {
            log(LogLevel::warning, call.plugin, call_text(call) + " took " + seconds_text(took));
        };
    return hooks;
}

/// Loads what is not loaded yet.
Result<void> Registry::State::load(Entry& entry) {
    const std::lock_guard loading(*entry.loading);
    if (entry.is_hosted()) return load_hosted(entry);
    const std::lock_guard lock(mutex);
    const PluginName& name = entry.manifest.name;
    if (entry.tracked) return ok();
    const Roles roles = BANGER_TRY(
        entry.manifest.privilege == Privilege::root ? reach_in_root(entry) : load_here(entry));
    if (!entry.tracker) entry.tracker = std::make_unique<CallTracker>(name.str(), hooks());
    entry.tracked = std::make_unique<TrackedRoles>(roles, *entry.tracker);
    if (!options.on_load) return ok();
    Result<void> accepted = options.on_load(name, entry.tracked->roles());
    if (accepted) return ok();
    // A helper that is away for a moment says nothing about the plugin.
    if (entry.remote && accepted.error().code == Errc::unavailable) {
        entry.tracked.reset();
        entry.remote.reset();
        return accepted;
    }
    return refuse(entry, accepted.error()).error();
}

/// What the user wrote, checked, over the defaults. An error says where it stands.
Result<Settings> Registry::State::settings_of(const Manifest& manifest) const {
    const auto found = options.settings.find(manifest.name.str());
    const Settings written = found == options.settings.end() ? Settings{} : found->second;
    Result<Settings> settings = check_settings(manifest, written);
    if (settings || !options.place_of) return settings;
    for (const auto& [key, value] : written) {
        const Result<Settings> one = check_settings(manifest, {{key, value}});
        if (one) continue;
        Error error = one.error();
        error.message = options.place_of(manifest.name.str(), key) + ": " + error.message;
        return error;
    }
    return settings;
}

Result<Roles> Registry::State::load_here(Entry& entry) {
    const PluginName& name = entry.manifest.name;
    open_library(entry);
    if (entry.refusal) return entry.refusal->error();

    Result<Settings> settings = settings_of(entry.manifest);
    // The user's mistake, not the plugin's: nothing is kept, the next attempt may be right.
    if (!settings) return std::move(settings).error();
    Result<std::unique_ptr<PluginHost>> host = PluginHost::create(
        name, options.own_folders, std::move(settings).value(), options.log, http);
    if (!host) return std::move(host).error().context("preparing the plugin " + name.str());
    entry.host = std::move(host).value();

    Admission<LoadedPlugin> plugin =
        entry.files ? LoadedPlugin::create(*entry.files, *entry.library, *entry.host)
                    : LoadedPlugin::create(entry.manifest, entry.factory, *entry.host);
    if (!plugin) {
        entry.refusal = plugin.refusal();
        return entry.refusal->error();
    }
    entry.plugin.emplace(std::move(*plugin));
    return entry.plugin->roles();
}

/// The declared paths of a sandbox, less what does not exist: none may lead to what is banger's
/// own.
Result<std::vector<std::string>> Registry::State::opened_paths(
    const std::vector<std::string>& declared, const Settings& settings) const {
    std::vector<std::string> own = options.folders;
    own.insert(own.end(), options.third_party_folders.begin(), options.third_party_folders.end());
    for (const std::string& folder :
         {options.own_folders.state, options.own_folders.cache, options.own_folders.run})
        own.push_back(parent_path(folder));
    std::vector<std::string> paths = BANGER_TRY(resolve_paths(declared, settings));
    std::vector<std::string> opened;
    for (const std::string& path : paths) {
        const std::optional<std::string> real = real_path(path);
        if (!real) continue;
        for (const std::string& each : own) {
            const std::string folder = real_path(each).value_or(each);
            if (is_beneath(*real, folder) || is_beneath(folder, *real))
                return Error(Errc::permission_denied,
                             "it asks for " + quoted(path) + ", where banger's own " +
                                 quoted(folder) + " is",
                             "Give it a folder elsewhere; its author must not ask for that one.");
        }
        opened.push_back(*real);
    }
    return opened;
}

/// Everything about a plugin with a process of its own but the process. The caller holds the mutex.
Result<void> Registry::State::prepare_hosted(Entry& entry) {
    if (entry.refusal) return entry.refusal->error();
    if (entry.hosted) return ok();
    const PluginName& name = entry.manifest.name;
    if (entry.manifest.privilege == Privilege::root)
        return refuse(entry, Error(Errc::unavailable,
                                   "it needs root, and lies in a folder that is not banger's own",
                                   "Only root can add such a plugin; docs/PLUGINS.md says how."))
            .error();
    // The VMM it starts would have to outlive it, and would be confined as it is.
    if (entry.has_role(Role::vm_backend))
        return refuse(entry, Error(Errc::unavailable,
                                   "it fills the role vm-backend, and a plugin in the plugin host "
                                   "starts no other process",
                                   "Install it beside banger's own plugins if you trust it."))
            .error();
    Settings settings = BANGER_TRY(settings_of(entry.manifest));
    Result<std::unique_ptr<PluginHost>> host =
        PluginHost::create(name, options.own_folders, settings, options.log, http);
    if (!host) return std::move(host).error().context("preparing the plugin " + name.str());
    const Sandbox& sandbox = entry.manifest.sandbox;
    Result<std::vector<std::string>> read = opened_paths(sandbox.read, settings);
    if (!read) return refuse(entry, read.error()).error();
    Result<std::vector<std::string>> write = opened_paths(sandbox.write, settings);
    if (!write) return refuse(entry, write.error()).error();
    for (const std::string& own :
         {(*host)->state_folder(), (*host)->cache_folder(), (*host)->run_folder()})
        write->push_back(own);
    entry.host = std::move(*host);
    PluginHost& gives = *entry.host;
    plugin_host::HostedOptions hosted{
        .recipe = {.program = options.plugin_host,
                   .file = entry.files->library_fd.get(),
                   .confine = {.name = name,
                               .file = entry.files->library,
                               .is_executable = !entry.manifest.executable.empty(),
                               .read = std::move(*read),
                               .write = std::move(*write),
                               .memory = sandbox.memory},
                   .start = {.name = name,
                             .settings = std::move(settings),
                             .state_folder = gives.state_folder(),
                             .cache_folder = gives.cache_folder(),
                             .run_folder = gives.run_folder(),
                             .has_network = sandbox.network},
                   .log = [&gives](LogLevel level,
                                   std::string_view line) { gives.log(level, line); }},
        .roles = entry.manifest.roles,
        .web = sandbox.network ? &gives : nullptr,
        .patience = options.patience,
        // Where no plugin has a folder: their names do not begin with a dot.
        .crash_file = options.own_folders.state + "/.crashes/" + name.str(),
        .identity = identity_of(entry.files->library_fd)};
    if (options.contain)
        hosted.recipe.contain = [this, name, memory = sandbox.memory](const ProcessId& process) {
            options.contain(name, process, memory);
        };
    entry.hosted = std::make_unique<plugin_host::HostedPlugin>(std::move(hosted));
    return ok();
}

/// Without the mutex while the plugin has its say: others are not to wait for it. The caller holds
/// entry.loading.
Result<void> Registry::State::load_hosted(Entry& entry) {
    std::unique_lock lock(mutex);
    if (entry.tracked) return ok();
    BANGER_TRY(prepare_hosted(entry));
    const PluginName& name = entry.manifest.name;
    if (!entry.tracker) entry.tracker = std::make_unique<CallTracker>(name.str(), hooks());
    lock.unlock();
    const Roles roles = BANGER_TRY(entry.hosted->open());
    auto tracked = std::make_unique<TrackedRoles>(roles, *entry.tracker);
    if (options.on_load) BANGER_TRY(options.on_load(name, tracked->roles()));
    lock.lock();
    entry.tracked = std::move(tracked);
    return ok();
}

/// Looks at the doors of hosted plugins that nobody has looked at, all at once.
void Registry::State::probe_hosted() {
    std::vector<std::jthread> probes;
    const std::lock_guard lock(mutex);
    for (Entry& entry : entries) {
        if (!entry.is_hosted() || entry.is_probed || entry.refusal) continue;
        // A mistake of the user's is told when the plugin is used.
        if (!prepare_hosted(entry)) continue;
        entry.is_probed = true;
        probes.emplace_back([this, &entry] {
            const Result<void> fits = entry.hosted->probe();
            const std::lock_guard again(mutex);
            // Roles that somebody has stay: their calls fail by themselves.
            if (!fits && !entry.refusal)
                entry.refusal = Refusal{entry.manifest.name.str(), entry.file(),
                                        fits.error().message, fits.error().remedy};
        });
    }
}

bool Registry::State::is_third_party(std::string_view name) {
    const Entry* entry = find(name);
    return entry != nullptr ? entry->is_hosted() : third_party_refusals.contains(name);
}

/// A plugin that needs root: never opened here. Its settings are the root-owned ones of the
/// installation, not this process'.
Result<Roles> Registry::State::reach_in_root(Entry& entry) {
    const std::string& name = entry.manifest.name.str();
    if (entry.refusal) return entry.refusal->error();
    if (options.root_socket.empty())
        return Error(Errc::unsupported,
                     "the plugin " + quoted(name) + " needs root and runs in bangerd-root only",
                     "Install the system services, or choose a plugin that needs no root.");
    if (!root_client)
        root_client = BANGER_TRY(remote::Client::open(remote::connect_to(options.root_socket), {}));
    std::unique_ptr<remote::RemotePlugin> plugin =
        BANGER_TRY(remote::RemotePlugin::open(root_client, name));
    if (plugin->description().roles != entry.manifest.roles)
        return Error(Errc::unavailable,
                     "the plugin " + quoted(name) +
                         " fills other roles in bangerd-root than its manifest here says",
                     "Run `banger system restart`, so that both have the same build.");
    entry.remote = std::move(plugin);
    return entry.remote->roles();
}

Result<Entry*> Registry::State::load(std::string_view name, Role role) {
    Entry* entry = find(name);
    if (!entry) {
        const auto refusal = std::ranges::find(refusals, name, &Refusal::name);
        if (refusal != refusals.end()) return refusal->error();
        std::string candidates;
        for (const std::string& candidate : names(role))
            candidates += (candidates.empty() ? "" : ", ") + candidate;
        return Error(Errc::not_found, "no plugin is called " + quoted(name),
                     candidates.empty() ? "No installed plugin fills the role " +
                                              std::string(to_string(role)) + "."
                                        : "For the role " + std::string(to_string(role)) +
                                              " there are: " + candidates + ".");
    }
    if (!entry->has_role(role))
        return Error(Errc::unsupported,
                     "the plugin " + quoted(name) + " does not fill the role " +
                         std::string(to_string(role)),
                     "Choose another; see `banger plugin list`.");
    BANGER_TRY(load(*entry));
    return entry;
}

Result<Roles> Registry::State::choose_one(Role role, const std::string& name) {
    if (name.empty())
        return Error(Errc::invalid_argument,
                     "no plugin is chosen for the role " + std::string(to_string(role)),
                     "Name one in [plugins] of the configuration.");
    Result<Entry*> entry = load(name, role);
    if (!entry && is_third_party(name) && entry.error().code != Errc::invalid_argument) {
        if (options.log) options.log(LogLevel::error, name, entry.error().text());
        return stand_ins.emplace_back(entry.error()).roles();
    }
    if (!entry)
        return std::move(entry).error().context("loading the plugin for the role " +
                                                std::string(to_string(role)));
    (*entry)->fills.push_back(role);
    return (*entry)->tracked->roles();
}

Result<void> Registry::State::choose() {
    const RoleChoice& choice = options.choice;
    chosen.network = BANGER_TRY(choose_one(Role::network, choice.network)).network;
    chosen.dns =
        choice.dns == no_dns ? &no_dns_plugin : BANGER_TRY(choose_one(Role::dns, choice.dns)).dns;
    chosen.storage = BANGER_TRY(choose_one(Role::storage, choice.storage)).storage;
    chosen.vm_backend = BANGER_TRY(choose_one(Role::vm_backend, choice.vm_backend)).vm_backend;
    for (const std::string& name : choice.image_sources) {
        const Roles roles = BANGER_TRY(choose_one(Role::image_source, name));
        image_sources.emplace_back(BANGER_TRY(PluginName::parse(name)), roles.image_source);
    }
    return ok();
}

void Registry::State::add_hosted(const Entry& entry, PluginInfo& info) {
    if (!entry.hosted) return;
    const plugin_host::Health health = entry.hosted->health();
    info.runs_in = "banger-plugin-host";
    if (entry.tracked) info.status = PluginStatus::loaded;
    if (entry.host) info.settings = entry.host->settings();
    if (health.trouble && !health.is_quarantined) {
        info.status = PluginStatus::refused;
        info.refusal =
            Refusal{info.name, info.file, health.trouble->message, health.trouble->remedy};
    }
    if (!health.is_quarantined) return;
    info.status = PluginStatus::quarantined;
    info.refusal =
        Refusal{info.name, info.file, "it crashed too often, last: " + health.last_crash,
                "Install a corrected one, or let it try again: banger plugin retry " + info.name};
}

PluginInfo Registry::State::info_of(Entry& entry) {
    PluginInfo info;
    info.name = entry.manifest.name.str();
    info.version = entry.manifest.version;
    info.summary = entry.manifest.summary;
    info.roles = entry.manifest.roles;
    info.fills = entry.fills;
    info.privilege = entry.manifest.privilege;
    info.file = entry.file();
    if (entry.files) {
        if (entry.digest.empty())
            if (const Result<Digest> digest = entry.files->digest()) entry.digest = digest->str();
        info.digest = entry.digest;
        info.owner =
            entry.files->owner_uid == 0 ? "root" : "uid " + std::to_string(entry.files->owner_uid);
    }
    info.refusal = entry.refusal;
    info.trust = entry.is_hosted() ? Trust::sandboxed : entry.trust;
    if (entry.is_hosted()) info.sandbox = entry.manifest.sandbox;
    info.settings_schema = entry.manifest.settings;
    if (entry.refusal) {
        info.status = PluginStatus::refused;
    } else if (entry.manifest.privilege == Privilege::root) {
        info.status = entry.tracked ? PluginStatus::loaded : PluginStatus::root_only;
        info.runs_in = "bangerd-root";
        if (entry.remote) info.settings = entry.remote->description().settings;
    } else if (entry.is_hosted()) {
        add_hosted(entry, info);
    } else if (entry.tracked) {
        info.status = PluginStatus::loaded;
        info.runs_in = "bangerd";
        info.settings = entry.host->settings();
    }
    if (entry.tracker) {
        info.in_flight = entry.tracker->in_flight();
        info.calls = entry.tracker->counts();
    }
    return info;
}

Registry::Registry(std::unique_ptr<State> state) : state_(std::move(state)) {}
Registry::~Registry() = default;

Result<std::unique_ptr<Registry>> Registry::open(RegistryOptions options) {
    auto state = std::make_unique<State>(std::move(options));
    state->find_all();
    BANGER_TRY(state->check_tables());
    BANGER_TRY(state->choose());
    return std::unique_ptr<Registry>(new Registry(std::move(state)));
}

Network& Registry::network() { return *state_->chosen.network; }
Dns& Registry::dns() { return *state_->chosen.dns; }
Storage& Registry::storage() { return *state_->chosen.storage; }
VmBackend& Registry::vm_backend() { return *state_->chosen.vm_backend; }
const std::vector<std::pair<PluginName, ImageSource*>>& Registry::image_sources() const {
    return state_->image_sources;
}
const RoleChoice& Registry::choice() const { return state_->options.choice; }

Result<Network*> Registry::network(std::string_view name) {
    return BANGER_TRY(state_->load(name, Role::network))->tracked->roles().network;
}
Result<Storage*> Registry::storage(std::string_view name) {
    return BANGER_TRY(state_->load(name, Role::storage))->tracked->roles().storage;
}
Result<VmBackend*> Registry::vm_backend(std::string_view name) {
    return BANGER_TRY(state_->load(name, Role::vm_backend))->tracked->roles().vm_backend;
}
Result<ImageSource*> Registry::image_source(std::string_view name) {
    return BANGER_TRY(state_->load(name, Role::image_source))->tracked->roles().image_source;
}

bool Registry::is_hosted(std::string_view name) const { return state_->is_third_party(name); }

std::optional<Error> Registry::why_away(std::string_view name) {
    Entry* const entry = state_->find(name);
    if (entry == nullptr) {
        const auto refusal = std::ranges::find(state_->refusals, name, &Refusal::name);
        if (refusal != state_->refusals.end()) return refusal->error();
        return Error(Errc::not_found, "the plugin " + quoted(name) + " is not installed",
                     "Install it again; what it made is still there.");
    }
    const std::lock_guard lock(state_->mutex);
    if (entry->refusal) return entry->refusal->error();
    if (!entry->hosted || !entry->hosted->health().is_quarantined) return std::nullopt;
    return Error(Errc::unavailable, "the plugin " + quoted(name) + " is in quarantine",
                 "See `banger plugin info " + std::string(name) + "`.");
}

std::vector<PluginInfo> Registry::list() {
    state_->probe_hosted();
    const std::lock_guard lock(state_->mutex);
    std::vector<PluginInfo> rows;
    for (Entry& entry : state_->entries) {
        state_->open_library(entry);
        rows.push_back(State::info_of(entry));
    }
    for (const Refusal& refusal : state_->refusals) {
        PluginInfo row;
        row.name = refusal.name;
        row.file = refusal.file;
        row.status = PluginStatus::refused;
        row.refusal = refusal;
        rows.push_back(std::move(row));
    }
    std::ranges::stable_sort(rows, {}, &PluginInfo::name);
    return rows;
}

Result<PluginInfo> Registry::info(std::string_view name) {
    std::vector<std::string> names;
    for (PluginInfo& row : list()) {
        if (row.name == name) return std::move(row);
        names.push_back(row.name);
    }
    const std::optional<std::string> near = nearest_word(name, names);
    return Error(Errc::not_found, "no plugin is called " + quoted(name),
                 near ? "Did you mean " + *near + "?" : "See `banger plugin list`.");
}

Result<void> Registry::retry(std::string_view name) {
    const std::string known = BANGER_TRY(info(name)).name;
    const std::lock_guard lock(state_->mutex);
    Entry* const entry = state_->find(known);
    if (entry != nullptr && entry->hosted) return entry->hosted->forgive();
    return Error(Errc::unsupported, quoted(name) + " has no process of its own",
                 "Restart bangerd, which looks at every plugin anew.");
}

std::vector<PluginCall> Registry::calls_older_than(std::chrono::nanoseconds age) const {
    const std::lock_guard lock(state_->mutex);
    const std::chrono::steady_clock::time_point limit = std::chrono::steady_clock::now() - age;
    std::vector<PluginCall> calls;
    for (const Entry& entry : state_->entries)
        if (entry.tracker)
            for (PluginCall& call : entry.tracker->in_flight())
                if (call.started <= limit) calls.push_back(std::move(call));
    std::ranges::sort(calls, {}, &PluginCall::started);
    return calls;
}

std::vector<Check> Registry::checks(std::stop_token stop) {
    std::vector<Check> rows;
    bool has_hosted = false;
    for (const PluginInfo& plugin : list()) {
        has_hosted = has_hosted || plugin.sandbox;
        Check row{"plugin " + plugin.name, CheckStatus::pass,
                  std::string(to_string(plugin.status)) + ", version " + plugin.version, ""};
        if (plugin.refusal) {
            row.status = CheckStatus::warn;
            row.detail = plugin.refusal->file + ": " + plugin.refusal->reason;
            row.remedy = plugin.refusal->remedy;
        }
        rows.push_back(std::move(row));
    }
    if (has_hosted) rows.push_back(confinement_check());
    for (const PluginCall& call : calls_older_than(stuck_after))
        rows.push_back(
            {"plugin " + call.plugin, CheckStatus::warn,
             call_text(call) + " is in flight for " +
                 seconds_text(std::chrono::steady_clock::now() - call.started),
             "Look at what it waits for; `banger plugin info " + call.plugin + "` has its calls."});

    std::vector<Roles> loaded;
    {
        const std::lock_guard lock(state_->mutex);
        for (const Entry& entry : state_->entries)
            if (entry.tracked) loaded.push_back(entry.tracked->roles());
    }
    const auto append = [&](auto* role) {
        if (!role || stop.stop_requested()) return;
        for (Check& check : role->checks(stop))
            rows.push_back(std::move(check));
    };
    for (const Roles& roles : loaded) {
        append(roles.network);
        append(roles.dns);
        append(roles.storage);
        append(roles.image_source);
        append(roles.vm_backend);
    }
    return rows;
}

}  // namespace banger

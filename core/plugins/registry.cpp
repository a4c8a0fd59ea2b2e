#include "core/plugins/registry.hpp"

#include <algorithm>
#include <deque>
#include <mutex>

#include "core/base/names.hpp"
#include "core/plugins/no_dns.hpp"
#include "core/remote/proxies.hpp"

namespace banger {

namespace {

constexpr std::string_view no_dns = "none";
constexpr std::chrono::minutes stuck_after{2};

/// One plugin that has a manifest. Members in the order in which they need each other.
struct Entry {
    Manifest manifest;
    std::optional<PluginFiles> files;  ///< nothing when it is built in
    PluginFactory factory;             ///< empty when it is a library
    std::optional<Library> library;
    std::optional<Refusal> refusal;
    std::unique_ptr<PluginHost> host;
    std::unique_ptr<CallTracker> tracker;
    std::optional<LoadedPlugin> plugin;
    std::unique_ptr<remote::RemotePlugin> remote;  ///< instead of `plugin`, for one that needs root
    std::unique_ptr<TrackedRoles> tracked;
    std::vector<Role> fills;
    std::string digest;  ///< of the library, once somebody asked: a start does not wait for it

    [[nodiscard]] bool has_role(Role role) const {
        return std::ranges::find(manifest.roles, role) != manifest.roles.end();
    }
    [[nodiscard]] std::string file() const { return files ? files->library : "built in"; }
};

std::string seconds_text(std::chrono::nanoseconds time) {
    return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count()) + " s";
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
    Result<Roles> reach_in_root(Entry& entry);
    void open_library(Entry& entry);
    Refusal& refuse(Entry& entry, const Error& error);
    [[nodiscard]] CallHooks hooks() const;
    static PluginInfo info_of(Entry& entry);
};

void Registry::State::find_all() {
    std::map<std::string, Entry> found;
    for (const BuiltInPlugin& plugin : options.built_in)
        found.emplace(plugin.manifest.name.str(),
                      Entry{plugin.manifest, {}, plugin.make, {}, {}, {}, {}, {}, {}, {}, {}, {}});
    for (const std::string& folder : options.folders)
        for (Admission<PluginFiles>& files : find_plugins(folder, options.owner)) {
            if (!files) {
                refusals.push_back(files.refusal());
                continue;
            }
            const std::string name = files->manifest.name.str();
            Manifest manifest = files->manifest;
            found.emplace(name, Entry{std::move(manifest),
                                      std::move(*files),
                                      {},
                                      {},
                                      {},
                                      {},
                                      {},
                                      {},
                                      {},
                                      {},
                                      {},
                                      {}});
        }
    for (auto& [name, entry] : found)
        entries.push_back(std::move(entry));
    // An earlier folder's good plugin does not make a later folder's bad one of that name matter.
    std::erase_if(refusals, [&](const Refusal& refusal) { return find(refusal.name) != nullptr; });
    std::ranges::sort(refusals, {}, &Refusal::name);
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
    if (!entry.files || entry.library || entry.refusal ||
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

/// Loads what is not loaded yet. The caller holds the mutex.
Result<void> Registry::State::load(Entry& entry) {
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
    const std::lock_guard lock(mutex);
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
    info.settings_schema = entry.manifest.settings;
    if (entry.refusal) {
        info.status = PluginStatus::refused;
    } else if (entry.manifest.privilege == Privilege::root) {
        info.status = entry.tracked ? PluginStatus::loaded : PluginStatus::root_only;
        info.runs_in = "bangerd-root";
        if (entry.remote) info.settings = entry.remote->description().settings;
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

std::vector<PluginInfo> Registry::list() {
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
    for (const PluginInfo& plugin : list()) {
        Check row{"plugin " + plugin.name, CheckStatus::pass,
                  std::string(to_string(plugin.status)) + ", version " + plugin.version, ""};
        if (plugin.refusal) {
            row.status = CheckStatus::warn;
            row.detail = plugin.refusal->file + ": " + plugin.refusal->reason;
            row.remedy = plugin.refusal->remedy;
        }
        rows.push_back(std::move(row));
    }
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

#include "daemons/bangerd/daemon.hpp"

#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdlib>
#include <optional>

#include "core/base/daemon_mark.hpp"
#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "core/base/version.hpp"
#include "core/config/toml_place.hpp"
#include "core/plugins/http.hpp"
#include "core/plugins/trusted_plugins.hpp"
#include "core/rpc/listener.hpp"
#include "core/scopes/scopes.hpp"
#include "core/vms/auto_stop.hpp"
#include "daemons/bangerd/interfaces.hpp"
#include "daemons/bangerd/look_timer.hpp"
#include "daemons/bangerd/machine_watch.hpp"
#include "daemons/bangerd/names.hpp"
#include "daemons/bangerd/socket_watch.hpp"

namespace banger {

namespace asio = boost::asio;

namespace {

/// How long jobs get to end by themselves when the daemon leaves.
constexpr std::chrono::seconds drain_time{5};

RoleChoice choice_of(const Config& config) {
    return {.network = *config.plugins.network,
            .dns = config.plugins.dns->value_or("none"),
            .storage = *config.plugins.storage,
            .vm_backend = *config.plugins.vm_backend,
            .image_sources = *config.plugins.image_sources};
}

Error another_runs(const std::string& lock_path) {
    const std::optional<DaemonMark> mark = read_daemon_mark(lock_path);
    if (!mark)
        return {Errc::busy, "another bangerd of yours runs already",
                "Try again in a moment; it may just be starting or leaving."};
    const std::string pid = std::to_string(mark->process.pid);
    return {Errc::busy,
            "another bangerd of yours runs already: process " + pid + ", which listens at " +
                mark->socket,
            "If it cannot be reached there, end it (machines go on running): kill " + pid};
}

/// A small file of the web, for the list of catalogs.
Result<std::string> fetch_text(const std::string& url, ByteCount limit, Call& call) {
    HttpRequest request;
    request.url = url;
    request.max_body = limit;
    HttpResponse response = BANGER_TRY(HttpClient().get(request, call));
    if (response.status == 200) return std::move(response.body);
    const std::string message =
        "the server answered " + std::to_string(response.status) + " for " + url;
    if (response.status == 404 || response.status == 410)
        return Error(Errc::not_found, message, "Correct the URL, or ask whoever keeps it.");
    return Error(response.status >= 500 ? Errc::unreachable : Errc::permission_denied, message,
                 "Try again later, or ask whoever keeps it.");
}

/// Where a plugin's setting stands, for messages.
std::string place_of(const Config& config, const std::string& plugin, const std::string& key) {
    const auto table = config.plugin_tables.find(plugin);
    if (table == config.plugin_tables.end()) return "default";
    const auto source = table->second.sources.find(key);
    return source == table->second.sources.end() ? table->second.source.text()
                                                 : source->second.text();
}

std::map<std::string, Settings, std::less<>> settings_of(const Config& config) {
    std::map<std::string, Settings, std::less<>> settings;
    for (const auto& [name, table] : config.plugin_tables)
        settings.emplace(name, table.settings);
    // A service's /var/tmp is its own, and mmdebstrap runs outside of the service.
    const std::string builder = "image-debian";
    if (config.mode == RunMode::system &&
        std::ranges::count(*config.plugins.image_sources, builder))
        settings[builder].emplace("work_folder", "/var/cache/banger-build");
    return settings;
}

/// How long a guest may take to get ready (Machines::Parts). BANGER_READY_WAIT (seconds) is for
/// tests and slow hosts: one that is emulated itself gives no sign of it.
std::chrono::seconds ready_patience() {
    const char* const text = ::getenv("BANGER_READY_WAIT");  // NOLINT: no other thread yet
    const int seconds = text == nullptr ? 0 : std::atoi(text);
    return std::chrono::seconds(seconds > 0 ? seconds : 90);
}

}  // namespace

/// Members in the order of their making; the reverse is the order of their end: the server goes
/// first, and with it everything that calls the others.
struct Daemon::Inside {
    Options options;
    std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
    UniqueFd lock;
    Config config;
    std::unique_ptr<Store> store;
    std::unique_ptr<Scopes> scopes;  // nothing: processes stay where they are started
    std::unique_ptr<Registry> registry;
    std::unique_ptr<ImageStore> images;
    asio::io_context io{1};
    std::unique_ptr<Names> names;
    std::unique_ptr<Machines> machines;
    std::unique_ptr<MachineUses> uses;
    std::unique_ptr<AutoStop> auto_stop;  // nothing: off
    std::unique_ptr<Publisher> publisher;
    std::unique_ptr<catalog::AddedCatalogs> catalogs;
    asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
    asio::steady_timer idle_timer{io};
    asio::steady_timer drain_timer{io};
    asio::steady_timer watchdog_timer{io};
    std::unique_ptr<MachineWatch> watch;
    std::unique_ptr<LookTimer> auto_stop_timer;
    std::unique_ptr<rpc::Server> server;
    std::size_t running_machines = 0;  // of the I/O thread
    bool is_leaving = false;           // of the I/O thread
    /// Of the socket that we made; nothing: it is systemd's, and outlives us.
    std::unique_ptr<SocketWatch> socket;

    Result<void> open();
    Result<void> open_plugins();
    Result<void> open_names();
    void open_machines(HostSize host);
    void open_auto_stop();
    Result<void> open_server();
    void log(LogLevel level, const std::string& text) const { options.log(level, text); }
    void on_activity();
    void on_count(std::size_t count);
    void keep_alive();
    void begin_to_leave(std::string_view why);
};

Result<void> Daemon::Inside::open() {
    const Paths& paths = options.paths;
    BANGER_TRY(ensure_private_folder(paths.run));
    BANGER_TRY(ensure_private_folder(paths.state));
    BANGER_TRY(ensure_private_folder(paths.cache));
    // In the state folder, not the run folder: a shell without XDG_RUNTIME_DIR has another of
    // those, and two daemons over one database must not be.
    const std::string lock_path = paths.state + "/bangerd.lock";
    Result<UniqueFd> locked = try_lock_file(lock_path);
    if (!locked && locked.error().code == Errc::busy) return another_runs(lock_path);
    lock = BANGER_TRY(std::move(locked));
    const ProcessId self = BANGER_TRY(process_id_of(::getpid()));
    BANGER_TRY(write_daemon_mark(lock.get(), {self, paths.socket}));
    const char* level = ::getenv("BANGER_LOG_LEVEL");
    config = BANGER_TRY(load_config(
        paths, {.mode = paths.mode,
                .home = paths.home,
                .default_ssh_key = paths.ssh_key,
                .log_level_variable = level ? std::optional<std::string>(level) : std::nullopt}));
    store = BANGER_TRY(Store::open(paths.database));
    const HostSize host = BANGER_TRY(HostSize::of_this_host());
    BANGER_TRY(open_plugins());
    BANGER_TRY(open_names());
    open_machines(host);
    open_auto_stop();
    const int swept = BANGER_TRY(images->recover());
    BANGER_TRY(publisher->recover());
    if (swept > 0)
        log(LogLevel::info, "removed " + std::to_string(swept) + " leftovers of pulls that died");
    for (const std::string& line : machines->recover())
        log(LogLevel::info, line);
    // User mode has no addresses to name, unless somebody set things up for it and chose a port.
    if (paths.mode == RunMode::system || config.dns_port.source.kind != Source::Kind::builtin)
        names->open();
    return open_server();
}

/// Plugins call back into machines while they are being opened, so machines get them afterwards:
/// the registry is the first argument of everything that needs one.
Result<void> Daemon::Inside::open_plugins() {
    const Paths& paths = options.paths;
    // A user daemon's processes leave the session only where the user manager outlives it.
    if (paths.mode == RunMode::system || user_manager_lingers())
        scopes = std::make_unique<Scopes>(
            "/run/user/" + std::to_string(::getuid()) + "/bus",
            [this](LogLevel level, const std::string& text) { log(level, text); });
    RegistryOptions wanted{
        .folders = options.plugin_folders,
        .owner = ::geteuid(),
        .choice = choice_of(config),
        .settings = settings_of(config),
        .place_of = [this](const std::string& plugin,
                           const std::string& key) { return place_of(config, plugin, key); },
        .own_folders = {paths.state + "/plugins", paths.cache + "/plugins", paths.run + "/p"},
        .log =
            [this](LogLevel level, std::string_view plugin, std::string_view message) {
                log(level, std::string(plugin) + ": " + std::string(message));
            },
        .hooks = {},
        .on_load = [this](const PluginName& name,
                          const Roles& roles) { return recover_plugin(*store, name, roles); },
        .built_in = {},
        .http = {},
        .root_socket = paths.root_socket,
        .trusted_plugins =
            paths.mode == RunMode::system
                ? parent_path(paths.system_config_file) + "/" + std::string(trusted_plugins_file)
                : "",
        .third_party_folders = options.third_party_folders,
        .plugin_host = options.plugin_host,
        .contain =
            [this](const PluginName& plugin, const ProcessId& process, ByteCount memory) {
                if (scopes) scopes->contain_now(scope_of_plugin(plugin, process, memory));
            },
        .is_safe_mode = options.is_safe_mode,
    };
    registry = BANGER_TRY(Registry::open(std::move(wanted)));
    return ok();
}

Result<void> Daemon::Inside::open_names() {
    names = std::make_unique<Names>(Names::Parts{
        .io = io,
        .zone = {*config.dns_zone, Ipv4Address(INADDR_LOOPBACK), *config.dns_port},
        .resolver = registry->dns(),
        .is_led = config.plugins.dns->has_value(),
        .log = [this](LogLevel level, const std::string& text) { log(level, text); },
    });
    const std::vector<DnsRecord> records = BANGER_TRY(remembered_names(*store));
    names->fill(records);
    return ok();
}

void Daemon::Inside::open_machines(HostSize host) {
    const Paths& paths = options.paths;
    std::vector<NamedImageSource> sources;
    for (const auto& [name, source] : registry->image_sources())
        sources.push_back({name.str(), source, registry->is_hosted(name.str())});
    images = std::make_unique<ImageStore>(
        *store, std::move(sources),
        ImageStore::Places{paths.images, paths.kernels, paths.state + "/templates", paths.blobs});
    watch = std::make_unique<MachineWatch>(
        io,
        [this](const VmId& vm, const ProcessId& process) { machines->handle_exit(vm, process); },
        [this](std::size_t count) { on_count(count); });
    machines = std::make_unique<Machines>(Machines::Parts{
        .store = *store,
        .registry = *registry,
        .dns = names->dns(),
        .images = *images,
        .config = config,
        .folder = paths.vms,
        .agent = options.agent,
        .host = host,
        .home = paths.home,
        .watch = [this](const VmId& vm, const ProcessId& process,
                        UniqueFd pidfd) { watch->watch(vm, process, std::move(pidfd)); },
        .log = [this](LogLevel level, const std::string& text) { log(level, text); },
        .contain =
            [this](const VmRecord& vm) {
                if (scopes && vm.process)
                    scopes->contain(
                        scope_of_machine(vm.id, vm.name, vm.process->process, vm.memory, vm.vcpus));
            },
        .ready_deadline = ready_patience(),
    });
    publisher = std::make_unique<Publisher>(
        Publisher::Parts{*store, *images, *machines, paths.cache + "/publish"});
    // In the catalog plugin's own folder: it gets no other.
    catalogs = std::make_unique<catalog::AddedCatalogs>(
        paths.plugin_state("catalog") + "/added", fetch_text, [] {
            return std::chrono::time_point_cast<std::chrono::seconds>(
                std::chrono::system_clock::now());
        });
}

void Daemon::Inside::open_auto_stop() {
    const std::optional<std::chrono::seconds> after = *config.auto_stop_stale_after;
    if (!after) return;
    uses = std::make_unique<MachineUses>();
    auto_stop = std::make_unique<AutoStop>(AutoStop::Parts{
        .machines = *machines,
        .store = *store,
        .uses = *uses,
        .after = *after,
        .after_text = config::duration_text(*after),
        .log = [this](LogLevel level, const std::string& text) { log(level, text); },
    });
    auto_stop_timer = std::make_unique<LookTimer>(
        io, auto_stop->interval(),
        [stopper = auto_stop.get()](std::stop_token stop) { stopper->look(std::move(stop)); });
}

Result<void> Daemon::Inside::open_server() {
    server = std::make_unique<rpc::Server>(
        io,
        rpc::ServiceInfo{
            .vendor = "banger", .product = "bangerd", .version = std::string(version().number)},
        rpc::ServerLimits{},
        rpc::ServerHooks{
            .on_dropped = [this](const Error& error) { log(LogLevel::warning, error.text()); },
            .on_activity = [this] { on_activity(); }});
    const auto to_log = [this](LogLevel level, const std::string& text) { log(level, text); };
    BANGER_TRY(server->add(
        vm_interface(*machines, *store, uses.get(),
                     config.plugins.dns->has_value() ? *config.dns_zone : std::string())));
    BANGER_TRY(server->add(image_interface(*images, *store, *catalogs, to_log)));
    BANGER_TRY(server->add(kernel_interface(*images, *store, *catalogs, to_log)));
    BANGER_TRY(server->add(bundle_interface(*publisher, *store)));
    BANGER_TRY(server->add(catalog_interface(*catalogs, *store)));
    BANGER_TRY(server->add(
        system_interface({*registry, *store, *names, config, options.paths, started,
                          [this] { asio::post(io, [this] { begin_to_leave("asked to"); }); },
                          scopes.get(), *images, *machines, options.is_safe_mode})));
    if (options.listeners.empty()) {
        options.listeners.push_back(BANGER_TRY(rpc::listen_at(options.paths.socket)));
        // Somebody took its folder away: whoever comes next starts another, which needs our lock.
        socket = BANGER_TRY(SocketWatch::make(io, options.paths.socket, [this] {
            begin_to_leave("the socket " + options.paths.socket + " is gone");
        }));
    }
    for (UniqueFd& listener : options.listeners)
        BANGER_TRY(server->listen(std::move(listener)));
    on_activity();
    return ok();
}

void Daemon::Inside::on_count(std::size_t count) {
    running_machines = count;
    if (auto_stop_timer) auto_stop_timer->set_running(count);
    options.notify.status(count == 0   ? "no machine runs"
                          : count == 1 ? "1 machine runs"
                                       : std::to_string(count) + " machines run");
    on_activity();
}

/// Also while leaving: whoever hangs then is to be ended too.
void Daemon::Inside::keep_alive() {
    options.notify.alive();
    watchdog_timer.expires_after(*options.notify.watchdog() / 3);
    watchdog_timer.async_wait([this](const boost::system::error_code& error) {
        if (!error) keep_alive();
    });
}

/// Idle is: nobody connected, nothing being done, no machine running. Only then is there a timer.
void Daemon::Inside::on_activity() {
    if (options.idle_after.count() == 0 || is_leaving || !server) return;
    const rpc::Activity activity = server->activity();
    const bool is_idle =
        activity.connections == 0 && activity.requests == 0 && running_machines == 0;
    idle_timer.cancel();
    if (!is_idle) return;
    idle_timer.expires_after(options.idle_after);
    idle_timer.async_wait([this](const boost::system::error_code& error) {
        if (!error) begin_to_leave("idle");
    });
}

void Daemon::Inside::begin_to_leave(std::string_view why) {
    if (is_leaving) return;
    is_leaving = true;
    log(LogLevel::info, "leaving: " + std::string(why));
    idle_timer.cancel();
    options.notify.stopping();
    // Whoever connects from now on must find nobody, and start another daemon.
    if (socket && socket->is_there()) (void)remove_file(options.paths.socket);
    socket.reset();
    server->stop_jobs();
    server->drain([this] { io.stop(); });
    drain_timer.expires_after(drain_time);
    drain_timer.async_wait([this](const boost::system::error_code& error) {
        if (!error) io.stop();
    });
}

Daemon::Daemon(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}

Daemon::~Daemon() {
    inside_->server.reset();
    inside_->auto_stop_timer.reset();
    inside_->watch.reset();
    if (inside_->names) inside_->names->close();
}

Result<std::unique_ptr<Daemon>> Daemon::open(Options options) {
    std::unique_ptr<Inside> inside = std::make_unique<Inside>();
    inside->options = std::move(options);
    BANGER_TRY(inside->open());
    return std::unique_ptr<Daemon>(new Daemon(std::move(inside)));
}

void Daemon::run() {
    asio::post(inside_->io, [inside = inside_.get()] {
        inside->on_count(inside->running_machines);
        inside->options.notify.ready();
        if (inside->options.notify.watchdog()) inside->keep_alive();
    });
    inside_->io.run();
}

void Daemon::leave() {
    asio::post(inside_->io, [inside = inside_.get()] { inside->begin_to_leave("told to"); });
}

}  // namespace banger

#include "cli/system_install.hpp"

#include <grp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "cli/completion.hpp"
#include "cli/man.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/rollback.hpp"
#include "core/base/version.hpp"
#include "core/config/default_backend.hpp"
#include "core/system/files.hpp"
#include "core/system/helper_config.hpp"
#include "core/system/services.hpp"

namespace banger::cli {

namespace {

using namespace std::chrono_literals;
using system::InstallRecord;
using system::Layout;
using system::Owner;

bool has_group(const char* name) { return ::getgrnam(name) != nullptr; }  // NOLINT: one thread

/// Of the command line, else of the installation that is there; never somebody else's.
Result<Owner> choose_owner(const Arguments& arguments, const std::optional<InstallRecord>& before) {
    const std::optional<std::string> name = arguments.value("owner");
    if (!name && !before)
        return Error(Errc::invalid_argument, "whom the machines belong to is not said",
                     "Run: sudo banger system install --owner \"$USER\"");
    Owner owner = BANGER_TRY(name ? Owner::find(*name) : Owner::find(before->owner_uid));
    if (before && before->owner_uid != owner.uid)
        return Error(Errc::in_use,
                     "the services belong to another user (uid " +
                         std::to_string(before->owner_uid) + ") already, with that user's machines",
                     "Remove them first: sudo banger system uninstall --purge");
    return owner;
}

/// Plugins that came with the version before and are no part of this one.
Result<void> remove_old_plugins(const Layout& layout, const InstallRecord& before,
                                const InstallRecord& now) {
    ErrorCollector errors;
    for (const std::string& name : before.plugins) {
        if (std::ranges::find(now.plugins, name) != now.plugins.end()) continue;
        if (!PluginName::parse(name)) continue;
        for (const char* suffix : {".so", ".toml"})
            errors.add(remove_file(layout.plugins + "/" + name + suffix));
    }
    return errors.result();
}

/// Whether the owner's user manager is kept when nobody is logged in: machines live in its scopes.
void ensure_linger(const Layout& layout, const Owner& owner, Terminal& terminal) {
    if (system::lingers(layout, owner)) return;
    const Result<void> on = system::set_linger(owner, true);
    if (!on)
        terminal.note("note: lingering of " + owner.name +
                      " cannot be switched on, so machines have no memory limit of their own and "
                      "Debian images are not built: " +
                      on.error().message + "\n");
}

void add_files_for_people(std::vector<system::PlannedFile>& files, const Layout& layout) {
    for (const char* shell : {"bash", "zsh", "fish"})
        files.push_back(
            system::completion_file(layout, shell, std::string(completion_script(shell))));
    for (ManPage& page : man_pages(all_commands()))
        files.push_back(system::man_file(layout, page.name, std::move(page.text)));
}

Result<void> start_services() {
    // A socket cannot be made again while its service runs. Machines do not notice.
    BANGER_TRY(system::systemctl("stop", system::all_units()));
    (void)system::systemctl("reset-failed", system::all_units());
    return system::systemctl("start", system::all_units());
}

bool are_running() {
    return std::ranges::all_of(system::all_units(), [](const std::string& unit) {
        const Result<system::UnitState> state = system::unit_state(unit);
        return state && state->is_running();
    });
}

Error with_journal(Error error, std::int64_t began) {
    const std::string lines = system::journal_tail(began);
    if (!lines.empty())
        error.message += "; the journal's last lines:\n" + printable(lines, Newlines::kept);
    error.remedy = "Read more with: journalctl -u bangerd -u bangerd-root";
    return error;
}

}  // namespace

Result<void> connect_to_helper(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    const UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!socket ||
        ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return Error::from_errno(errno, "connecting to " + path);
    return ok();
}

Error needs_root(const Context& context, const std::string& words) {
    const std::string command = context.command.full_name();
    return {Errc::permission_denied, "`banger " + command + "` needs root",
            "Run it with sudo: sudo " + shell_quote(context.program) + " " + command +
                (words.empty() ? "" : " " + words)};
}

Result<void> check_can_change_system(const Context& context) {
    utsname host{};
    if (::uname(&host) == 0 && std::string_view(host.machine) != "x86_64")
        return Error(Errc::unsupported,
                     "this host's architecture is " + std::string(host.machine) +
                         ", and banger runs on x86_64",
                     "Use an x86_64 host.");
    if (!system::has_systemd())
        return Error(Errc::unsupported, "systemd is not what runs this host (PID 1)",
                     "Use user mode, which needs no installation: banger vm run");
    if (::geteuid() != 0)
        return needs_root(context, context.command.name == "install" ? "--owner \"$USER\"" : "");
    return ok();
}

Result<UniqueFd> lock_installation() {
    Result<UniqueFd> lock = try_lock_file("/run/banger-install.lock");
    if (!lock && lock.error().code == Errc::busy)
        return Error(Errc::busy, "another `banger system …` is at work", "Wait for it.");
    return lock;
}

Result<InstallRecord> installed(const Layout& layout) {
    std::optional<InstallRecord> record = BANGER_TRY(system::read_install_record(layout));
    if (record) return *record;
    return Error(Errc::unavailable, "banger is not installed as a service",
                 "Install it: sudo banger system install --owner \"$USER\"");
}

/// What bangerd had made for the whole host (the way to its names) is taken back while the helper
/// still has the plugin that made it. What is of a machine stays.
Result<void> part_from_old_plugins(const Layout& layout, const std::string& helper_config) {
    const Result<std::string> before = read_file(layout.helper_config, ByteCount::mib(1));
    if (!before || *before == helper_config) return ok();
    return system::systemctl("stop", {"bangerd.service"});
}

Result<void> check_both_answer(std::int64_t began) {
    const PathEnvironment environment = BANGER_TRY(PathEnvironment::from_process());
    const client::DaemonPlace place{BANGER_TRY(find_paths(RunMode::system, environment)), {}};
    const auto ask = [&]() -> Result<void> {
        BANGER_TRY(connect_to_helper(place.paths.root_socket));
        client::Connection daemon = BANGER_TRY(client::connect_running(place));
        BANGER_TRY(daemon.call<protocol::SystemInfoReply>(
            "io.banger.System.Info", protocol::NoParameters{}, {.timeout = 10s}));
        return ok();
    };
    Result<void> answered = ask();
    if (answered) return ok();
    return with_journal(std::move(answered).error().context("calling the services"), began);
}

Result<int> system_install(const Arguments& arguments, Context& context) {
    // Everything that can be wrong is looked at before anything is made.
    const Layout layout = Layout::at();
    BANGER_TRY(check_can_change_system(context));
    const Result<std::optional<InstallRecord>> read = system::read_install_record(layout);
    // A damaged record is one that this run replaces.
    const std::optional<InstallRecord> before = read ? *read : std::optional<InstallRecord>();
    const Owner owner = BANGER_TRY(choose_owner(arguments, before));
    system::Release release = BANGER_TRY(system::find_release(context.program));
    BANGER_TRY(system::check_folders(layout));
    const Config config = BANGER_TRY(system::load_system_config(layout, owner));
    const std::string helper =
        BANGER_TRY(system::helper_config_of(layout, owner, config, release, 0));
    const UniqueFd lock = BANGER_TRY(lock_installation());

    Terminal& terminal = context.terminal;
    const Version own = version();
    InstallRecord record{
        .owner_uid = owner.uid,
        .owner_gid = owner.gid,
        .version = std::string(own.number),
        .commit = std::string(own.commit),
        .enabled_linger = (before && before->enabled_linger) || !system::lingers(layout, owner),
        .plugins = {},
    };
    for (const Manifest& manifest : release.manifests)
        record.plugins.push_back(manifest.name.str());
    BANGER_TRY(part_from_old_plugins(layout, helper));
    // Before what it speaks of: an installation that is cut off can be undone.
    BANGER_TRY(system::put_file({layout.install_record, 0644, {}, record.text()}));

    std::size_t changed = 0;
    std::vector<system::PlannedFile> files =
        system::plan_files(release, layout, owner, helper, has_group("kvm"));
    add_files_for_people(files, layout);
    for (const system::PlannedFile& file : files)
        if (BANGER_TRY(system::put_file(file))) ++changed;
    if (before) BANGER_TRY(remove_old_plugins(layout, *before, record));
    terminal.note(counted(changed, "file") + " installed, " +
                  std::to_string(files.size() - changed) + " as they were\n");

    BANGER_TRY(system::make_run_folders(layout));
    ensure_linger(layout, owner, terminal);
    BANGER_TRY(system::systemctl("daemon-reload"));
    BANGER_TRY(system::systemctl("enable", system::all_units()));
    if (changed > 0 || !are_running()) {
        terminal.note("starting bangerd and bangerd-root\n");
        const std::int64_t began = now_seconds();
        if (Result<void> started = start_services(); !started)
            return with_journal(std::move(started).error(), began);
        BANGER_TRY(check_both_answer(began));
    } else {
        BANGER_TRY(check_both_answer(now_seconds()));
    }
    if (const std::optional<Check> backend = default_backend_check(config)) {
        terminal.note("back end: " + backend->detail + "\n");
        if (!backend->remedy.empty()) terminal.note(backend->remedy + "\n");
    }
    terminal.out("banger " + record.version + " runs for " + owner.name +
                 ". As that user: banger vm run\n");
    return 0;
}

Result<int> system_restart(const Arguments&, Context& context) {
    const Layout layout = Layout::at();
    BANGER_TRY(check_can_change_system(context));
    const InstallRecord record = BANGER_TRY(installed(layout));
    const Owner owner = BANGER_TRY(Owner::find(record.owner_uid));
    const UniqueFd lock = BANGER_TRY(lock_installation());
    system::Release release = BANGER_TRY(system::find_release(layout.binaries + "/banger"));
    const Config config = BANGER_TRY(system::load_system_config(layout, owner));
    const std::string helper =
        BANGER_TRY(system::helper_config_of(layout, owner, config, release, 0));
    BANGER_TRY(part_from_old_plugins(layout, helper));
    BANGER_TRY(system::put_file({layout.helper_config, 0644, {}, helper}));
    const std::int64_t began = now_seconds();
    if (Result<void> restarted =
            system::systemctl("restart", {"bangerd-root.service", "bangerd.service"});
        !restarted)
        return with_journal(std::move(restarted).error(), began);
    BANGER_TRY(check_both_answer(began));
    context.terminal.out("bangerd and bangerd-root run again; machines were left alone\n");
    return 0;
}

}  // namespace banger::cli

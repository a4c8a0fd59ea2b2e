#include <unistd.h>

#include <algorithm>

#include "cli/session.hpp"
#include "cli/system_install.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/rollback.hpp"
#include "core/system/files.hpp"
#include "core/system/services.hpp"

namespace banger::cli {

namespace {

using namespace std::chrono_literals;
using system::InstallRecord;
using system::Layout;
using system::Owner;

/// Long enough for a guest that takes its time to sync.
constexpr std::chrono::milliseconds stop_patience = 120s;

bool is_live(const protocol::Vm& vm) { return vm.state != "created" && vm.state != "stopped"; }

/// Through bangerd, because it knows how; with `purge` the machines go altogether.
Result<void> stop_machines(Context& context, bool purge) {
    (void)system::systemctl("start", {"bangerd.service"});
    Session session = BANGER_TRY(open_session(context));
    if (session.daemon.place().paths.mode != RunMode::system)
        return Error(Errc::unavailable, "bangerd does not run");
    const protocol::ListVmsReply all = BANGER_TRY(session.daemon.call<protocol::ListVmsReply>(
        "io.banger.Vm.List", protocol::ListVms{}, {.timeout = 20s}));
    std::vector<std::string> names;
    for (const protocol::Vm& vm : all.vms)
        if (purge || is_live(vm)) names.push_back(vm.id);
    if (names.empty()) return ok();
    const auto work = [&](client::Daemon& daemon, const std::string& id) -> Result<std::string> {
        if (purge) {
            BANGER_TRY(daemon.call<protocol::DeleteVmReply>(
                "io.banger.Vm.Delete", protocol::DeleteVm{id, false}, {.timeout = stop_patience}));
            return "deleted machine " + id;
        }
        BANGER_TRY(daemon.call<protocol::StopVmReply>("io.banger.Vm.Stop", protocol::NamedVm{id},
                                                      {.timeout = stop_patience}));
        return "stopped machine " + id;
    };
    const int status = BANGER_TRY(for_each(names, session, context, work));
    if (status == 0) return ok();
    return Error(Errc::unavailable, "not every machine could be stopped cleanly");
}

/// What the plugins of the helper still have in the kernel: without anything to remember, all of it
/// is left over.
Result<void> sweep_kernel_objects(const Layout& layout, bool purge) {
    const std::string program = layout.binaries + "/bangerd-root";
    if (!path_exists(program) || !path_exists(layout.helper_config)) return ok();
    Command command;
    command.program = program;
    command.arguments = {"--sweep", purge ? "all" : "kernel"};
    command.environment = {{"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"}, {"LC_ALL", "C"}};
    const CommandOutput output =
        BANGER_TRY(run_command(std::move(command), 60s, ByteCount::mib(1), {}));
    if (output.status.is_success()) return ok();
    return Error(
        Errc::unavailable, "bangerd-root --sweep: " + output.standard_error,
        "Look at `ip link`, `nft list tables` and `dmsetup ls` for names with \"banger\".");
}

}  // namespace

Result<int> system_uninstall(const Arguments& arguments, Context& context) {
    const Layout layout = Layout::at();
    BANGER_TRY(check_can_change_system(context));
    const bool purge = arguments.has("purge");
    const UniqueFd lock = BANGER_TRY(lock_installation());
    const Result<std::optional<InstallRecord>> read = system::read_install_record(layout);
    const std::optional<InstallRecord> record = read ? *read : std::optional<InstallRecord>();
    Terminal& terminal = context.terminal;
    ErrorCollector errors;
    const auto note = [&](const char* what, const Result<void>& result) {
        if (!result)
            terminal.note(std::string("note: ") + what + ": " + result.error().text() + "\n");
    };

    const std::vector<std::string> units = system::all_units();
    const bool has_units = std::ranges::any_of(
        units, [&](const std::string& unit) { return path_exists(layout.units + "/" + unit); });
    if (has_units) {
        note("machines", stop_machines(context, purge));
        // Those that are missing after a run that was cut off are no reason to stop.
        for (const std::string& unit : units)
            if (path_exists(layout.units + "/" + unit)) {
                errors.add(system::systemctl("stop", {unit}));
                errors.add(system::systemctl("disable", {unit}));
            }
    }
    if (record)
        if (const Result<Owner> owner = Owner::find(record->owner_uid)) {
            errors.add(system::end_leftover_processes(layout, *owner));
            if (record->enabled_linger && system::lingers(layout, *owner))
                errors.add(system::set_linger(*owner, false));
        }
    errors.add(sweep_kernel_objects(layout, purge));
    errors.add(system::remove_files(layout));
    // Firecracker's machines were in it; an empty slice stays until somebody stops it.
    errors.add(system::systemctl("stop", {"banger.slice"}));
    errors.add(system::systemctl("daemon-reload"));
    (void)system::systemctl("reset-failed", units);
    if (purge) errors.add(system::remove_state(layout));
    // Last: until here a run that was cut off can be repeated.
    if (!errors.has_errors()) errors.add(remove_file(layout.install_record));
    (void)::rmdir(layout.etc.c_str());
    // Held the nodes of disks, which went with them.
    (void)::rmdir("/dev/banger");
    (void)remove_file("/run/banger-install.lock");
    BANGER_TRY(errors.result());
    if (!record && !has_units)
        terminal.out("banger was not installed as a service\n");
    else if (purge)
        terminal.out("banger's services, machines, images and state are gone\n");
    else
        terminal.out("banger's services are gone; machines and images stay in " + layout.state +
                     ". To remove those too: banger system uninstall --purge\n");
    return 0;
}

}  // namespace banger::cli

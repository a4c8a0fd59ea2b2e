#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>

#include "core/base/process.hpp"
#include "core/protocol/exec_fields.hpp"
#include "core/protocol/vm.hpp"
#include "core/protocol/vm_fields.hpp"
#include "daemons/bangerd/interfaces.hpp"
#include "daemons/bangerd/vm_ports.hpp"
#include "daemons/bangerd/vm_signals.hpp"
#include "varlink/io.banger.Vm.hpp"

namespace banger {

namespace {

using namespace std::chrono_literals;
using namespace protocol;
using rpc::Reporter;

constexpr std::uint16_t ssh_port = 22;

std::optional<std::int64_t> seconds_of(const std::optional<UnixTime>& time) {
    if (!time) return std::nullopt;
    return time->time_since_epoch().count();
}

std::optional<SshEndpoint> ssh_endpoint(const VmRecord& vm) {
    if (!vm.link) return std::nullopt;
    SshEndpoint endpoint{.host = vm.link->address.address().text(),
                         .port = ssh_port,
                         .user = "root",
                         .host_key_alias = vm.id.str(),
                         .host_key = vm.ssh_host_key};
    if (vm.link->kind == LinkKind::tap) return endpoint;
    for (const PortForward& forward : vm.link->forwards) {
        if (forward.guest_port != ssh_port) continue;
        endpoint.host = forward.host_address.text();
        endpoint.port = forward.host_port;
        return endpoint;
    }
    return std::nullopt;
}

std::optional<Workspace> to_wire(const std::optional<WorkspaceRecord>& record) {
    if (!record) return std::nullopt;
    return Workspace{.guest_path = record->guest_path,
                     .source = record->source,
                     .head = record->head,
                     .base = record->base,
                     .branch = record->branch,
                     .mode = record->mode,
                     .has_untracked = record->has_untracked,
                     .is_readonly = record->is_readonly,
                     .fingerprint = record->fingerprint,
                     .prepared_at = record->prepared_at.time_since_epoch().count()};
}

Vm to_wire(const VmRecord& vm) {
    return {.id = vm.id.str(),
            .name = vm.name.str(),
            .state = std::string(to_string(vm.state)),
            .reason = vm.error_reason.empty() ? std::nullopt : std::optional(vm.error_reason),
            .image = vm.image.str(),
            .kernel = vm.kernel.str(),
            .vcpus = vm.vcpus,
            .memory = vm.memory.count(),
            .disk = vm.disk_size.count(),
            .root = vm.system_overlay_size.count(),
            .nat = vm.nat,
            .backend = vm.backend.str(),
            .network = vm.network.str(),
            .storage = vm.storage.str(),
            .address = vm.address ? std::optional(vm.address->text()) : std::nullopt,
            .ssh = ssh_endpoint(vm),
            .pid = vm.process ? std::optional(vm.process->process.pid) : std::nullopt,
            .created_at = vm.created_at.time_since_epoch().count(),
            .started_at = seconds_of(vm.started_at),
            .workspace = to_wire(vm.workspace)};
}

/// As it is to be shown: without its plugins a machine is neither running nor stopped.
Vm shown(const Machines& machines, const VmRecord& vm) {
    Vm wire = to_wire(vm);
    if (std::optional<std::string> why = machines.why_unavailable(vm)) {
        wire.state = "unavailable";
        wire.reason = std::move(why);
    }
    return wire;
}

std::vector<Timing> to_wire(const std::vector<StageTime>& times) {
    std::vector<Timing> timings;
    timings.reserve(times.size());
    for (const StageTime& time : times)
        timings.push_back({time.stage, static_cast<std::uint64_t>(time.took.count())});
    return timings;
}

template <class T>
Sized to_wire(const Sourced<T>& size) {
    if constexpr (std::is_same_v<T, ByteCount>)
        return {size.value.count(), size.source.text()};
    else
        return {size.value, size.source.text()};
}

Plan to_wire(const CreatePlan& plan) {
    return {.image = plan.image,
            .kernel = plan.kernel,
            .vcpus = to_wire(plan.sizes.vcpus),
            .memory = to_wire(plan.sizes.memory),
            .disk = to_wire(plan.sizes.disk),
            .root = to_wire(plan.sizes.system_overlay),
            .backend = plan.backend.str(),
            .network = plan.network.str(),
            .storage = plan.storage.str(),
            .nat = plan.nat,
            .image_is_present = plan.image_is_present,
            .kernel_is_present = plan.kernel_is_present,
            .notes = plan.notes};
}

FileSystem to_wire(const guest::FileSystemUsage& usage) {
    return {usage.size_bytes, usage.used_bytes};
}

StatsOfVm to_wire(const MachineUsage& usage) {
    StatsOfVm stats{.id = usage.vm.id.str(),
                    .name = usage.vm.name.str(),
                    .state = std::string(to_string(usage.vm.state)),
                    .guest = {},
                    .reason = usage.why_no_guest,
                    .vmm_memory = {},
                    .vmm_cpu_ms = {},
                    .disks = {},
                    .sampled_at_ms = static_cast<std::uint64_t>(
                        std::chrono::duration_cast<std::chrono::milliseconds>(
                            std::chrono::steady_clock::now().time_since_epoch())
                            .count())};
    if (usage.guest)
        stats.guest = GuestStats{.cpus = usage.guest->cpus,
                                 .cpu_busy_ms = usage.guest->cpu_busy_ms,
                                 .cpu_idle_ms = usage.guest->cpu_idle_ms,
                                 .load = usage.guest->load_1,
                                 .memory = usage.guest->memory_total_bytes,
                                 .memory_available = usage.guest->memory_available_bytes,
                                 .root = to_wire(usage.guest->root),
                                 .work = to_wire(usage.guest->work)};
    if (usage.vmm) {
        stats.vmm_memory = usage.vmm->resident.count();
        stats.vmm_cpu_ms = static_cast<std::uint64_t>(usage.vmm->cpu.count());
    }
    for (const auto& [role, disk] : usage.disks)
        stats.disks.push_back(
            {std::string(to_string(role)), disk.size.count(), disk.allocated.count(),
             disk.headroom ? std::optional(disk.headroom->count()) : std::nullopt});
    return stats;
}

std::optional<ByteCount> bytes_of(const std::optional<std::uint64_t>& count) {
    if (!count) return std::nullopt;
    return ByteCount::bytes(*count);
}

/// What is recorded is shown and used later: it has to be text of a sane size.
Result<std::optional<WorkspaceRecord>> from_wire(const std::optional<Workspace>& workspace) {
    if (!workspace) return std::optional<WorkspaceRecord>();
    const auto is_path = [](const std::string& text) {
        return text.starts_with('/') && text.size() <= 4096 && text.find('\0') == text.npos;
    };
    const auto is_commit = [](const std::string& text) {
        return (text.size() == 40 || text.size() == 64) &&
               text.find_first_not_of("0123456789abcdef") == text.npos;
    };
    const auto is_short = [](const std::string& text) {
        return text.size() <= 512 &&
               std::ranges::none_of(text, [](unsigned char c) { return c < ' ' || c == 0x7f; });
    };
    const bool fits = is_path(workspace->guest_path) && is_path(workspace->source) &&
                      is_commit(workspace->head) && is_commit(workspace->base) &&
                      is_short(workspace->branch) && is_short(workspace->fingerprint) &&
                      (workspace->mode == "overlay" || workspace->mode == "full-copy");
    if (!fits)
        return Error(Errc::invalid_argument, "this is no record of a workspace",
                     "Give absolute paths, whole commits, and overlay or full-copy.");
    return std::optional(WorkspaceRecord{
        .guest_path = workspace->guest_path,
        .source = workspace->source,
        .head = workspace->head,
        .prepared_at = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()),
        .base = workspace->base,
        .branch = workspace->branch,
        .mode = workspace->mode,
        .has_untracked = workspace->has_untracked,
        .is_readonly = workspace->is_readonly,
        .fingerprint = workspace->fingerprint});
}

/// A key line goes into a file of the guest as it is.
Result<void> check_key_line(const std::string& line) {
    const bool is_plain = std::ranges::all_of(line, [](char c) { return c >= ' ' && c != 0x7f; });
    if (is_plain && !line.empty() && line.size() <= 8192) return ok();
    return Error(Errc::invalid_argument, "an authorized key is not one line of printable text",
                 "Give it as it stands in the .pub file.");
}

Result<CreateRequest> from_wire(const VmRequest& request) {
    CreateRequest wanted{.name = {},
                         .image = request.image,
                         .sizes = {.vcpus = request.vcpus,
                                   .memory = bytes_of(request.memory),
                                   .disk = bytes_of(request.disk),
                                   .system_overlay = bytes_of(request.root)},
                         .nat = request.nat.value_or(false),
                         .backend = request.backend,
                         .network = request.network,
                         .storage = request.storage,
                         .authorized_keys = request.authorized_keys};
    if (request.name) wanted.name = BANGER_TRY(VmName::parse(*request.name));
    for (const std::string& key : request.authorized_keys)
        BANGER_TRY(check_key_line(key));
    return wanted;
}

std::string base64(std::string_view bytes) {
    std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
    const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                       reinterpret_cast<const unsigned char*>(bytes.data()),
                                       static_cast<int>(bytes.size()));
    out.resize(static_cast<std::size_t>(length));
    return out;
}

/// Sends a console from its oldest byte that is kept, and with `follow` what is added until the
/// machine has ended.
class ConsoleReader {
public:
    ConsoleReader(UniqueFd console, Reporter<LogsOfVmReply>& call)
        : console_(std::move(console)), call_(call) {
        const off_t data = ::lseek(console_.get(), 0, SEEK_DATA);  // what was cut off is a hole
        offset_ = data > 0 ? data : 0;
    }

    Result<void> send_what_is_there() {
        std::string buffer(48 << 10, '\0');
        for (;;) {
            const ssize_t count = ::pread(console_.get(), buffer.data(), buffer.size(), offset_);
            if (count < 0) return Error::from_errno(errno, "reading the console");
            if (count == 0) return ok();
            offset_ += count;
            BANGER_TRY(call_.send(
                {base64(std::string_view(buffer).substr(0, static_cast<std::size_t>(count)))}));
        }
    }

    Result<void> follow(const UniqueFd& pidfd) {
        const UniqueFd changes(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
        const std::string path = "/proc/self/fd/" + std::to_string(console_.get());
        if (!changes || ::inotify_add_watch(changes.get(), path.c_str(), IN_MODIFY) < 0)
            return Error::from_errno(errno, "watching the console");
        for (;;) {
            BANGER_TRY(send_what_is_there());
            const Result<bool> ended = wait_for_exit(pidfd, 0ms, call_.stop());
            if (!ended) return ended.error();
            if (*ended) return send_what_is_there();
            // One descriptor to wait on for both would need an epoll; a second is soon enough to
            // see that a machine has ended.
            BANGER_TRY(poll_fd(changes.get(), POLLIN, 1000ms, call_.stop()));
            char events[4096];
            while (::read(changes.get(), events, sizeof events) > 0) {
            }
        }
    }

private:
    UniqueFd console_;
    Reporter<LogsOfVmReply>& call_;
    off_t offset_ = 0;
};

Result<LogsOfVmReply> send_logs(Machines& machines, Store& store, const LogsOfVm& in,
                                Reporter<LogsOfVmReply>& call) {
    const VmRecord vm = BANGER_TRY(store.find_machine(in.vm));
    if (!call.wants_more())
        return Error(Errc::invalid_argument, "a console comes in several replies",
                     "Call Logs with \"more\".");
    ConsoleReader reader(BANGER_TRY(machines.console(in.vm)), call);
    BANGER_TRY(reader.send_what_is_there());
    if (in.follow && vm.process) {
        const Result<UniqueFd> pidfd = open_pidfd(vm.process->process);
        if (pidfd) BANGER_TRY(reader.follow(*pidfd));
    }
    return LogsOfVmReply{};
}

Result<ExecInVmReply> begin_exec(Machines& machines, const ExecInVm& in,
                                 Reporter<ExecInVmReply>& call) {
    if (!call.wants_upgrade())
        return Error(Errc::invalid_argument, "a command's streams need the connection",
                     "Call Exec with \"upgrade\".");
    ExecWish wish{.command = in.command,
                  .is_run = in.is_run,
                  .entrypoint = in.entrypoint,
                  .environment = in.environment,
                  .folder = in.folder,
                  .user = in.user,
                  .terminal = {}};
    if (in.terminal) wish.terminal = banger::TerminalSize{in.terminal->rows, in.terminal->columns};
    // Shared, because a std::function has to be copyable.
    const auto command =
        std::make_shared<GuestCommand>(BANGER_TRY(machines.exec(in.vm, wish, call.stop())));
    call.upgrade([command](UniqueFd client) { command->attach(std::move(client)); });
    return ExecInVmReply{command->window()};
}

}  // namespace

rpc::Interface vm_interface(Machines& machines, Store& store, MachineUses* uses, std::string zone) {
    rpc::Interface vm("io.banger.Vm", varlink::io_banger_Vm);
    // A name that belongs to nobody is refused by the call itself.
    const auto use = [&store, uses](const std::string& name) -> std::optional<MachineUses::Use> {
        if (uses == nullptr) return std::nullopt;
        const Result<VmRecord> found = store.find_machine(name);
        return found ? std::optional(uses->begin(found->id)) : std::nullopt;
    };
    vm.job<PlanVm, PlanVmReply>(
        "Plan", {.deadline = 30s},
        [&](const PlanVm& in, Reporter<PlanVmReply>&) -> Result<PlanVmReply> {
            const CreateRequest request = BANGER_TRY(from_wire(in.request));
            return PlanVmReply{to_wire(BANGER_TRY(machines.plan(request)))};
        });
    vm.job<CreateVm, CreateVmReply>(
        "Create", {},
        [&](const CreateVm& in, Reporter<CreateVmReply>& call) -> Result<CreateVmReply> {
            const CreateRequest request = BANGER_TRY(from_wire(in.request));
            std::vector<StageTime> times;
            const VmRecord made =
                BANGER_TRY(recorded(store, "vm.create", in.request.name.value_or(""), [&] {
                    return machines.create(request, in.start, call, times);
                }));
            return CreateVmReply{{}, to_wire(made), to_wire(times)};
        });
    vm.method<ListVms, ListVmsReply>("List", [&](const ListVms&) -> Result<ListVmsReply> {
        ListVmsReply reply;
        for (const VmRecord& record : BANGER_TRY(store.machines()))
            reply.vms.push_back(shown(machines, record));
        return reply;
    });
    vm.method<NamedVm, VmReply>("Show", [&, use](const NamedVm& in) -> Result<VmReply> {
        const auto used = use(in.vm);
        return VmReply{shown(machines, BANGER_TRY(store.find_machine(in.vm)))};
    });
    vm.job<NamedVm, CreateVmReply>(
        "Start", {},
        [&, use](const NamedVm& in, Reporter<CreateVmReply>& call) -> Result<CreateVmReply> {
            const auto used = use(in.vm);
            std::vector<StageTime> times;
            const VmRecord started = BANGER_TRY(recorded(
                store, "vm.start", in.vm, [&] { return machines.start(in.vm, call, times); }));
            return CreateVmReply{{}, to_wire(started), to_wire(times)};
        });
    vm.job<NamedVm, StopVmReply>(
        "Stop", {},
        [&, use](const NamedVm& in, Reporter<StopVmReply>& call) -> Result<StopVmReply> {
            const auto used = use(in.vm);
            const Machines::Stopped stopped = BANGER_TRY(
                recorded(store, "vm.stop", in.vm, [&] { return machines.stop(in.vm, call); }));
            return StopVmReply{{}, to_wire(stopped.vm), stopped.was_forced};
        });
    vm.job<KillVm, VmReply>(
        "Kill", {}, [&, use](const KillVm& in, Reporter<VmReply>&) -> Result<VmReply> {
            const auto used = use(in.vm);
            const int number = BANGER_TRY(signal_number(in.signal.value_or("KILL")));
            return VmReply{to_wire(BANGER_TRY(recorded(store, "vm.kill", in.vm, [&] {
                return number == SIGKILL ? machines.kill(in.vm) : machines.signal(in.vm, number);
            })))};
        });
    vm.job<SetVm, SetVmReply>(
        "Set", {}, [&, use](const SetVm& in, Reporter<SetVmReply>& call) -> Result<SetVmReply> {
            const auto used = use(in.vm);
            const ChangeRequest wanted{in.vcpus, bytes_of(in.memory), bytes_of(in.disk), in.nat};
            const Machines::Changed changed = BANGER_TRY(recorded(
                store, "vm.set", in.vm, [&] { return machines.change(in.vm, wanted, call); }));
            return SetVmReply{to_wire(changed.vm), changed.pending};
        });
    vm.job<NamedVm, StatsOfVmReply>(
        "Stats", {},
        [&, use](const NamedVm& in, Reporter<StatsOfVmReply>& call) -> Result<StatsOfVmReply> {
            const auto used = use(in.vm);
            return StatsOfVmReply{to_wire(BANGER_TRY(machines.usage(in.vm, call.stop())))};
        });
    vm.job<NamedVm, PortsOfVmReply>(
        "Ports", {},
        [&, use, zone](const NamedVm& in,
                       Reporter<PortsOfVmReply>& call) -> Result<PortsOfVmReply> {
            const auto used = use(in.vm);
            const Machines::Listeners found = BANGER_TRY(machines.ports(in.vm, call.stop()));
            PortsOfVmReply reply{found.vm.id.str(), found.vm.name.str(), {}};
            for (const guest::GuestPort& port : found.ports)
                reply.ports.push_back(port_of(found.vm, port, zone));
            return reply;
        });
    vm.job<DeleteVm, DeleteVmReply>(
        "Delete", {},
        [&](const DeleteVm& in, Reporter<DeleteVmReply>& call) -> Result<DeleteVmReply> {
            return DeleteVmReply{{}, to_wire(BANGER_TRY(recorded(store, "vm.delete", in.vm, [&] {
                                     return machines.remove(in.vm, in.force, call);
                                 })))};
        });
    vm.job<SetWorkspace, VmReply>(
        "SetWorkspace", {.deadline = 30s},
        [&, use](const SetWorkspace& in, Reporter<VmReply>& call) -> Result<VmReply> {
            const auto used = use(in.vm);
            return VmReply{to_wire(BANGER_TRY(
                machines.set_workspace(in.vm, BANGER_TRY(from_wire(in.workspace)), call.stop())))};
        });
    vm.job<HealthOfVm, HealthOfVmReply>(
        "Health", {},
        [&, use](const HealthOfVm& in, Reporter<HealthOfVmReply>& call) -> Result<HealthOfVmReply> {
            const auto used = use(in.vm);
            const guest::GuestHealth health =
                BANGER_TRY(machines.health(in.vm, in.wait, call.stop()));
            HealthOfVmReply reply{health.ready, {}, health.boot_id, health.failure};
            for (const guest::Probe& probe : health.probes)
                reply.probes.push_back({probe.name, probe.ok, probe.reason});
            return reply;
        });
    vm.job<ExecInVm, ExecInVmReply>("Exec", {.deadline = 60s},
                                    [&](const ExecInVm& in, Reporter<ExecInVmReply>& call) {
                                        return begin_exec(machines, in, call);
                                    });
    vm.job<LogsOfVm, LogsOfVmReply>("Logs", {},
                                    [&, use](const LogsOfVm& in, Reporter<LogsOfVmReply>& call) {
                                        const auto used = use(in.vm);
                                        return send_logs(machines, store, in, call);
                                    });
    return vm;
}

}  // namespace banger

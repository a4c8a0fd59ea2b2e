#include "plugins/vmm-firecracker/firecracker_vm_backend.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "core/base/rollback.hpp"
#include "core/base/sparse_copy.hpp"
#include "plugins/vmm-firecracker/machine_config.hpp"

namespace banger {

using namespace std::chrono_literals;
using firecracker::InstanceState;
using firecracker::JailPaths;
using firecracker::Programs;
using firecracker::Record;
using Clock = std::chrono::steady_clock;

namespace {

constexpr ByteCount complaints_limit = ByteCount::kib(256);
constexpr std::size_t shown_complaints = 2000;
constexpr std::uint32_t most_users = 65536;
/// As core/guest/agent_protocol.hpp has it, which a plugin may not include.
constexpr std::string_view agent_request = "CONNECT 1024\n";

Error machine_gone(const VmId& vm) {
    return {Errc::not_found, "machine " + vm.str() + " is not running",
            "Start it with `banger vm start`."};
}

std::chrono::milliseconds until(Clock::time_point deadline) {
    return std::max(0ms, std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()));
}

/// Makes a file that the VMM appends to through a descriptor of ours.
Result<UniqueFd> open_log(const std::string& path, int more_flags) {
    UniqueFd fd(
        ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | more_flags, 0600));
    if (!fd) return Error::from_errno(errno, "open " + path);
    return fd;
}

/// Waits for "OK PORT\n", which comes when the guest has taken the connection, and takes not one
/// byte more. False: the VMM closed it, because nobody in the guest listens yet.
Result<bool> is_connected(const UniqueFd& socket, Clock::time_point deadline) {
    constexpr std::size_t longest = 32;
    std::string line;
    while (line.size() < longest) {
        char c = 0;
        const ssize_t count = ::recv(socket.get(), &c, 1, MSG_DONTWAIT);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (BANGER_TRY(poll_fd(socket.get(), POLLIN, until(deadline), {})) == 0) return false;
            continue;
        }
        if (count <= 0) return false;
        if (c != '\n') {
            line += c;
            continue;
        }
        const bool is_ok = line.starts_with("OK ") && line.size() > 3 &&
                           line.find_first_not_of("0123456789", 3) == line.npos;
        if (is_ok) return true;
        break;
    }
    return Error(Errc::corrupt, "Firecracker's vsock answered with something else than OK",
                 "End the machine with `banger vm kill`.");
}

}  // namespace

Result<std::unique_ptr<FirecrackerVmBackend>> FirecrackerVmBackend::open(
    Host& host, firecracker::HostParts& parts, firecracker::Launcher& launcher, Options options) {
    Ledger ledger = BANGER_TRY(Ledger::open(host.run_folder()));
    firecracker::KernelCopies kernels =
        BANGER_TRY(firecracker::KernelCopies::open(JailPaths::kernels_of(host)));
    return std::unique_ptr<FirecrackerVmBackend>(new FirecrackerVmBackend(
        host, parts, launcher, std::move(options), std::move(ledger), std::move(kernels)));
}

std::uint32_t FirecrackerVmBackend::number_setting(std::string_view key) const {
    const auto found = host_.settings().find(key);
    const std::int64_t* number =
        found == host_.settings().end() ? nullptr : std::get_if<std::int64_t>(&found->second);
    return number ? static_cast<std::uint32_t>(std::clamp<std::int64_t>(*number, 0, UINT32_MAX - 1))
                  : 0;
}

Result<BackendCapabilities> FirecrackerVmBackend::capabilities() {
    BANGER_TRY(programs_.find(host_.settings(), {}));
    const Acceleration kvm = options_.probe_kvm();
    if (!kvm.is_usable)
        return Error(Errc::unavailable, "Firecracker needs KVM: " + kvm.reason,
                     kvm.remedy + " Or choose --backend vmm-qemu.");
    BackendCapabilities out;
    out.links = {LinkKind::tap};
    out.disk_formats = {DiskFormat::raw};
    out.vsock = true;
    out.pause = true;
    out.snapshots = true;
    out.hardware_accelerated = true;
    out.max_vcpus = firecracker::max_vcpus;
    return out;
}

// ---- starting ----------------------------------------------------------------------------------

Result<std::optional<Record>> FirecrackerVmBackend::record_of(const VmId& vm) const {
    const Result<std::string> text = ledger_.read(vm.str());
    if (!text && text.error().code == Errc::not_found) return std::optional<Record>();
    if (!text) return text.error();
    return std::optional(BANGER_TRY(firecracker::decode_record(*text)));
}

Result<Record> FirecrackerVmBackend::reserve(const MachineSpec& spec, const Programs& programs) {
    const std::lock_guard lock(users_);
    std::set<std::uint32_t> taken;
    for (const Ledger::Entry& entry : BANGER_TRY(ledger_.entries()).entries)
        if (const Result<Record> record = firecracker::decode_record(entry.text))
            taken.insert(record->uid);
    const std::uint32_t first = number_setting("first_uid");
    if (first < 1000 || first > UINT32_MAX - most_users)
        return Error(Errc::invalid_argument, "first_uid is no number that could be a machine's",
                     "Leave [plugin.vmm-firecracker] first_uid out.");
    Record record{first, programs.firecracker.name(), spec.console_limit, {}};
    while (taken.contains(record.uid))
        ++record.uid;
    if (options_.only_uid) record.uid = *options_.only_uid;
    if (!options_.only_uid && record.uid - first >= most_users)
        return Error(Errc::no_space, "no user is left for another machine", "Stop some machines.");
    BANGER_TRY(ledger_.write(spec.vm.str(), firecracker::encode(record)));
    return record;
}

Result<VmProcess> FirecrackerVmBackend::start(const MachineSpec& spec, std::stop_token stop) {
    return begin(spec, {}, std::move(stop));
}

std::string FirecrackerVmBackend::config_of(const MachineSpec& spec) const {
    return firecracker::machine_config(
        spec, {number_setting("disk_mib_per_second"), number_setting("network_mib_per_second")});
}

Result<VmProcess> FirecrackerVmBackend::begin(
    const MachineSpec& spec, const std::optional<firecracker::SnapshotSource>& snapshot,
    std::stop_token stop) {
    if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
    BANGER_TRY(firecracker::check_spec(spec));
    // A damaged entry is cleared away like any other leftover.
    const Result<std::optional<Record>> old = record_of(spec.vm);
    if (old && *old && (*old)->process && is_running(*(*old)->process))
        return Error(Errc::wrong_state, "machine " + spec.name.str() + " runs already",
                     "Stop it first with `banger vm stop " + spec.name.str() + "`.");
    const Programs programs = BANGER_TRY(programs_.find(host_.settings(), stop));
    const Acceleration kvm = options_.probe_kvm();
    if (!kvm.is_usable)
        return Error(Errc::unavailable, "Firecracker needs KVM: " + kvm.reason, kvm.remedy);
    BANGER_TRY(end(spec.vm).context("clearing away what an earlier run left"));

    const std::string state_folder = JailPaths::state_of(host_, spec.vm);
    Rollback rollback([this](const Error& error) { host_.log(LogLevel::warning, error.text()); });
    if (!path_exists(JailPaths::console_of(host_, spec.vm)))
        rollback.add("removing the console", [&] { return remove_tree(state_folder); });
    rollback.add("ending the VMM", [&] { return end(spec.vm); });
    Record record = BANGER_TRY(reserve(spec, programs));
    VmProcess vm = BANGER_TRY(launch(spec, programs, snapshot, std::move(record), std::move(stop)));
    rollback.commit();
    watcher_.watch(JailPaths::console_of(host_, spec.vm), spec.console_limit);
    watcher_.watch(state_folder + "/" + std::string(firecracker::log_name), complaints_limit);
    return vm;
}

Result<VmProcess> FirecrackerVmBackend::launch(
    const MachineSpec& spec, const Programs& programs,
    const std::optional<firecracker::SnapshotSource>& snapshot, Record record,
    std::stop_token stop) {
    const JailPaths paths(host_, spec.vm, record.program);
    const firecracker::JailDevices devices = BANGER_TRY(firecracker::make_jail(
        paths, spec, config_of(spec), snapshot, owner_uid(), record.uid, parts_, kernels_, stop));
    BANGER_TRY(parts_.give_tap(spec.link.device, owner_uid(), record.uid));
    BANGER_TRY(compact_to(paths.console, spec.console_limit));
    const UniqueFd console = BANGER_TRY(open_log(paths.console, O_CREAT));
    const UniqueFd complaints = BANGER_TRY(open_log(paths.log, 0));
    if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");

    const Result<ProcessId> process = launcher_.start({.vm = spec.vm,
                                                       .name = spec.name,
                                                       .programs = programs,
                                                       .jail_base = paths.base,
                                                       .jail_root = paths.root,
                                                       .uid = record.uid,
                                                       .memory = spec.memory,
                                                       .vcpus = spec.vcpus,
                                                       .disks = devices.disks,
                                                       .is_restored = snapshot.has_value(),
                                                       .console = console.get(),
                                                       .complaints = complaints.get()},
                                                      stop);
    if (!process) return explained(process.error(), paths);
    record.process = *process;
    BANGER_TRY(ledger_.write(spec.vm.str(), firecracker::encode(record)));
    const Result<UniqueFd> pidfd = open_pidfd(*process);
    if (!pidfd)
        return explained(Error(Errc::unavailable, "Firecracker ended as soon as it was started"),
                         paths);
    if (snapshot) {
        BANGER_TRY(wait_until(InstanceState::not_started, paths, record, *pidfd, stop));
        const UniqueFd api =
            BANGER_TRY(firecracker::connect_in_jail(paths, firecracker::api_socket, record.uid));
        const Result<void> loaded = firecracker::load_snapshot(
            api, "/" + std::string(firecracker::restored_state),
            "/" + std::string(firecracker::restored_memory), options_.snapshot_deadline, stop);
        if (!loaded) return explained(loaded.error(), paths);
        BANGER_TRY(wait_until(InstanceState::paused, paths, record, *pidfd, stop));
    } else {
        BANGER_TRY(wait_until(InstanceState::running, paths, record, *pidfd, stop));
    }
    BANGER_TRY(firecracker::forget_boot_files(paths));
    return VmProcess{spec.vm, *process, {}};
}

Result<void> FirecrackerVmBackend::wait_until(InstanceState wanted, const JailPaths& paths,
                                              const Record& record, const UniqueFd& pidfd,
                                              std::stop_token stop) {
    constexpr std::chrono::milliseconds between_looks{2};
    const Clock::time_point deadline = Clock::now() + options_.start_deadline;
    std::string last = "nothing listens at its API";
    for (;;) {
        // Whether it still lives, and a pause between two looks for its socket.
        if (BANGER_TRY(wait_for_exit(pidfd, between_looks, stop)))
            return explained(Error(Errc::unavailable, "Firecracker ended before its guest ran"),
                             paths);
        if (Clock::now() >= deadline)
            return explained(
                Error(Errc::timed_out, "Firecracker does not get its guest to run: " + last),
                paths);
        const Result<UniqueFd> api =
            firecracker::connect_in_jail(paths, firecracker::api_socket, record.uid);
        // Not there yet; or jailer is not that far, and what there is is not Firecracker's.
        if (!api) {
            last = api.error().message;
            continue;
        }
        // The answer comes when the machine is built: Firecracker listens before it builds.
        const Result<firecracker::InstanceInfo> info =
            firecracker::instance_info(*api, until(deadline), stop);
        if (info && info->state == wanted) return ok();
        if (!info && info.error().code != Errc::unreachable && info.error().code != Errc::timed_out)
            return explained(info.error(), paths);
        last = info ? "it is in another state" : info.error().message;
    }
}

Error FirecrackerVmBackend::explained(Error why, const JailPaths& paths) const {
    if (why.code == Errc::cancelled) return why;
    std::string words = tail_of(paths.log, shown_complaints);
    for (char& c : words)
        if (c != '\n' && (c < ' ' || c > '~')) c = '?';
    while (words.ends_with('\n'))
        words.pop_back();
    if (!words.empty()) why.message += ":\n" + words;
    if (why.remedy.empty()) why.remedy = "Look at `banger doctor`.";
    return why;
}

// ---- ending ------------------------------------------------------------------------------------

Result<void> FirecrackerVmBackend::end(const VmId& vm) {
    const std::string log =
        JailPaths::state_of(host_, vm) + "/" + std::string(firecracker::log_name);
    watcher_.forget(JailPaths::console_of(host_, vm));
    watcher_.forget(log);
    // Whatever may run has one, be it damaged.
    if (path_exists(host_.run_folder() + "/" + vm.str())) {
        BANGER_TRY(launcher_.end(vm).context("ending the VMM of " + vm.str()));
        const Result<std::optional<Record>> record = record_of(vm);
        if (record && *record && (*record)->process) {
            const Result<UniqueFd> pidfd = open_pidfd(*(*record)->process);
            if (pidfd && !BANGER_TRY(wait_for_exit(*pidfd, 10s, {})))
                return Error(Errc::timed_out, "the VMM of " + vm.str() + " does not end",
                             "Look at `systemctl status banger.slice`.");
            if (pidfd) reap_if_child(*pidfd);
        }
    }
    ErrorCollector errors;
    // Whatever version it ran.
    for (const firecracker::JailedMachine& jailed :
         BANGER_TRY(firecracker::machines_in(JailPaths::base_of(host_))))
        if (jailed.vm == vm)
            errors.add(remove_tree(JailPaths(host_, vm, jailed.program).folder),
                       "removing the jail of " + vm.str());
    errors.add(remove_file(log));
    if (!errors.has_errors()) errors.add(ledger_.erase(vm.str()));
    return errors.result();
}

Result<void> FirecrackerVmBackend::kill(const VmProcess& vm) { return end(vm.vm); }

Result<void> FirecrackerVmBackend::remove(const VmId& vm) {
    ErrorCollector errors;
    errors.add(end(vm));
    errors.add(remove_tree(JailPaths::state_of(host_, vm)));
    return errors.result().context("forgetting machine " + vm.str());
}

// ---- while it runs -----------------------------------------------------------------------------

Result<Record> FirecrackerVmBackend::running(const VmProcess& vm) const {
    const std::optional<Record> record = BANGER_TRY(record_of(vm.vm));
    if (!record || !record->process || *record->process != vm.process ||
        !is_running(*record->process))
        return machine_gone(vm.vm);
    return *record;
}

Result<UniqueFd> FirecrackerVmBackend::console(const VmId& vm) {
    Result<UniqueFd> fd = open_bounded(JailPaths::console_of(host_, vm));
    if (fd || fd.error().code != Errc::not_found) return fd;
    return Error(Errc::not_found, "machine " + vm.str() + " has no console yet",
                 "Start it with `banger vm start`.");
}

Result<UniqueFd> FirecrackerVmBackend::connect_agent(const VmProcess& vm) {
    constexpr std::chrono::milliseconds between_attempts{5};
    const Record record = BANGER_TRY(running(vm));
    const JailPaths paths(host_, vm.vm, record.program);
    const Result<UniqueFd> pidfd = open_pidfd(vm.process);
    if (!pidfd) return machine_gone(vm.vm);
    const Clock::time_point deadline = Clock::now() + options_.agent_deadline;
    do {
        Result<UniqueFd> socket =
            firecracker::connect_in_jail(paths, firecracker::vsock_socket, record.uid);
        if (!socket && socket.error().code != Errc::not_found) return socket;
        if (socket &&
            ::send(socket->get(), agent_request.data(), agent_request.size(), MSG_NOSIGNAL) ==
                static_cast<ssize_t>(agent_request.size()) &&
            BANGER_TRY(is_connected(*socket, deadline)))
            return socket;
        if (BANGER_TRY(wait_for_exit(*pidfd, between_attempts, {}))) return machine_gone(vm.vm);
    } while (Clock::now() < deadline);
    return Error(Errc::unreachable, "nobody in machine " + vm.vm.str() + " listens yet",
                 "Wait until it has booted; `banger vm logs` shows how far it is.");
}

Result<void> FirecrackerVmBackend::set_paused(const VmProcess& vm, bool is_paused,
                                              std::stop_token stop) {
    const Record record = BANGER_TRY(running(vm));
    const JailPaths paths(host_, vm.vm, record.program);
    const auto connect = [&] {
        return firecracker::connect_in_jail(paths, firecracker::api_socket, record.uid);
    };
    const InstanceState wanted = is_paused ? InstanceState::paused : InstanceState::running;
    // Firecracker refuses what is done already.
    const UniqueFd first = BANGER_TRY(connect());
    const firecracker::InstanceInfo info =
        BANGER_TRY(firecracker::instance_info(first, options_.api_deadline, stop));
    if (info.state == wanted) return ok();
    const UniqueFd second = BANGER_TRY(connect());
    return firecracker::set_paused(second, is_paused, options_.api_deadline, std::move(stop));
}

Result<void> FirecrackerVmBackend::pause(const VmProcess& vm, std::stop_token stop) {
    return set_paused(vm, true, std::move(stop)).context("pausing " + vm.vm.str());
}

Result<void> FirecrackerVmBackend::resume(const VmProcess& vm, std::stop_token stop) {
    return set_paused(vm, false, std::move(stop)).context("resuming " + vm.vm.str());
}

// ---- snapshots ---------------------------------------------------------------------------------

Result<void> FirecrackerVmBackend::save(const VmProcess& vm, const UniqueFd& sink,
                                        std::stop_token stop) {
    const Record record = BANGER_TRY(running(vm));
    struct stat target {};
    if (::fstat(sink.get(), &target) != 0 || !S_ISREG(target.st_mode) || target.st_size != 0)
        return Error(Errc::invalid_argument, "a snapshot goes to an empty file", "Give a new one.");
    const JailPaths paths(host_, vm.vm, record.program);
    const auto connect = [&] {
        return firecracker::connect_in_jail(paths, firecracker::api_socket, record.uid);
    };
    const UniqueFd first = BANGER_TRY(connect());
    const firecracker::InstanceInfo info =
        BANGER_TRY(firecracker::instance_info(first, options_.api_deadline, stop));
    if (info.state != InstanceState::paused)
        return Error(Errc::wrong_state, "machine " + vm.vm.str() + " is not paused",
                     "Pause it first.");
    const auto forget = [&] {
        ErrorCollector errors;
        for (const std::string_view name : {firecracker::saved_state, firecracker::saved_memory})
            errors.add(remove_file(paths.root + "/" + std::string(name)));
        return errors.result();
    };
    Rollback rollback([this](const Error& error) { host_.log(LogLevel::warning, error.text()); });
    rollback.add("removing the snapshot's files", forget);
    BANGER_TRY(forget());
    const UniqueFd second = BANGER_TRY(connect());
    const Result<void> written = firecracker::create_snapshot(
        second, "/" + std::string(firecracker::saved_state),
        "/" + std::string(firecracker::saved_memory), options_.snapshot_deadline, stop);
    if (!written) return explained(written.error(), paths).context("saving " + vm.vm.str());
    const firecracker::JailFile state = BANGER_TRY(firecracker::open_in_jail(
        paths, firecracker::saved_state, record.uid, firecracker::largest_snapshot_state));
    const firecracker::JailFile memory = BANGER_TRY(firecracker::open_in_jail(
        paths, firecracker::saved_memory, record.uid, firecracker::largest_snapshot_memory));
    const firecracker::SnapshotHead head{
        .firecracker = info.version,
        .host = firecracker::host_of_snapshots(),
        .config = BANGER_TRY(firecracker::read_config(paths, record.uid)),
        .state_size = state.size,
        .memory_size = memory.size};
    const auto copy = [&](const firecracker::JailFile& file, std::uint64_t offset) {
        return copy_sparse_part(file.fd.get(), 0, sink.get(), static_cast<off_t>(offset),
                                static_cast<off_t>(file.size), stop);
    };
    BANGER_TRY(write_all(sink.get(), BANGER_TRY(firecracker::encode(head))));
    BANGER_TRY(copy(state, head.state_offset()));
    BANGER_TRY(copy(memory, head.memory_offset()));
    if (::ftruncate(sink.get(), static_cast<off_t>(head.memory_offset() + memory.size)) != 0 ||
        ::fdatasync(sink.get()) != 0)
        return Error::from_errno(errno, "writing the snapshot");
    return ok();
}

Result<VmProcess> FirecrackerVmBackend::restore(const MachineSpec& spec, const UniqueFd& source,
                                                std::stop_token stop) {
    BANGER_TRY(firecracker::check_spec(spec));
    std::string bytes(firecracker::snapshot_head_size, '\0');
    const ssize_t count = ::pread(source.get(), bytes.data(), bytes.size(), 0);
    if (count < 0) return Error::from_errno(errno, "reading the snapshot");
    bytes.resize(static_cast<std::size_t>(count));
    const firecracker::SnapshotSource snapshot{
        source.get(), BANGER_TRY(firecracker::decode_snapshot_head(bytes))};
    struct stat status {};
    if (::fstat(source.get(), &status) != 0)
        return Error::from_errno(errno, "looking at the snapshot");
    const firecracker::SnapshotHead& head = snapshot.head;
    if (static_cast<std::uint64_t>(status.st_size) < head.memory_offset() + head.memory_size)
        return Error(Errc::corrupt, "the snapshot is cut off", "Take another one.");
    const auto mismatch = [](const std::string& what) {
        return Error(Errc::unsupported, "the snapshot was taken " + what,
                     "Start the machine without it, or take another one.");
    };
    const Programs programs = BANGER_TRY(programs_.find(host_.settings(), stop));
    if (firecracker::parse_version("x v" + head.firecracker) != programs.firecracker.version)
        return mismatch("by Firecracker " + head.firecracker + ", and here is " +
                        programs.firecracker.version.text());
    if (const std::string here = firecracker::host_of_snapshots(); head.host != here)
        return mismatch("on another host (" + head.host + "), and this is: " + here);
    if (head.config != config_of(spec) || head.memory_size != spec.memory.count())
        return mismatch("of a machine with other sizes, disks or network");
    return begin(spec, snapshot, std::move(stop)).context("restoring " + spec.name.str());
}

// ---- after a restart ---------------------------------------------------------------------------

Result<std::vector<VmId>> FirecrackerVmBackend::recover(std::span<const VmProcess> remembered) {
    std::vector<VmId> gone;
    std::set<std::string> alive;
    for (const VmProcess& vm : remembered) {
        const Result<Record> record = running(vm);
        if (!record) {
            gone.push_back(vm.vm);
            continue;
        }
        alive.insert(vm.vm.str());
        const std::string console = JailPaths::console_of(host_, vm.vm);
        (void)trim_to(console, record->console_limit);
        watcher_.watch(console, record->console_limit);
        watcher_.watch(JailPaths(host_, vm.vm, record->program).log, complaints_limit);
    }
    std::set<std::string> known;
    const Ledger::Contents contents = BANGER_TRY(ledger_.entries());
    for (const Ledger::Entry& entry : contents.entries)
        known.insert(entry.key);
    for (const firecracker::JailedMachine& jailed :
         BANGER_TRY(firecracker::machines_in(JailPaths::base_of(host_))))
        known.insert(jailed.vm.str());
    ErrorCollector errors;
    for (const Error& damaged : contents.damaged)
        errors.add(damaged, "reading the ledger");
    for (const std::string& key : known) {
        const Result<VmId> vm = VmId::parse(key);
        if (vm && !alive.contains(key)) errors.add(end(*vm), "ending what is left of " + key);
    }
    BANGER_TRY(errors.result());
    return gone;
}

// ---- doctor ------------------------------------------------------------------------------------

std::vector<Check> FirecrackerVmBackend::checks(std::stop_token stop) {
    std::vector<Check> rows;
    const Result<Programs> programs = programs_.find(host_.settings(), std::move(stop));
    if (!programs) {
        rows.push_back({"firecracker binary", CheckStatus::fail, programs.error().message,
                        programs.error().remedy});
    } else {
        const firecracker::Program& program = programs->firecracker;
        const std::string what = program.path + ", version " + program.version.text();
        if (program.version > firecracker::newest_tried)
            rows.push_back(
                {"firecracker binary", CheckStatus::warn,
                 what + ", is newer than what banger was tried with",
                 "Should machines not start, use " + firecracker::newest_tried.text() + "."});
        else
            rows.push_back({"firecracker binary", CheckStatus::pass, what, {}});
        if (programs->jailer)
            rows.push_back({"confinement",
                            CheckStatus::pass,
                            "by " + programs->jailer->path +
                                ": user, root folder and cgroup of its own; seccomp by Firecracker",
                            {}});
        else
            rows.push_back({"confinement",
                            CheckStatus::pass,
                            "by systemd, without jailer (" + programs->why_no_jailer +
                                "): user, root folder and cgroup of its own; seccomp by "
                                "Firecracker",
                            {}});
    }
    const Acceleration kvm = options_.probe_kvm();
    if (kvm.is_usable)
        rows.push_back({"kvm", CheckStatus::pass, "guests run on the CPU itself", {}});
    else
        rows.push_back(
            {"kvm", CheckStatus::fail, "Firecracker needs KVM: " + kvm.reason, kvm.remedy});
    rows.push_back(launcher_.check());
    return rows;
}

}  // namespace banger

#include "plugins/vmm-qemu/qemu_vm_backend.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "core/base/rollback.hpp"
#include "plugins/vmm-qemu/acceleration.hpp"
#include "plugins/vmm-qemu/qemu_command.hpp"
#include "plugins/vmm-qemu/qmp.hpp"

namespace banger::qemu {

namespace {

using namespace std::chrono_literals;

/// For QEMU to build its machine, on a host that is busy with other things.
constexpr std::chrono::milliseconds start_deadline = 60s;
constexpr std::chrono::milliseconds command_deadline = 10s;
/// QEMU's own words; a guest can make it talk.
constexpr ByteCount complaints_limit = ByteCount::kib(256);
constexpr std::size_t shown_complaints = 2000;
constexpr char install_remedy[] = "Run `sudo apt install qemu-system-x86`.";

Error machine_gone(const VmId& vm) {
    return {Errc::not_found, "machine " + vm.str() + " is not running",
            "Start it with `banger vm start`."};
}

/// The bytes that a disk may come to: its virtual size, which a qcow2 file tells in bytes 24 to 31.
Result<std::uint64_t> size_of(const Disk& disk) {
    const int flags = (disk.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    const UniqueFd fd(::open(disk.path.c_str(), flags));
    if (!fd) {
        Error error = Error::from_errno(errno, "opening the disk " + disk.path);
        error.remedy = "Look at the machine with `banger vm show`; delete it if its disk is lost.";
        return error;
    }
    if (disk.format == DiskFormat::raw) {
        const off_t end = ::lseek(fd.get(), 0, SEEK_END);
        return static_cast<std::uint64_t>(std::max<off_t>(0, end));
    }
    unsigned char bytes[8] = {};
    if (::pread(fd.get(), bytes, sizeof bytes, 24) != sizeof bytes)
        return Error(Errc::corrupt, "the disk " + disk.path + " is no qcow2 file",
                     "Delete the machine and create it again.");
    std::uint64_t size = 0;
    for (const unsigned char byte : bytes)
        size = size << 8 | byte;
    return size;
}

/// RLIMIT_FSIZE of QEMU: no file may outgrow the largest disk by much, the console least of all.
/// qcow2 adds tables and may leave holes; an eighth and 1 GiB are ample.
Result<ByteCount> file_limit(const std::vector<Disk>& disks) {
    std::uint64_t largest = 0;
    for (const Disk& disk : disks)
        largest = std::max(largest, BANGER_TRY(size_of(disk)));
    constexpr std::uint64_t top = std::uint64_t{1} << 62;
    largest = std::min(largest, top);
    return ByteCount::bytes(largest + largest / 8 + (std::uint64_t{1} << 30));
}

/// Makes the files that QEMU appends to, readable by the owner alone from birth.
Result<UniqueFd> open_log(const std::string& path, int more_flags) {
    UniqueFd fd(::open(path.c_str(),
                       O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | more_flags, 0600));
    if (!fd) return Error::from_errno(errno, "open " + path);
    return fd;
}

/// Ends a QEMU of which we have no process: a daemon died between spawning and noting it. QEMU
/// inherited its listening socket, so whoever answers there is it.
Result<void> quit_unrecorded(const MachinePaths& paths) {
    Result<Qmp> qmp = Qmp::connect(paths.qmp_socket, start_deadline, {});
    if (!qmp) {
        const Errc code = qmp.error().code;
        // It ended before or while we asked.
        if (code == Errc::not_found || code == Errc::unreachable) return ok();
        return std::move(qmp).error();
    }
    const Result<std::string> answer = qmp->execute("quit", {});
    if (!answer && answer.error().code != Errc::unreachable) return answer.error();
    if (BANGER_TRY(qmp->wait_for_close({}))) return ok();
    return Error(Errc::timed_out, "a QEMU of an earlier daemon does not end",
                 "Find it with `ps -C qemu-system-x86_64` and kill it.");
}

}  // namespace

Result<std::string> QemuVmBackend::program() const {
    std::string wanted = "qemu-system-x86_64";
    if (const auto found = host_.settings().find("qemu_bin"); found != host_.settings().end())
        if (const std::string* text = std::get_if<std::string>(&found->second);
            text != nullptr && !text->empty())
            wanted = *text;
    Result<std::string> path = find_program(wanted);
    if (path) return path;
    return Error(Errc::unavailable, "QEMU is not installed: " + path.error().message,
                 install_remedy);
}

Result<BackendCapabilities> QemuVmBackend::capabilities() {
    BANGER_TRY(program());
    const Acceleration kvm = probe_kvm();
    BackendCapabilities out;
    out.links = {LinkKind::user, LinkKind::tap};
    out.disk_formats = {DiskFormat::raw, DiskFormat::qcow2};
    out.pause = true;
    out.hardware_accelerated = kvm.is_usable;
    if (!kvm.is_usable)
        out.acceleration_note =
            "QEMU emulates the CPU, which is about ten times slower than KVM: " + kvm.reason;
    out.max_vcpus = max_vcpus;
    return out;
}

Result<VmProcess> QemuVmBackend::start(const MachineSpec& spec, std::stop_token stop) {
    if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
    BANGER_TRY(check_spec(spec));
    const MachinePaths paths(host_, spec.vm);
    const Result<MachineRecord> record = read_record(paths);
    if (record && record->process && is_running(*record->process))
        return Error(Errc::wrong_state, "machine " + spec.name.str() + " runs already",
                     "Stop it first with `banger vm stop " + spec.name.str() + "`.");
    // What an earlier run left, be it a QEMU that nobody noted.
    BANGER_TRY(end(paths));

    const bool has_console = path_exists(paths.console);
    Rollback rollback([this](const Error& error) { host_.log(LogLevel::warning, error.text()); });
    if (!has_console)
        rollback.add("removing the console", [&] { return remove_tree(paths.state_folder); });
    rollback.add("removing the marks in the run folder", [&] { return end(paths); });
    VmProcess vm = BANGER_TRY(launch(spec, paths, std::move(stop)));
    rollback.commit();
    watcher_.watch(paths.console, spec.console_limit);
    watcher_.watch(paths.complaints, complaints_limit);
    return vm;
}

Result<VmProcess> QemuVmBackend::launch(const MachineSpec& spec, const MachinePaths& paths,
                                        std::stop_token stop) {
    HostPart host;
    host.program = BANGER_TRY(program());
    host.use_kvm = probe_kvm().is_usable;
    host.split_code = !host.use_kvm && !may_write_code();
    host.console_path = paths.console;
    const ByteCount limit = BANGER_TRY(file_limit(spec.disks));

    BANGER_TRY(ensure_folder(paths.run_folder, 0700));
    BANGER_TRY(ensure_folder(paths.state_folder, 0700));
    MachineRecord record{spec.vm, std::nullopt, spec.console_limit};
    BANGER_TRY(write_record(paths, record));
    BANGER_TRY(compact_to(paths.console, spec.console_limit));
    BANGER_TRY(open_log(paths.console, 0));
    const UniqueFd complaints = BANGER_TRY(open_log(paths.complaints, O_TRUNC));
    UniqueFd qmp_listener = BANGER_TRY(listen_unix(paths.qmp_socket));
    UniqueFd agent_listener = BANGER_TRY(listen_unix(paths.agent_socket));
    host.qmp_listener = qmp_listener.get();
    host.agent_listener = agent_listener.get();
    host.standard_error = complaints.get();

    Command command = build_command(spec, host);
    command.file_size_limit = limit;
    // Destroyed before the caller's rollback runs: on a failure below QEMU is gone first.
    Child child = BANGER_TRY(spawn(command));
    // Ours must close, or the sockets would stay alive when QEMU does not.
    qmp_listener.reset();
    agent_listener.reset();
    record.process = child.id();
    BANGER_TRY(write_record(paths, record));

    Result<Qmp> qmp = Qmp::connect(paths.qmp_socket, start_deadline, stop);
    const Result<std::string> status =
        qmp ? qmp->execute("query-status", stop) : Result<std::string>(qmp.error());
    if (!status) {
        const Errc code = status.error().code;
        if (code != Errc::unreachable && code != Errc::not_found) return status.error();
        // It ended by itself and said why.
        BANGER_TRY(wait_for_exit(child.pidfd(), command_deadline, stop));
        const ExitStatus exit = child.terminate(0ms);
        return explain_failure(tail_of(paths.complaints, shown_complaints),
                               "QEMU ended with " + exit.text());
    }
    if (!BANGER_TRY(is_guest_running(*status)))
        return Error(Errc::internal, "QEMU started but does not run the guest",
                     "Look at `banger vm logs`.");
    child.detach();
    return VmProcess{spec.vm, child.id(), {}};
}

Result<void> QemuVmBackend::end(const MachinePaths& paths) {
    if (!path_exists(paths.run_folder)) return ok();
    watcher_.forget(paths.console);
    watcher_.forget(paths.complaints);
    const Result<MachineRecord> record = read_record(paths);
    if (record && record->process)
        BANGER_TRY(kill_and_wait(*record->process));
    else
        BANGER_TRY(quit_unrecorded(paths));
    return remove_tree(paths.run_folder);
}

Result<void> QemuVmBackend::kill(const VmProcess& vm) {
    ErrorCollector errors;
    errors.add(kill_and_wait(vm.process), "ending the VMM of " + vm.vm.str());
    // The record may know a process that core does not: the one of a start that core never heard
    // the end of.
    errors.add(end(MachinePaths(host_, vm.vm)), "removing the marks of " + vm.vm.str());
    return errors.result();
}

Result<void> QemuVmBackend::remove(const VmId& vm) {
    const MachinePaths paths(host_, vm);
    ErrorCollector errors;
    errors.add(end(paths));
    errors.add(remove_tree(paths.state_folder));
    return errors.result().context("forgetting machine " + vm.str());
}

Result<UniqueFd> QemuVmBackend::console(const VmId& vm) {
    Result<UniqueFd> fd = open_bounded(MachinePaths(host_, vm).console);
    if (fd || fd.error().code != Errc::not_found) return fd;
    return Error(Errc::not_found, "machine " + vm.str() + " has no console yet",
                 "Start it with `banger vm start`.");
}

Result<UniqueFd> QemuVmBackend::connect_agent(const VmProcess& vm) {
    if (!is_running(vm.process)) return machine_gone(vm.vm);
    const MachinePaths paths(host_, vm.vm);
    // QEMU takes one client at a time and lets a second one wait unheard, so ask first. More than
    // once: it may not have seen yet that the last client left, and does while it answers.
    constexpr int questions = 3;
    {
        Qmp qmp = BANGER_TRY(Qmp::connect(paths.qmp_socket, command_deadline, {}));
        bool is_taken = true;
        for (int i = 0; is_taken && i < questions; ++i) {
            const std::string devices = BANGER_TRY(qmp.execute("query-chardev", {}));
            is_taken = BANGER_TRY(is_chardev_connected(devices, "agent"));
        }
        if (is_taken)
            return Error(Errc::busy, "the agent's channel of " + vm.vm.str() + " is taken",
                         "Wait for the other `banger` command on this machine to end.");
    }
    return connect_unix(paths.agent_socket);
}

Result<std::vector<VmId>> QemuVmBackend::recover(std::span<const VmProcess> remembered) {
    std::vector<VmId> gone;
    ErrorCollector errors;
    for (const VmProcess& vm : remembered)
        if (!is_running(vm.process)) gone.push_back(vm.vm);
    const std::vector<VmId> marked = BANGER_TRY(machines_in(host_.run_folder()));
    for (const VmId& id : marked) {
        const MachinePaths paths(host_, id);
        const bool lives =
            std::ranges::any_of(remembered, [&](const VmProcess& vm) { return vm.vm == id; }) &&
            std::ranges::find(gone, id) == gone.end();
        if (!lives) {
            errors.add(end(paths), "ending what is left of " + id.str());
            continue;
        }
        const Result<MachineRecord> record = read_record(paths);
        const ByteCount limit = record ? record->console_limit : ByteCount::mib(4);
        errors.add(trim_to(paths.console, limit));
        watcher_.watch(paths.console, limit);
        watcher_.watch(paths.complaints, complaints_limit);
    }
    BANGER_TRY(errors.result());
    return gone;
}

Result<void> QemuVmBackend::command(const VmProcess& vm, std::string_view name,
                                    std::stop_token stop) {
    if (!is_running(vm.process)) return machine_gone(vm.vm);
    Result<Qmp> qmp = Qmp::connect(MachinePaths(host_, vm.vm).qmp_socket, command_deadline, stop);
    if (!qmp) {
        const Errc code = qmp.error().code;
        if (code == Errc::not_found || code == Errc::unreachable) return machine_gone(vm.vm);
        return std::move(qmp).error();
    }
    BANGER_TRY(qmp->execute(name, std::move(stop)));
    return ok();
}

Result<void> QemuVmBackend::pause(const VmProcess& vm, std::stop_token stop) {
    return command(vm, "stop", std::move(stop)).context("pausing " + vm.vm.str());
}

Result<void> QemuVmBackend::resume(const VmProcess& vm, std::stop_token stop) {
    return command(vm, "cont", std::move(stop)).context("resuming " + vm.vm.str());
}

Check QemuVmBackend::check_binary(std::stop_token stop) const {
    constexpr char name[] = "qemu binary";
    const Result<std::string> binary = program();
    if (!binary) return {name, CheckStatus::fail, binary.error().message, binary.error().remedy};
    Command command;
    command.program = *binary;
    command.arguments = {"--version"};
    command.environment = {{"LC_ALL", "C"}, {"PATH", "/usr/bin:/bin"}};
    const Result<CommandOutput> said =
        run_command(command, command_deadline, ByteCount::kib(4), std::move(stop));
    if (!said || !said->status.is_success())
        return {name, CheckStatus::fail,
                *binary + " does not run: " + (said ? said->status.text() : said.error().message),
                "Run `sudo apt install --reinstall qemu-system-x86`."};
    const std::string line = said->standard_output.substr(0, said->standard_output.find('\n'));
    if (!is_recent_enough(line))
        return {
            name, CheckStatus::fail, *binary + ", " + line,
            "Install QEMU 7.2 or later: it is the first that banger's machine is known to run on."};
    return {name, CheckStatus::pass, *binary + ", " + line, {}};
}

std::vector<Check> QemuVmBackend::checks(std::stop_token stop) {
    std::vector<Check> rows{check_binary(std::move(stop))};
    const Acceleration kvm = probe_kvm();
    if (kvm.is_usable)
        rows.push_back({"kvm", CheckStatus::pass, "guests run on the CPU itself", {}});
    else
        rows.push_back(
            {"kvm", CheckStatus::warn, "guests are emulated: " + kvm.reason, kvm.remedy});
    return rows;
}

}  // namespace banger::qemu

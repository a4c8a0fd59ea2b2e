#include "fake_vm_backend.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "core/base/rollback.hpp"

namespace banger {

namespace {

constexpr std::chrono::seconds start_deadline{10};

Error not_running(const VmId& vm) {
    return {Errc::not_found, "machine " + vm.str() + " is not running", "Start it first."};
}

}  // namespace

Result<BackendCapabilities> FakeVmBackend::capabilities() {
    if (!path_exists(program_))
        return Error(Errc::unavailable, "there is no " + program_, "Build the target fake-vmm.");
    BackendCapabilities capabilities;
    capabilities.links = {LinkKind::user, LinkKind::tap};
    capabilities.disk_formats = {DiskFormat::raw, DiskFormat::qcow2};
    capabilities.pause = true;
    capabilities.hardware_accelerated = true;
    capabilities.max_vcpus = 64;
    return capabilities;
}

std::optional<ProcessId> FakeVmBackend::running(const std::string& vm) const {
    const Result<std::string> text = read_file(folder_of(vm) + "/process", ByteCount::kib(1));
    if (!text) return std::nullopt;
    ProcessId process;
    const char* const end = text->data() + text->size();
    const auto [space, status] = std::from_chars(text->data(), end, process.pid);
    if (status != std::errc() || space == end) return std::nullopt;
    if (std::from_chars(space + 1, end, process.start_time).ec != std::errc()) return std::nullopt;
    return is_running(process) ? std::optional(process) : std::nullopt;
}

Result<void> FakeVmBackend::check_spec(const MachineSpec& spec) const {
    struct stat status {};
    if (::fstat(spec.kernel_fd, &status) != 0 || ::fstat(spec.initramfs_fd, &status) != 0)
        return Error(Errc::invalid_argument, "kernel or initramfs is not an open file",
                     "Pull the kernel again.");
    for (const Disk& disk : spec.disks)
        if (!path_exists(disk.path))
            return Error(Errc::not_found, "the disk " + disk.path + " is not there",
                         "Delete the machine and make it again.");
    if (spec.vcpus == 0 || spec.memory.count() == 0)
        return Error(Errc::invalid_argument, "a machine without CPU or memory",
                     "Give it at least one of each.");
    return ok();
}

/// Starts the process and waits until it says that it is ready.
Result<ProcessId> FakeVmBackend::launch(const MachineSpec& spec, std::stop_token stop) {
    int fds[2] = {-1, -1};
    if (::pipe2(fds, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
    const UniqueFd said(fds[0]);
    UniqueFd say(fds[1]);
    Command command;
    command.program = program_;
    command.arguments = {spec.vm.str(), folder_of(spec.vm.str()), console_of(spec.vm),
                         std::to_string(spec.console_limit.count())};
    command.standard_output = say.get();
    command.standard_error = say.get();
    Child child = BANGER_TRY(spawn(command));
    say.reset();

    // One line, "ready" or what went wrong; the end of the pipe if it died. Child's destructor ends
    // the process on every way out but the last.
    std::string line;
    while (!line.ends_with('\n')) {
        if (BANGER_TRY(poll_fd(said.get(), POLLIN, start_deadline, stop)) == 0)
            return Error(Errc::timed_out, "fake-vmm does not get ready", "Try again.");
        char c = 0;
        if (::read(said.get(), &c, 1) != 1) break;
        line += c;
    }
    if (line != "ready\n")
        return Error(Errc::internal, "fake-vmm did not start: " + line, "Look at its console.");
    BANGER_TRY(failpoints_.pass("vm-backend.start", stop));
    const ProcessId process = child.id();
    child.detach();
    return process;
}

Result<VmProcess> FakeVmBackend::start(const MachineSpec& spec, std::stop_token stop) {
    if (stop.stop_requested()) return Error(Errc::cancelled, "the start was cancelled");
    if (running(spec.vm.str()))
        return Error(Errc::wrong_state, "machine " + spec.vm.str() + " runs already",
                     "Stop it first.");
    BANGER_TRY(check_spec(spec));
    const std::string folder = folder_of(spec.vm.str());
    const bool had_console = path_exists(console_of(spec.vm));
    Rollback rollback(nullptr);
    rollback.add("removing the console",
                 [&] { return had_console ? ok() : remove_file(console_of(spec.vm)); });
    rollback.add("removing its folder", [&] { return remove_tree(folder); });
    BANGER_TRY(remove_tree(folder));
    BANGER_TRY(ensure_private_folder(folder));
    const ProcessId process = BANGER_TRY(launch(spec, std::move(stop)));
    rollback.commit();
    return VmProcess{spec.vm, process, "fake"};
}

Result<void> FakeVmBackend::kill(const VmProcess& vm) {
    ErrorCollector errors;
    errors.add(kill_and_wait(vm.process), "ending the machine");
    errors.add(remove_tree(folder_of(vm.vm.str())), "removing its folder");
    return errors.result();
}

Result<void> FakeVmBackend::remove(const VmId& vm) {
    ErrorCollector errors;
    errors.add(remove_tree(folder_of(vm.str())));
    errors.add(remove_file(console_of(vm)));
    return errors.result();
}

Result<UniqueFd> FakeVmBackend::console(const VmId& vm) { return open_read(console_of(vm)); }

Result<UniqueFd> FakeVmBackend::connect_agent(const VmProcess& vm) {
    if (!is_running(vm.process)) return not_running(vm.vm);
    const std::string path = folder_of(vm.vm.str()) + "/agent.sock";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return Error(Errc::invalid_argument, "the path of the socket is too long",
                     "Use a shorter run folder.");
    std::memcpy(address.sun_path, path.data(), path.size());
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) return Error::from_errno(errno, "socket");
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        return fd;
    if (errno == ENOENT || errno == ECONNREFUSED) return not_running(vm.vm);
    return Error::from_errno(errno, "connecting to the agent");
}

Result<std::vector<VmId>> FakeVmBackend::recover(std::span<const VmProcess> remembered) {
    ErrorCollector errors;
    std::vector<VmId> gone;
    for (const VmProcess& vm : remembered)
        if (!is_running(vm.process)) {
            gone.push_back(vm.vm);
            errors.add(remove_tree(folder_of(vm.vm.str())));
        }
    for (const std::string& name : BANGER_TRY(list_folder(run_))) {
        if (std::ranges::any_of(remembered,
                                [&](const VmProcess& vm) { return vm.vm.str() == name; }))
            continue;
        if (const std::optional<ProcessId> orphan = running(name))
            errors.add(kill_and_wait(*orphan), "ending a machine nobody knows");
        errors.add(remove_tree(folder_of(name)));
    }
    BANGER_TRY(errors.result());
    return gone;
}

Result<void> FakeVmBackend::signal(const VmProcess& vm, int number) {
    const Result<UniqueFd> pidfd = open_pidfd(vm.process);
    if (!pidfd) return not_running(vm.vm);
    return send_signal(*pidfd, number);
}

Result<void> FakeVmBackend::pause(const VmProcess& vm, std::stop_token stop) {
    BANGER_TRY(failpoints_.pass("vm-backend.pause", std::move(stop)));
    return signal(vm, SIGSTOP);
}

Result<void> FakeVmBackend::resume(const VmProcess& vm, std::stop_token stop) {
    BANGER_TRY(failpoints_.pass("vm-backend.resume", std::move(stop)));
    return signal(vm, SIGCONT);
}

std::vector<Check> FakeVmBackend::checks(std::stop_token) {
    if (path_exists(program_)) return {{"fake-vmm", CheckStatus::pass, program_, ""}};
    return {
        {"fake-vmm", CheckStatus::fail, "there is no " + program_, "Build the target fake-vmm."}};
}

}  // namespace banger

#include "core/vms/machines.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <thread>
#include <utility>

#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/base/process.hpp"
#include "core/guest/ssh_host_key.hpp"
#include "core/images/initramfs.hpp"
#include "core/vms/file_sync.hpp"
#include "core/vms/states.hpp"

namespace banger {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// What every machine boots with, whatever the back end; a back end adds what its devices need.
constexpr std::string_view command_line =
    "console=ttyS0 quiet loglevel=4 panic=-1 net.ifnames=0 random.trust_cpu=on";

UnixTime now() {
    return std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
}

/// A machine that a daemon was making when it died: it never ran, and never came to rest either.
bool is_half_made(const VmRecord& vm) {
    return vm.state == VmState::starting && !vm.started_at && !vm.stopped_at;
}

template <class T>
bool contains(const std::vector<T>& values, const T& wanted) {
    return std::ranges::find(values, wanted) != values.end();
}

Result<UniqueFd> sealed_memory(const char* name, std::initializer_list<std::string_view> parts) {
    UniqueFd fd(::memfd_create(name, MFD_CLOEXEC));
    if (!fd) return Error::from_errno(errno, "memfd_create");
    for (const std::string_view part : parts)
        BANGER_TRY(write_all(fd.get(), part));
    if (::lseek(fd.get(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "lseek");
    return fd;
}

/// The last lines of a console, for an error message: printable text only.
std::string last_lines(int fd, std::size_t lines) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return {};
    constexpr off_t window = 4096;
    std::string tail(window, '\0');
    const ssize_t count =
        ::pread(fd, tail.data(), tail.size(), std::max<off_t>(0, status.st_size - window));
    tail.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    std::size_t begin = tail.size();
    for (std::size_t found = 0; begin > 0; --begin)
        if (tail[begin - 1] == '\n' && begin != tail.size() && ++found == lines) break;
    std::string out;
    for (std::size_t at = begin; at < tail.size();) {
        const std::size_t end = std::min(tail.find('\n', at), tail.size());
        std::string_view line = std::string_view(tail).substr(at, end - at);
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (!line.empty()) out += "\n  | " + guest::sanitised(line, 200);
        at = end + 1;
    }
    return out;
}

/// The stages of one of several things that are made, with its name in front.
class NamedCall final : public Call {
public:
    NamedCall(Call& outer, std::string name) : outer_(outer), name_(std::move(name)) {}
    [[nodiscard]] std::stop_token stop() const override { return outer_.stop(); }
    void report(const Progress& progress) override {
        Progress named = progress;
        named.stage = name_ + ": " + named.stage;
        outer_.report(named);
    }

private:
    Call& outer_;
    const std::string name_;
};

}  // namespace

/// Measures the stages of one call and tells the caller which one is on.
class Machines::Stopwatch {
public:
    Stopwatch(Call& call, std::vector<StageTime>& times) : call_(call), times_(times) {}
    ~Stopwatch() { end(); }
    void stage(std::string name, std::string shown) {
        end();
        name_ = std::move(name);
        began_ = Clock::now();
        call_.report({std::move(shown), 0, 0, Progress::Unit::none});
    }
    void end() {
        if (!name_.empty())
            times_.push_back(
                {std::exchange(name_, {}),
                 std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began_)});
    }

private:
    Call& call_;
    std::vector<StageTime>& times_;
    std::string name_;
    Clock::time_point began_;
};

Machines::Machines(Parts parts) : parts_(std::move(parts)) {}

std::string Machines::folder_of(const VmId& vm) const { return parts_.folder + "/" + vm.str(); }

Result<KeyedLock::Guard> Machines::lock(const VmId& vm, std::stop_token stop) {
    return machines_.acquire(vm.str(), std::move(stop));
}

Result<Machines::Locked> Machines::find_and_lock(const std::string& text, std::stop_token stop) {
    const VmRecord found = BANGER_TRY(parts_.store.find_machine(text));
    KeyedLock::Guard guard = BANGER_TRY(lock(found.id, std::move(stop)));
    VmRecord current = BANGER_TRY(parts_.store.machine(found.id));
    return Locked{std::move(guard), std::move(current)};
}

Result<Machines::Roles3> Machines::roles_of(const VmRecord& vm) {
    Roles3 roles;
    roles.backend = BANGER_TRY(parts_.registry.vm_backend(vm.backend.str()));
    roles.network = BANGER_TRY(parts_.registry.network(vm.network.str()));
    roles.storage = BANGER_TRY(parts_.registry.storage(vm.storage.str()));
    return roles;
}

std::optional<std::string> Machines::why_unavailable(const VmRecord& vm) const {
    for (const PluginName* plugin : {&vm.backend, &vm.network, &vm.storage})
        if (const std::optional<Error> why = parts_.registry.why_away(plugin->str()))
            return why->message;
    return std::nullopt;
}

// ---- making ------------------------------------------------------------------------------------

Result<CreatePlan> Machines::plan(const CreateRequest& request) {
    const RoleChoice& choice = parts_.registry.choice();
    const PluginName backend_name =
        BANGER_TRY(PluginName::parse(request.backend.value_or(choice.vm_backend)));
    const PluginName network_name =
        BANGER_TRY(PluginName::parse(request.network.value_or(choice.network)));
    const PluginName storage_name =
        BANGER_TRY(PluginName::parse(request.storage.value_or(choice.storage)));
    VmBackend* backend = BANGER_TRY(parts_.registry.vm_backend(backend_name.str()));
    Network* network = BANGER_TRY(parts_.registry.network(network_name.str()));
    BANGER_TRY(parts_.registry.storage(storage_name.str()));

    const MachineSizes sizes =
        BANGER_TRY(work_out_sizes(request.sizes, parts_.config.vm_defaults, parts_.host));
    CreatePlan plan{
        .image = request.image.value_or(*parts_.config.default_image_name),
        .kernel = std::string(default_kernel),
        .sizes = sizes,
        .backend = backend_name,
        .network = network_name,
        .storage = storage_name,
        .nat = request.nat,
        .notes = {},
    };
    const BackendCapabilities can = BANGER_TRY(backend->capabilities());
    if (*plan.sizes.vcpus > can.max_vcpus)
        return Error(
            Errc::invalid_argument,
            backend_name.str() + " runs at most " + std::to_string(can.max_vcpus) + " vCPU",
            "Ask for fewer with --vcpu.");
    const LinkKind kind = network->addressing().pool ? LinkKind::tap : LinkKind::user;
    if (!contains(can.links, kind))
        return Error(Errc::unsupported,
                     backend_name.str() + " cannot open a " + std::string(to_string(kind)) +
                         " link, which is what " + network_name.str() + " makes",
                     "Choose another back end or network.");
    if (!can.hardware_accelerated) plan.notes.push_back(can.acceleration_note);

    if (request.name) {
        const Result<VmRecord> taken = parts_.store.find_machine(request.name->str());
        if (taken && taken->name == *request.name)
            return Error(
                Errc::already_exists,
                "a machine named " + banger::quoted(request.name->str()) + " exists already",
                "Choose another name, or delete it with `banger vm delete " + request.name->str() +
                    "`.");
    }
    const SyncedFiles synced =
        BANGER_TRY(collect_file_sync(parts_.config.file_sync, parts_.home, {}));
    plan.notes.insert(plan.notes.end(), synced.warnings.begin(), synced.warnings.end());
    const Result<ImageRecord> image = parts_.store.find_image(plan.image);
    plan.image_is_present = image && image->state == ArtifactState::ready;
    if (plan.image_is_present && !image->kernel_reference.empty())
        plan.kernel = image->kernel_reference;
    const Result<KernelRecord> kernel = parts_.store.find_kernel(plan.kernel);
    plan.kernel_is_present = kernel && kernel->state == ArtifactState::ready;
    return plan;
}

Result<VmRecord> Machines::create(const CreateRequest& request, bool start, Call& call,
                                  std::vector<StageTime>& times) {
    const CreatePlan plan = BANGER_TRY(this->plan(request));
    Stopwatch watch(call, times);

    watch.stage("image", "image " + plan.image);
    NamedCall of_image(call, "image");
    const ImageRecord image = BANGER_TRY(parts_.images.ensure_image(plan.image, {}, of_image));
    watch.stage("kernel", "kernel " + plan.kernel);
    NamedCall of_kernel(call, "kernel");
    const KernelRecord kernel = BANGER_TRY(parts_.images.ensure_kernel(
        image.kernel_reference.empty() ? plan.kernel : image.kernel_reference, {}, of_kernel));

    watch.stage("reserve", "reserving name and address");
    VmRecord vm = BANGER_TRY(reserve(request, plan, image, kernel));
    const KeyedLock::Guard guard = BANGER_TRY(lock(vm.id, {}));
    const Roles3 roles = BANGER_TRY(roles_of(vm));
    Rollback rollback([&](const Error& error) {
        parts_.log(LogLevel::error,
                   "while giving up machine " + vm.name.str() + ": " + error.text());
    });
    rollback.add("removing machine " + vm.name.str(), [&] { return erase(vm, roles); });

    watch.stage("identity", "making the machine's keys");
    const guest::SshHostKey host_key = BANGER_TRY(guest::generate_ssh_host_key(vm.name.str()));
    vm.ssh_host_key = host_key.public_key;
    BANGER_TRY(write_identity(vm, request, host_key));

    watch.stage("disks", "making disks");
    BANGER_TRY(make_volumes(vm, roles, image, call.stop()));
    if (start) {
        BANGER_TRY(boot(vm, roles, call, watch));
    } else {
        BANGER_TRY(release_disks(vm, roles));
        vm.state = VmState::created;
        vm.stopped_at = now();
        BANGER_TRY(parts_.store.save_machine(vm));
    }
    if (call.stop().stop_requested()) return Error(Errc::cancelled, "cancelled");
    rollback.commit();
    if (start) watch_process(vm);
    return vm;
}

Result<VmRecord> Machines::reserve(const CreateRequest& request, const CreatePlan& plan,
                                   const ImageRecord& image, const KernelRecord& kernel) {
    Network* network = BANGER_TRY(parts_.registry.network(plan.network.str()));
    // A generated name that is taken is no error of the user's: another one is.
    for (int attempt = 0;; ++attempt) {
        const VmId id = VmId::random();
        const VmRecord wanted{
            .id = id,
            .name = request.name ? *request.name : random_vm_name(),
            .image = image.name,
            .image_id = image.id,
            .kernel = kernel.name,
            .kernel_id = kernel.id,
            .backend = plan.backend,
            .network = plan.network,
            .storage = plan.storage,
            .mac = MacAddress::of(id),
            .state = VmState::starting,
            .vcpus = *plan.sizes.vcpus,
            .memory = *plan.sizes.memory,
            .disk_size = *plan.sizes.disk,
            .system_overlay_size = std::max(*plan.sizes.system_overlay, image.size),
            .nat = plan.nat,
        };
        Result<VmRecord> reserved =
            parts_.store.reserve_machine(wanted, network->addressing().pool);
        const bool try_another = !reserved && reserved.error().code == Errc::already_exists &&
                                 !request.name && attempt < 20;
        if (!try_another) return reserved;
    }
}

Result<void> Machines::write_identity(const VmRecord& vm, const CreateRequest& request,
                                      const guest::SshHostKey& host_key) {
    SyncedFiles synced = BANGER_TRY(collect_file_sync(parts_.config.file_sync, parts_.home, {}));
    for (const std::string& warning : synced.warnings)
        parts_.log(LogLevel::warning, vm.name.str() + ": " + warning);
    const guest::GuestIdentity identity{
        .vm = vm.id,
        .name = vm.name,
        .machine_id = guest::new_machine_id(),
        .network = {},
        .authorized_keys = request.authorized_keys,
        .ssh_host_key = host_key,
        .files = std::move(synced.files),
        .git = {},
        .grow_disks = true,
    };
    BANGER_TRY(parts_.store.record_resource(vm.id, ResourceKind::file, "", folder_of(vm.id)));
    for (const guest::ArchiveMember& member : BANGER_TRY(guest::encode_identity(identity))) {
        const std::string path = folder_of(vm.id) + "/" + member.path;
        BANGER_TRY(ensure_folder(parent_path(path), 0700));
        BANGER_TRY(write_file_atomic(path, member.content, 0600));
    }
    return ok();
}

Result<guest::GuestIdentity> Machines::read_identity(const VmId& vm) {
    const std::string folder = folder_of(vm) + "/";
    const auto read_member = [&](std::string_view member) {
        return read_file(folder + std::string(member), ByteCount::bytes(guest::max_files_bytes));
    };
    const std::string text = BANGER_TRY(read_member(guest::identity_path));
    return guest::decode_identity(text, read_member);
}

Result<void> Machines::make_volumes(VmRecord& vm, const Roles3& roles, const ImageRecord& image,
                                    std::stop_token stop) {
    const BackendCapabilities can = BANGER_TRY(roles.backend->capabilities());
    BANGER_TRY(parts_.store.record_resource(vm.id, ResourceKind::activation, vm.storage.str(), ""));
    const UniqueFd root_base = BANGER_TRY(parts_.images.open_root_file_system(image));
    const UniqueFd work_base = BANGER_TRY(parts_.images.empty_file_system(vm.disk_size));
    const auto make = [&](VolumeRole role, const UniqueFd& base, ByteCount size) -> Result<void> {
        BANGER_TRY(parts_.store.record_resource(vm.id, ResourceKind::volume, vm.storage.str(),
                                                to_string(role)));
        const VolumeRequest request{.vm = vm.id,
                                    .role = role,
                                    .base_fd = base.get(),
                                    .size = size,
                                    .formats = can.disk_formats,
                                    .owner_uid = ::geteuid()};
        vm.volumes.push_back(BANGER_TRY(roles.storage->create(request, stop)
                                            .context("making the " + std::string(to_string(role)) +
                                                     " disk of " + vm.name.str())));
        return ok();
    };
    BANGER_TRY(make(VolumeRole::root, root_base, vm.system_overlay_size));
    return make(VolumeRole::work, work_base, vm.disk_size);
}

/// What the volume was made from; an invalid descriptor when it is not there any more, which only
/// some storage minds. A file of the user's that was changed is an error: what the machine wrote
/// lies over what was there before.
Result<UniqueFd> Machines::base_of(const VmRecord& vm, const Volume& volume) {
    if (volume.role != VolumeRole::root) return UniqueFd();
    const Result<ImageRecord> image = parts_.store.find_image(vm.image_id);
    if (!image) return UniqueFd();
    Result<UniqueFd> file = parts_.images.open_root_file_system(*image);
    if (!file && image->file) return file;
    return file ? std::move(file).value() : UniqueFd();
}

// ---- starting ----------------------------------------------------------------------------------

Result<VmRecord> Machines::start(const std::string& name, Call& call,
                                 std::vector<StageTime>& times) {
    Locked locked = BANGER_TRY(find_and_lock(name, call.stop()));
    VmRecord& vm = locked.vm;
    if (vm.state == VmState::running) return vm;
    if (vm.state == VmState::paused)
        return Error(Errc::wrong_state, vm.name.str() + " is paused", "Resume it.");
    if (vm.state == VmState::deleting) return not_running(vm);
    const Roles3 roles = BANGER_TRY(roles_of(vm));
    // What an earlier stop could not take down: nothing starts beside it.
    if (BANGER_TRY(has_leftovers(vm)))
        BANGER_TRY(come_to_rest(vm, roles).context(vm.name.str() +
                                                   " cannot start: its last run is not over"));
    Stopwatch watch(call, times);
    Rollback rollback([&](const Error& error) {
        parts_.log(LogLevel::error,
                   "while giving up the start of " + vm.name.str() + ": " + error.text());
    });
    BANGER_TRY(grow_disk(vm, roles, call.stop()));
    rollback.add("stopping " + vm.name.str(), [&] { return come_to_rest(vm, roles); });
    BANGER_TRY(parts_.store.record_resource(vm.id, ResourceKind::activation, vm.storage.str(), ""));
    for (Volume& volume : vm.volumes) {
        const UniqueFd base = BANGER_TRY(base_of(vm, volume));
        volume = BANGER_TRY(roles.storage->activate(volume, base, call.stop()));
    }
    BANGER_TRY(boot(vm, roles, call, watch));
    rollback.commit();
    watch_process(vm);
    return vm;
}

/// From disks to a guest that is ready. The caller has registered the way back.
Result<void> Machines::boot(VmRecord& vm, const Roles3& roles, Call& call, Stopwatch& watch) {
    vm.state = VmState::starting;
    vm.error_reason.clear();
    watch.stage("network", "joining the network");
    BANGER_TRY(attach_link(vm, roles, call.stop()));
    watch.stage("vmm", "starting the machine");
    BANGER_TRY(start_process(vm, roles, call.stop()));
    watch.stage("boot", "booting");
    BANGER_TRY(wait_until_ready(vm, roles, call));
    watch.stage("dns", "publishing the name");
    BANGER_TRY(publish_name(vm, call.stop()));
    vm.state = VmState::running;
    vm.started_at = now();
    vm.stopped_at = {};
    BANGER_TRY(parts_.store.save_machine(vm));
    watch.end();
    return ok();
}

Result<void> Machines::attach_link(VmRecord& vm, const Roles3& roles, std::stop_token stop) {
    BANGER_TRY(parts_.store.record_resource(vm.id, ResourceKind::link, vm.network.str(), ""));
    // Behind a translator ssh needs a port of the host's.
    std::vector<PortForward> forwards;
    if (!vm.address) forwards.push_back({Ipv4Address(0x7f000001), 0, 22});
    const LinkRequest request{.vm = vm.id,
                              .name = vm.name,
                              .mac = vm.mac,
                              .address = vm.address,
                              .nat = vm.nat,
                              .owner_uid = ::geteuid(),
                              .forwards = std::move(forwards)};
    vm.link = BANGER_TRY(roles.network->attach(request, stop)
                             .context("joining " + vm.name.str() + " to the network"));
    return parts_.store.save_machine(vm);
}

Result<UniqueFd> Machines::make_initramfs(const VmRecord& vm, const UniqueFd& base) {
    guest::GuestIdentity identity = BANGER_TRY(read_identity(vm.id));
    identity.network = guest::GuestNetwork{.mac = vm.link->mac,
                                           .address = vm.link->address,
                                           .gateway = vm.link->gateway,
                                           .name_servers = {vm.link->name_server}};
    // The agent of this very build, whatever banger imported the kernel: host and guest decode each
    // other strictly.
    images::CpioWriter archive;
    const std::string agent = BANGER_TRY(read_file(parts_.agent, ByteCount::mib(64)));
    BANGER_TRY(archive.add_file("init", 0755, agent));
    for (const guest::ArchiveMember& member : BANGER_TRY(guest::encode_identity(identity)))
        BANGER_TRY(archive.add_file(member.path, 0600, member.content));
    const std::string own = std::move(archive).finish();
    const std::string shared = BANGER_TRY(read_all(base.get(), ByteCount::mib(256)));
    return sealed_memory("banger-initramfs", {shared, own});
}

Result<void> Machines::start_process(VmRecord& vm, const Roles3& roles, std::stop_token stop) {
    const KernelRecord kernel = BANGER_TRY(parts_.store.find_kernel(vm.kernel_id));
    const ImageStore::OpenKernel files = BANGER_TRY(parts_.images.open_kernel(kernel));
    const UniqueFd initramfs = BANGER_TRY(make_initramfs(vm, files.initramfs));
    MachineSpec spec{.vm = vm.id,
                     .name = vm.name,
                     .vcpus = vm.vcpus,
                     .memory = vm.memory,
                     .kernel_fd = files.vmlinux.get(),
                     .initramfs_fd = initramfs.get(),
                     .command_line = std::string(command_line),
                     .disks = {},
                     .link = *vm.link};
    for (const Volume& volume : vm.volumes)
        spec.disks.push_back(
            {volume.path, volume.format, false, std::string(to_string(volume.role))});
    spec.disks.push_back({files.modules_path, DiskFormat::raw, true, "modules"});

    BANGER_TRY(parts_.store.record_resource(vm.id, ResourceKind::process, vm.backend.str(), ""));
    vm.process = BANGER_TRY(roles.backend->start(spec, stop).context("starting " + vm.name.str()));
    if (parts_.contain) parts_.contain(vm);
    return parts_.store.save_machine(vm);
}

Result<std::chrono::seconds> Machines::patience(std::chrono::seconds usual, VmBackend& backend) {
    const BackendCapabilities can = BANGER_TRY(backend.capabilities());
    return can.hardware_accelerated ? usual : 3 * usual;
}

Result<void> Machines::wait_until_ready(const VmRecord& vm, const Roles3& roles, Call& call) {
    // A VMM that ends closes the agent's stream, so this wait never outlives the machine.
    const Clock::time_point deadline =
        Clock::now() + BANGER_TRY(patience(parts_.ready_deadline, *roles.backend));
    const auto connect = [&] {
        return lines_.get(*roles.backend, *vm.process, deadline, call.stop());
    };
    Result<std::shared_ptr<guest::AgentClient>> agent = connect();
    // Over vsock nobody is there until the agent listens; each attempt waits a while by itself.
    while (!agent && agent.error().code == Errc::unreachable && Clock::now() < deadline) {
        if (call.stop().stop_requested()) return Error(Errc::cancelled, "cancelled");
        agent = connect();
    }
    if (!agent && agent.error().code == Errc::cancelled) return agent.error();
    if (!agent) return not_ready(vm, roles, agent.error());
    const Result<guest::GuestHealth> health =
        (*agent)->health(guest::Readiness::ready, deadline, call.stop());
    if (!health) {
        if (health.error().code == Errc::cancelled) return health.error();
        return not_ready(vm, roles, health.error());
    }
    if (health->ready) return ok();
    std::string why = health->failure.empty() ? "the guest says it is not ready" : health->failure;
    for (const guest::Probe& probe : health->probes)
        if (!probe.ok) why += "; probe " + probe.name + ": " + probe.reason;
    return not_ready(vm, roles, Error(Errc::timed_out, why));
}

Error Machines::not_ready(const VmRecord& vm, const Roles3& roles, const Error& why) {
    std::string message = vm.name.str() + " did not become ready: " + why.message;
    const Result<UniqueFd> console = roles.backend->console(vm.id);
    if (console) {
        const std::string lines = last_lines(console->get(), 8);
        if (!lines.empty()) message += "; the last lines of its console:" + lines;
    }
    return Error(why.code == Errc::unavailable ? Errc::unavailable : Errc::timed_out, message,
                 "Try another image, or more memory or vCPU; `banger doctor` checks this host.");
}

Result<void> Machines::publish_name(const VmRecord& vm, std::stop_token stop) {
    if (!vm.address) return ok();  // behind a translator there is no address of its own to name
    BANGER_TRY(parts_.store.record_resource(vm.id, ResourceKind::record,
                                            parts_.registry.choice().dns, ""));
    return parts_.dns.publish({vm.id, vm.name, *vm.address}, stop)
        .context("publishing the name " + vm.name.str());
}

/// The caller holds the machine's lock, or is alone.
void Machines::watch_process(VmRecord& vm) {
    Result<UniqueFd> pidfd = open_pidfd(vm.process->process);
    if (pidfd)
        parts_.watch(vm.id, vm.process->process, std::move(*pidfd));
    else
        settle_exit(vm);
}

// ---- stopping ----------------------------------------------------------------------------------

Result<Machines::Stopped> Machines::stop(const std::string& name, Call& call) {
    Locked locked = BANGER_TRY(find_and_lock(name, call.stop()));
    VmRecord& vm = locked.vm;
    Stopped stopped{vm, false};
    if (!is_live(vm.state) && !BANGER_TRY(is_stuck(vm))) return stopped;
    const Roles3 roles = BANGER_TRY(roles_of(vm));
    BANGER_TRY(begin_to_stop(vm, roles, call, stopped.was_forced));
    BANGER_TRY(come_to_rest(vm, roles));
    stopped.vm = vm;
    return stopped;
}

Result<bool> Machines::stop_unused(const VmId& id, const std::function<bool()>& is_unused,
                                   const std::string& why, Call& call) {
    const KeyedLock::Guard guard = BANGER_TRY(lock(id, call.stop()));
    VmRecord vm = BANGER_TRY(parts_.store.machine(id));
    if (vm.state != VmState::running || !is_unused()) return false;
    const Roles3 roles = BANGER_TRY(roles_of(vm));
    bool was_forced = false;
    BANGER_TRY(begin_to_stop(vm, roles, call, was_forced));
    if (was_forced) {
        vm.state = VmState::running;
        BANGER_TRY(parts_.store.save_machine(vm));
        return Error(Errc::timed_out, "the guest does not power off by itself, and runs on",
                     "Stop it with force: banger vm stop " + vm.name.str());
    }
    BANGER_TRY(come_to_rest(vm, roles));
    vm.error_reason = why;
    BANGER_TRY(parts_.store.save_machine(vm));
    return true;
}

Result<void> Machines::begin_to_stop(VmRecord& vm, const Roles3& roles, Call& call,
                                     bool& was_forced) {
    vm.state = VmState::stopping;
    BANGER_TRY(parts_.store.save_machine(vm));
    call.report({"asking " + vm.name.str() + " to power off", 0, 0, Progress::Unit::none});
    const Result<void> asked = shut_down_guest(vm, roles, call.stop(), was_forced);
    if (asked) return ok();
    // Cancelled: it goes on running, or the exit is noticed like any other.
    vm.state = VmState::running;
    BANGER_TRY(parts_.store.save_machine(vm));
    return asked.error();
}

/// Returns when the VMM has ended or the time is up; an error only when cancelled.
Result<void> Machines::shut_down_guest(const VmRecord& vm, const Roles3& roles,
                                       std::stop_token stop, bool& was_forced) {
    was_forced = false;
    if (!vm.process) return ok();
    const Result<UniqueFd> pidfd = open_pidfd(vm.process->process);
    if (!pidfd) return ok();
    const Clock::time_point deadline =
        Clock::now() +
        patience(parts_.stop_deadline, *roles.backend).value_or(parts_.stop_deadline);
    const auto ask = [&]() -> Result<void> {
        const std::shared_ptr<guest::AgentClient> agent =
            BANGER_TRY(lines_.get(*roles.backend, *vm.process, deadline, stop));
        return agent->shutdown(deadline, stop);
    };
    const Result<void> asked = ask();
    if (!asked && asked.error().code == Errc::cancelled) return asked;
    if (!asked)
        parts_.log(LogLevel::warning,
                   vm.name.str() + " could not be asked to power off: " + asked.error().text());
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    const bool ended = asked && BANGER_TRY(wait_for_exit(*pidfd, std::max(0ms, left), stop));
    was_forced = !ended;
    return ok();
}

Result<VmRecord> Machines::kill(const std::string& name) {
    Locked locked = BANGER_TRY(find_and_lock(name, {}));
    VmRecord& vm = locked.vm;
    if (!is_live(vm.state) && !BANGER_TRY(is_stuck(vm))) return vm;
    const Roles3 roles = BANGER_TRY(roles_of(vm));
    BANGER_TRY(come_to_rest(vm, roles));
    return vm;
}

Result<VmRecord> Machines::set_workspace(const std::string& name,
                                         std::optional<WorkspaceRecord> workspace,
                                         std::stop_token stop) {
    Locked locked = BANGER_TRY(find_and_lock(name, stop));
    locked.vm.workspace = std::move(workspace);
    BANGER_TRY(parts_.store.save_machine(locked.vm));
    return locked.vm;
}

Result<VmRecord> Machines::remove(const std::string& name, bool force, Call& call) {
    Locked locked = BANGER_TRY(find_and_lock(name, call.stop()));
    VmRecord& vm = locked.vm;
    const Roles3 roles = BANGER_TRY(roles_of(vm));
    if (!force && is_live(vm.state)) {
        call.report({"asking " + vm.name.str() + " to power off", 0, 0, Progress::Unit::none});
        bool was_forced = false;
        BANGER_TRY(shut_down_guest(vm, roles, call.stop(), was_forced));
    }
    BANGER_TRY(erase(vm, roles));
    return vm;
}

Result<bool> Machines::has_leftovers(const VmRecord& vm) {
    if (vm.process || vm.link) return true;
    const std::vector<ResourceRecord> all = BANGER_TRY(parts_.store.resources_of(vm.id));
    return std::ranges::any_of(all, [](const ResourceRecord& resource) {
        return resource.kind == ResourceKind::link || resource.kind == ResourceKind::process ||
               resource.kind == ResourceKind::record || resource.kind == ResourceKind::activation;
    });
}

Result<bool> Machines::is_stuck(const VmRecord& vm) {
    if (vm.state != VmState::error) return false;
    return has_leftovers(vm);
}

Result<void> Machines::release_disks(const VmRecord& vm, const Roles3& roles) {
    BANGER_TRY(roles.storage->deactivate(vm.id).context("releasing the disks"));
    return parts_.store.forget_resources(vm.id, ResourceKind::activation);
}

Result<void> Machines::take_down(VmRecord& vm, const Roles3& roles) {
    ErrorCollector errors;
    const auto step = [&](ResourceKind kind, Result<void> undone, std::string_view doing) {
        if (undone) undone = parts_.store.forget_resources(vm.id, kind);
        errors.add(std::move(undone), doing);
    };
    step(ResourceKind::record, parts_.dns.withdraw(vm.id), "withdrawing the name");
    if (vm.process) {
        const Result<UniqueFd> pidfd = open_pidfd(vm.process->process);
        Result<void> killed = roles.backend->kill(*vm.process);
        // One that would not end stays known: nobody else could find it again.
        const bool has_ended = killed.has_value();
        step(ResourceKind::process, std::move(killed), "ending the VMM");
        if (pidfd) reap_if_child(*pidfd);
        lines_.drop(vm.id);
        if (has_ended) vm.process.reset();
    } else {
        // start() failed or never came back: remove() finds what it may have left.
        step(ResourceKind::process, ok(), "");
    }
    // Taking away devices is mostly waiting for the kernel: link and disks wait at the same time.
    Result<void> detached;
    std::jthread link([&] { detached = roles.network->detach(vm.id); });
    Result<void> released = release_disks(vm, roles);
    link.join();
    if (detached) vm.link.reset();
    step(ResourceKind::link, std::move(detached), "leaving the network");
    // One that was started before activations were recorded has no entry yet.
    if (!released)
        (void)parts_.store.record_resource(vm.id, ResourceKind::activation, vm.storage.str(), "");
    errors.add(std::move(released));
    return errors.result();
}

Result<void> Machines::come_to_rest(VmRecord& vm, const Roles3& roles) {
    Result<void> down = take_down(vm, roles);
    vm.state = down ? VmState::stopped : VmState::error;
    vm.error_reason = down ? std::string() : down.error().message;
    vm.stopped_at = now();
    ErrorCollector errors;
    errors.add(std::move(down));
    errors.add(parts_.store.save_machine(vm));
    return errors.result();
}

Result<void> Machines::erase(VmRecord& vm, const Roles3& roles) {
    ErrorCollector errors;
    // Whoever dies from here on leaves the wish behind: recover() fulfils it.
    vm.state = VmState::deleting;
    errors.add(parts_.store.save_machine(vm));
    errors.add(take_down(vm, roles));
    errors.add(roles.backend->remove(vm.id), "removing what the back end kept");
    Result<void> disks = roles.storage->remove(vm.id);
    if (disks) disks = parts_.store.forget_resources(vm.id, ResourceKind::volume);
    errors.add(std::move(disks), "removing the disks");
    Result<void> files = remove_tree(folder_of(vm.id));
    if (files) files = parts_.store.forget_resources(vm.id, ResourceKind::file);
    errors.add(std::move(files), "removing the files");
    if (errors.has_errors()) {
        // The record stays as long as anything does: it is how the rest is found again.
        vm.error_reason = errors.result().error().message;
        errors.add(parts_.store.save_machine(vm));
        return errors.result();
    }
    return parts_.store.remove_machine(vm.id);
}

// ---- after the fact ----------------------------------------------------------------------------

void Machines::handle_exit(const VmId& id, const ProcessId& process) {
    const Result<KeyedLock::Guard> guard = lock(id, {});
    Result<VmRecord> vm = parts_.store.machine(id);
    // Stopped or deleted by a call that was quicker, or even started again: not our business then.
    if (!vm || !vm->process || vm->process->process != process) return;
    settle_exit(*vm);
}

void Machines::settle_exit(VmRecord& vm) {
    ErrorCollector errors;
    const Result<Roles3> roles = roles_of(vm);
    if (roles) {
        errors.add(come_to_rest(vm, *roles));
    } else {
        vm.state = VmState::error;
        vm.error_reason = roles.error().message;
        vm.stopped_at = now();
        errors.add(roles.error());
        errors.add(parts_.store.save_machine(vm));
    }
    parts_.log(LogLevel::info, vm.name.str() + " has ended");
    if (errors.has_errors())
        parts_.log(LogLevel::error,
                   "while taking down " + vm.name.str() + ": " + errors.result().error().text());
}

std::vector<std::string> Machines::recover() {
    std::vector<std::string> done;
    (void)parts_.store.mark_interrupted_operations();
    const Result<std::vector<VmRecord>> all = parts_.store.machines();
    if (!all) return {all.error().text()};
    for (VmRecord vm : *all) {
        const Result<std::string> said = recover_machine(vm);
        if (!said)
            done.push_back(vm.name.str() + ": " + said.error().text());
        else if (!said->empty())
            done.push_back(*said);
    }
    return done;
}

Result<std::string> Machines::recover_machine(VmRecord& vm) {
    const Roles3 roles = BANGER_TRY(roles_of(vm));
    const std::string name = vm.name.str();
    if (is_half_made(vm) || vm.state == VmState::deleting) {
        const bool was_made = !is_half_made(vm);
        BANGER_TRY(erase(vm, roles));
        return was_made ? "finished deleting " + name
                        : "removed " + name + ", which was never finished";
    }
    const bool is_alive = vm.process && is_running(vm.process->process);
    if (!is_live(vm.state)) {
        std::string said;
        if (BANGER_TRY(has_leftovers(vm))) {
            BANGER_TRY(come_to_rest(vm, roles));
            said = "removed what was left of the last run of " + name;
        }
        BANGER_TRY(grow_disk(vm, roles, {}));
        return said;
    }
    if (is_alive && vm.link && vm.state != VmState::starting) {
        // A stop that was cut off: the guest still runs, so say so.
        if (vm.state == VmState::stopping) vm.state = VmState::running;
        BANGER_TRY(parts_.store.save_machine(vm));
        if (parts_.contain) parts_.contain(vm);
        watch_process(vm);
        return std::string();
    }
    std::string what = name + " had ended meanwhile";
    if (is_alive && vm.state == VmState::starting) what = "ended the start of " + name;
    if (is_alive && !vm.link) {
        // recover_plugin() found its link gone. The VMM holds the old one: only a new start helps.
        bool was_forced = false;
        BANGER_TRY(shut_down_guest(vm, roles, {}, was_forced));
        what = name + " had lost its network and was stopped";
    }
    BANGER_TRY(come_to_rest(vm, roles));
    return what;
}

Result<void> recover_plugin(Store& store, const PluginName& plugin, const Roles& roles) {
    const std::vector<VmRecord> all = BANGER_TRY(store.machines());
    std::vector<NetworkLink> links;
    std::vector<Volume> volumes;
    std::vector<VmProcess> processes;
    for (const VmRecord& vm : all) {
        if (vm.network == plugin && vm.link) links.push_back(*vm.link);
        if (vm.storage == plugin)
            volumes.insert(volumes.end(), vm.volumes.begin(), vm.volumes.end());
        if (vm.backend == plugin && vm.process) processes.push_back(*vm.process);
    }
    const std::string doing = "recovering " + plugin.str();
    // A process that is gone is found by Machines::recover(), machine by machine.
    if (roles.vm_backend) BANGER_TRY(roles.vm_backend->recover(processes).context(doing));
    if (roles.network) {
        const std::vector<VmId> lost = BANGER_TRY(roles.network->recover(links).context(doing));
        for (const VmId& id : lost) {
            VmRecord vm = BANGER_TRY(store.machine(id));
            vm.link.reset();
            BANGER_TRY(store.save_machine(vm));
        }
    }
    if (roles.storage) {
        const std::vector<VmId> lost = BANGER_TRY(roles.storage->recover(volumes).context(doing));
        for (const VmId& id : lost) {
            VmRecord vm = BANGER_TRY(store.machine(id));
            if (is_half_made(vm) || vm.state == VmState::deleting) continue;
            vm.state = VmState::error;
            vm.error_reason = "a disk of it is lost";
            BANGER_TRY(store.save_machine(vm));
        }
    }
    if (roles.dns) {
        const std::vector<DnsRecord> records = BANGER_TRY(remembered_names(store));
        BANGER_TRY(roles.dns->recover(records).context(doing));
    }
    return ok();
}

Result<std::vector<DnsRecord>> remembered_names(Store& store) {
    std::vector<DnsRecord> records;
    for (const VmRecord& vm : BANGER_TRY(store.machines()))
        if (vm.process && vm.address) records.push_back({vm.id, vm.name, *vm.address});
    return records;
}

}  // namespace banger

#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/base/keyed_lock.hpp"
#include "core/base/process.hpp"
#include "core/base/rollback.hpp"
#include "core/config/config.hpp"
#include "core/config/sizing.hpp"
#include "core/guest/agent_client.hpp"
#include "core/guest/identity.hpp"
#include "core/images/image_store.hpp"
#include "core/plugins/registry.hpp"
#include "core/store/store.hpp"
#include "core/vms/agent_lines.hpp"
#include "core/vms/exec.hpp"

namespace banger::images {
class DiskBytes;
}

namespace banger {

/// What an image boots with that names no kernel.
inline constexpr std::string_view default_kernel = "debian-cloud";

/// What somebody wants of a new machine; nothing where the choice is banger's.
struct CreateRequest {
    std::optional<VmName> name;
    std::optional<std::string> image;
    SizeRequest sizes;
    bool nat = false;
    std::optional<std::string> backend;
    std::optional<std::string> network;
    std::optional<std::string> storage;
    std::vector<std::string> authorized_keys;  ///< who may log in: OpenSSH public key lines
};

/// What create() would make.
struct CreatePlan {
    std::string image;   ///< name or reference
    std::string kernel;  ///< name or reference
    bool image_is_present = false;
    bool kernel_is_present = false;
    MachineSizes sizes;
    PluginName backend;
    PluginName network;
    PluginName storage;
    bool nat = false;
    std::vector<std::string> notes;  ///< sentences for the user: "no KVM: …"
};

/// What somebody wants changed; nothing where it stays as it is.
struct ChangeRequest {
    std::optional<std::uint32_t> vcpus;
    std::optional<ByteCount> memory;
    std::optional<ByteCount> disk;
    std::optional<bool> nat;
};

/// What a machine takes on the host's disk.
struct MachineDisk {
    VmId vm;
    VmName name;
    ByteCount allocated;  ///< by its disks alone, without what they stand on
    bool is_running = false;
};

/// What a machine uses at one moment.
struct MachineUsage {
    VmRecord vm;
    std::optional<guest::GuestStats> guest;
    std::string why_no_guest;         ///< empty when `guest` is there
    std::optional<ProcessUsage> vmm;  ///< nothing when it does not run
    /// None when somebody was working on the machine just then.
    std::vector<std::pair<VolumeRole, VolumeUsage>> disks;
};

/// Where the time of a long call went.
struct StageTime {
    std::string stage;
    std::chrono::milliseconds took{0};
};

/// The life of machines: what happens to one happens here.
///
/// Every method blocks and is safe from any thread. Calls on one machine take turns; calls on
/// different ones run at once. A call given a stop token or a Call ends with Errc::cancelled soon
/// after it is triggered, and then leaves nothing half done.
///
/// The order that makes a crash harmless: what will outlive the daemon is written to the store's
/// journal *before* it is made, and forgotten *after* it is unmade. recover() reads the journal.
class Machines {
public:
    struct Parts {
        Store& store;
        Registry& registry;
        Dns& dns;  ///< where names go: the registry's, with or without a responder in front
        ImageStore& images;
        const Config& config;
        std::string folder;  ///< a folder for each machine
        std::string agent;   ///< path of the static banger-vsock-agent: /init of every guest
        HostSize host;
        std::string home = {};  ///< the owner's, for [[file_sync]]
        /// A machine runs from now on: watch the pidfd and call handle_exit() when it is
        /// readable.
        std::function<void(const VmId&, const ProcessId&, UniqueFd pidfd)> watch;
        std::function<void(LogLevel, std::string)> log;
        /// A VMM was started, or found running: give it its limits. Must not block. Optional.
        std::function<void(const VmRecord&)> contain = {};
        /// How long a guest may take until it is ready; three times as long when its CPU is
        /// emulated, which makes it ten times slower, and the host's other work counts ten times.
        std::chrono::seconds ready_deadline{90};
        /// How long a guest may take to power off before it is ended; as above.
        std::chrono::seconds stop_deadline{30};
    };

    explicit Machines(Parts parts);

    /// Checks everything that can be checked without making anything.
    Result<CreatePlan> plan(const CreateRequest& request);

    /// Makes a machine and, with `start`, returns when its guest is ready. All or nothing: on
    /// failure or cancellation nothing is left, on the host or in the store.
    Result<VmRecord> create(const CreateRequest& request, bool start, Call& call,
                            std::vector<StageTime>& times);

    /// Returns when the guest is ready; on failure the machine is stopped as before. A running
    /// machine is success.
    Result<VmRecord> start(const std::string& vm, Call& call, std::vector<StageTime>& times);

    struct Stopped {
        VmRecord vm;
        bool was_forced = false;  ///< the guest did not go by itself in time
    };
    /// Asks the guest to sync and power off, waits, then ends it. A stopped machine is success; one
    /// in `error` is tried to be brought to rest again.
    Result<Stopped> stop(const std::string& vm, Call& call);

    /// Stops it as stop() does and keeps `why` as the record's reason, if it runs and `is_unused`
    /// still says so when it is this call's turn; else false. A guest that does not power off by
    /// itself runs on: Errc::timed_out.
    Result<bool> stop_unused(const VmId& vm, const std::function<bool()>& is_unused,
                             const std::string& why, Call& call);

    /// Ends it now. A stopped machine is success; `error` as with stop().
    Result<VmRecord> kill(const std::string& vm);

    /// Sends its VMM a signal, and does not wait for what comes of it. Errc::wrong_state when it
    /// does not run.
    Result<VmRecord> signal(const std::string& vm, int number);

    struct Changed {
        VmRecord vm;
        std::vector<std::string> pending;  ///< what a running machine gets at its next start
    };
    /// All or nothing, also when the daemon dies in the middle: the record says what is wanted
    /// before a disk grows, and whoever finds one smaller than that (start(), recover()) grows it.
    Result<Changed> change(const std::string& vm, const ChangeRequest& wanted, Call& call);

    /// Removes the machine and everything of it. Running: without `force` the guest is stopped
    /// cleanly first. Not cancellable once it has begun to remove.
    Result<VmRecord> remove(const std::string& vm, bool force, Call& call);

    /// Hands the root disk of a machine at rest to `read`, and lets nobody start it meanwhile.
    /// `host_key` is its private ssh key. Errc::wrong_state when it is not at rest.
    using ReadRootDisk = std::function<Result<void>(const VmRecord& vm, const std::string& host_key,
                                                    images::DiskBytes& disk)>;
    Result<void> read_root_disk(const std::string& vm, Call& call, const ReadRootDisk& read);

    /// Remembers the repository that somebody copied in, or that there is none.
    Result<VmRecord> set_workspace(const std::string& vm, std::optional<WorkspaceRecord> workspace,
                                   std::stop_token stop);

    /// What the guest's agent says; with `wait`, when it is ready or has given up.
    Result<guest::GuestHealth> health(const std::string& vm, bool wait, std::stop_token stop);

    /// Answers within 3 s, whatever the guest does.
    /// What the disks of every machine take on the host. A machine that is busy or whose storage
    /// does not answer counts as nothing.
    Result<std::vector<MachineDisk>> disk_use();
    Result<MachineUsage> usage(const std::string& vm, std::stop_token stop);

    struct Listeners {
        VmRecord vm;
        std::vector<guest::GuestPort> ports;
    };
    /// What listens in the guest. The same deadline.
    Result<Listeners> ports(const std::string& vm, std::stop_token stop);

    /// Starts a command through the guest's agent, with what the machine's image says about
    /// environment, folder, user and entrypoint. Returns when it runs.
    Result<GuestCommand> exec(const std::string& vm, const ExecWish& wish, std::stop_token stop);
    /// Whether a command of exec() runs in it.
    bool has_commands(const VmRecord& vm) { return vm.process && lines_.has_sessions(*vm.process); }

    /// The console of a machine that was started at least once.
    Result<UniqueFd> console(const std::string& vm);

    /// The VMM of this machine has ended, whoever ended it: takes down what it needed while it ran.
    void handle_exit(const VmId& vm, const ProcessId& process);

    /// Why nothing can be done with the machine now: a plugin that made it is away. It is kept, and
    /// is as it was when the plugin is back. Nothing: all are there.
    [[nodiscard]] std::optional<std::string> why_unavailable(const VmRecord& vm) const;

    /// Called once, after every plugin went through recover_plugin(): finishes what a dead daemon
    /// began. Returns a sentence for each thing that was put right.
    std::vector<std::string> recover();

private:
    struct Roles3 {
        VmBackend* backend = nullptr;
        Network* network = nullptr;
        Storage* storage = nullptr;
    };
    class Stopwatch;

    Result<Roles3> roles_of(const VmRecord& vm);
    static Result<std::chrono::seconds> patience(std::chrono::seconds usual, VmBackend& backend);
    Result<VmRecord> reserve(const CreateRequest& request, const CreatePlan& plan,
                             const ImageRecord& image, const KernelRecord& kernel);
    Result<void> write_identity(const VmRecord& vm, const CreateRequest& request,
                                const guest::SshHostKey& host_key);
    Result<guest::GuestIdentity> read_identity(const VmId& vm);
    Result<void> make_volumes(VmRecord& vm, const Roles3& roles, const ImageRecord& image,
                              std::stop_token stop);
    Result<UniqueFd> base_of(const VmRecord& vm, const Volume& volume);
    Result<void> boot(VmRecord& vm, const Roles3& roles, Call& call, Stopwatch& watch);
    Result<void> attach_link(VmRecord& vm, const Roles3& roles, std::stop_token stop);
    Result<void> start_process(VmRecord& vm, const Roles3& roles, std::stop_token stop);
    Result<UniqueFd> make_initramfs(const VmRecord& vm, const UniqueFd& base);
    Result<void> wait_until_ready(const VmRecord& vm, const Roles3& roles, Call& call);
    Error not_ready(const VmRecord& vm, const Roles3& roles, const Error& why);
    Result<void> publish_name(const VmRecord& vm, std::stop_token stop);
    void watch_process(VmRecord& vm);
    /// Its VMM has ended. The caller holds the machine's lock, or is alone.
    void settle_exit(VmRecord& vm);

    Result<void> shut_down_guest(const VmRecord& vm, const Roles3& roles, std::stop_token stop,
                                 bool& was_forced);
    /// shut_down_guest() with the state that belongs to it; running again when it is cancelled.
    Result<void> begin_to_stop(VmRecord& vm, const Roles3& roles, Call& call, bool& was_forced);
    /// One machine of recover(): the sentence about what was put right, or nothing.
    Result<std::string> recover_machine(VmRecord& vm);
    /// Whether something of a machine at rest is there, or may be, that only a running one needs.
    Result<bool> has_leftovers(const VmRecord& vm);
    /// In `error` because its last run could not be taken down whole.
    Result<bool> is_stuck(const VmRecord& vm);
    Result<void> check_change(const VmRecord& vm, const Roles3& roles, const ChangeRequest& wanted);
    /// Makes the work disk as large as the record wants it.
    Result<void> grow_disk(VmRecord& vm, const Roles3& roles, std::stop_token stop);
    Result<void> release_disks(const VmRecord& vm, const Roles3& roles);
    /// Everything that only a running machine needs. Runs every step.
    Result<void> take_down(VmRecord& vm, const Roles3& roles);
    /// take_down() and the state that follows: stopped, or `error` with the reason while something
    /// of the run could not be given back. Whoever holds it may be a VMM that was taken for dead,
    /// so no other is started on the same disks until a later try succeeds.
    Result<void> come_to_rest(VmRecord& vm, const Roles3& roles);
    /// take_down(), then disks, files and the record. Runs every step.
    Result<void> erase(VmRecord& vm, const Roles3& roles);

    /// One short conversation with the guest's agent.
    template <class T>
    Result<T> ask_agent(const VmRecord& vm, std::stop_token stop,
                        Result<T> (guest::AgentClient::*question)(guest::AgentClient::Deadline,
                                                                  std::stop_token));
    [[nodiscard]] std::string folder_of(const VmId& vm) const;
    Result<KeyedLock::Guard> lock(const VmId& vm, std::stop_token stop);
    /// Finds the machine, takes its lock, and reads it again: it may have changed meanwhile.
    struct Locked {
        KeyedLock::Guard guard;
        VmRecord vm;
    };
    Result<Locked> find_and_lock(const std::string& text, std::stop_token stop);

    Parts parts_;
    KeyedLock machines_;
    AgentLines lines_;
};

/// Gives a plugin that was just loaded what core remembers of it, so that it adopts what lives and
/// removes its leftovers. For RegistryOptions::on_load: nobody else uses the plugin yet.
Result<void> recover_plugin(Store& store, const PluginName& plugin, const Roles& roles);

/// The names that should resolve, as core remembers them: those of machines with a VMM and an
/// address.
Result<std::vector<DnsRecord>> remembered_names(Store& store);

}  // namespace banger

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/image_source.hpp"
#include "banger/network.hpp"
#include "banger/result.hpp"
#include "banger/storage.hpp"
#include "banger/values.hpp"
#include "banger/vm_backend.hpp"

/// What the store remembers. Plain values: a copy of a row, not a handle to it. Every time is in
/// whole seconds of unix time, because that is all a person or a quarantine needs.
namespace banger {

using UnixTime = std::chrono::sys_seconds;

enum class VmState {
    created,
    starting,
    running,
    paused,
    stopping,
    stopped,
    error,
    deleting,  ///< its owner wants it gone; stays while anything of it does, with the reason
};
std::string_view to_string(VmState state);
std::optional<VmState> parse_vm_state(std::string_view word);

/// The repository that was copied into a machine.
struct WorkspaceRecord {
    std::string guest_path;  ///< "/root/repo"
    std::string source;      ///< absolute path on the host
    std::string head;        ///< commit that was checked out when it was copied
    UnixTime prepared_at{};
    std::string base = {};       ///< commit that the guest began with: head, or another on request
    std::string branch = {};     ///< made on request; empty: as on the host
    std::string mode = {};       ///< "overlay" or "full-copy"
    bool has_untracked = false;  ///< untracked files were copied too
    bool is_readonly = false;
    std::string fingerprint = {};  ///< of the source's tree then; opaque, made by the CLI
    friend bool operator==(const WorkspaceRecord&, const WorkspaceRecord&) = default;
};

/// One machine. `id`, `name`, `created_at` and `address` never change once it is reserved.
struct VmRecord {
    VmId id;
    VmName name;
    /// Image and kernel by the name they had and by their id in the store; the ids are references:
    /// neither can be removed while the machine exists.
    ArtifactName image;
    std::string image_id;
    ArtifactName kernel;
    std::string kernel_id;
    PluginName backend;
    PluginName network;
    PluginName storage;
    MacAddress mac;

    VmState state = VmState::created;
    std::string error_reason = {};  ///< why the state is `error`; empty otherwise
    std::uint32_t vcpus = 0;
    ByteCount memory = {};
    ByteCount disk_size = {};            ///< of the work disk
    ByteCount system_overlay_size = {};  ///< of the root disk
    bool nat = false;
    /// The lease; nothing on a network that assigns addresses itself.
    std::optional<Ipv4Address> address = {};
    UnixTime created_at{};
    std::optional<UnixTime> started_at = {};
    std::optional<UnixTime> stopped_at = {};
    std::optional<VmProcess> process = {};  ///< its `vm` is this machine, as in link and volumes
    std::optional<NetworkLink> link = {};
    std::vector<Volume> volumes = {};  ///< at most one a role; ordered by role
    std::optional<WorkspaceRecord> workspace = {};
    std::string ssh_host_key = {};  ///< public half, as in known_hosts: "ssh-ed25519 AAAA…"
    friend bool operator==(const VmRecord&, const VmRecord&) = default;
};

enum class ArtifactState {
    pulling,  ///< its bytes are not complete; after a restart of the daemon: a leftover
    ready,
};
std::string_view to_string(ArtifactState state);
std::optional<ArtifactState> parse_artifact_state(std::string_view word);

/// One stream of bytes that an artifact was made of, where its source said which.
struct PartRecord {
    Digest digest;
    std::optional<ByteCount> size = {};
    friend bool operator==(const PartRecord&, const PartRecord&) = default;
};

/// A root file system that stays the user's own: what `image register` saw of it.
struct RegisteredFile {
    std::string path;          ///< absolute
    std::int64_t changed = 0;  ///< st_mtim in nanoseconds
    friend bool operator==(const RegisteredFile&, const RegisteredFile&) = default;
};

/// An image in the store. Core/images derives its files from `id`.
struct ImageRecord {
    /// 12 to 64 lower-case hexadecimal digits, chosen by the caller. Unique, as the name is: one
    /// name has one id and the other way round, so that neither can be mistaken.
    std::string id;
    ArtifactName name;
    std::string reference = {};  ///< canonical spelling: what to ask for to get it again
    std::string distro = {};
    std::string architecture = {};
    std::string description = {};
    std::string provenance = {};
    std::string kernel_reference = {};  ///< empty: the default kernel
    ByteCount size = {};                ///< of the root file system
    UnixTime created_at{};
    ArtifactState state = ArtifactState::pulling;
    RunConfig run_config = {};
    std::string asked_as = {};                ///< another spelling it was asked for by; empty: none
    std::vector<PartRecord> parts = {};       ///< in order; empty where the source did not say
    std::optional<RegisteredFile> file = {};  ///< nothing: the file is the store's
    friend bool operator==(const ImageRecord&, const ImageRecord&) = default;
};

/// A kernel in the store. The same rules as for an image.
struct KernelRecord {
    std::string id;
    ArtifactName name;
    std::string version = {};  ///< as uname -r says it
    std::string reference = {};
    std::string architecture = {};
    std::string description = {};
    std::string provenance = {};
    ByteCount size = {};  ///< of kernel and modules together
    UnixTime created_at{};
    ArtifactState state = ArtifactState::pulling;
    std::string asked_as = {};
    std::vector<PartRecord> parts = {};
    friend bool operator==(const KernelRecord&, const KernelRecord&) = default;
};

enum class OperationOutcome {
    running,
    succeeded,
    failed,
    cancelled,
    interrupted,  ///< the daemon died under it
};
std::string_view to_string(OperationOutcome outcome);
std::optional<OperationOutcome> parse_operation_outcome(std::string_view word);

/// A line of history: what was asked for and how it ended.
struct OperationRecord {
    std::int64_t id = 0;
    std::string kind;     ///< "vm.create", "image.pull"
    std::string subject;  ///< the machine's id, the image's reference; survives what it names
    UnixTime started_at{};
    std::optional<UnixTime> ended_at = {};
    OperationOutcome outcome = OperationOutcome::running;
    std::string error = {};  ///< the sentence, when it failed
    friend bool operator==(const OperationRecord&, const OperationRecord&) = default;
};

/// What kind of thing on the host outlives the daemon.
enum class ResourceKind {
    link,        ///< what Network::attach() makes
    volume,      ///< what Storage::create() makes
    process,     ///< what VmBackend::start() makes
    record,      ///< what Dns::publish() makes
    file,        ///< what core itself writes
    activation,  ///< what Storage::activate() makes; create() leaves its disks active too
};
std::string_view to_string(ResourceKind kind);
std::optional<ResourceKind> parse_resource_kind(std::string_view word);

/// An entry of the journal: something that exists on the host, or may exist.
struct ResourceRecord {
    std::int64_t id = 0;
    VmId vm;
    ResourceKind kind = ResourceKind::file;
    std::string plugin = {};  ///< whose removal unmakes it; empty for core's own
    std::string detail = {};  ///< what to look for: a path, a role word
    UnixTime recorded_at{};
    friend bool operator==(const ResourceRecord&, const ResourceRecord&) = default;
};

}  // namespace banger

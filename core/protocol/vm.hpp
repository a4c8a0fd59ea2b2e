#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

/// The structs of io.banger.Vm.varlink, name for name. Shared by bangerd and its clients; what they
/// mean is written there. A test compares the two.
namespace banger::protocol {

struct Progress {
    std::string stage;
    std::uint64_t done = 0;
    std::uint64_t total = 0;
    std::string unit;
};

struct Sized {
    std::uint64_t value = 0;
    std::string source;
};

struct Plan {
    std::string image;
    std::string kernel;
    Sized vcpus;
    Sized memory;
    Sized disk;
    Sized root;
    std::string backend;
    std::string network;
    std::string storage;
    bool nat = false;
    bool image_is_present = false;
    bool kernel_is_present = false;
    std::vector<std::string> notes;
};

struct SshEndpoint {
    std::string host;
    std::uint16_t port = 0;
    std::string user;
    std::string host_key_alias;
    std::string host_key;
};

struct Workspace {
    std::string guest_path;
    std::string source;
    std::string head;
    std::string base;
    std::string branch;
    std::string mode;
    bool has_untracked = false;
    bool is_readonly = false;
    std::string fingerprint;
    std::int64_t prepared_at = 0;
};

struct Vm {
    std::string id;
    std::string name;
    std::string state;
    std::optional<std::string> reason;
    std::string image;
    std::string kernel;
    std::uint32_t vcpus = 0;
    std::uint64_t memory = 0;
    std::uint64_t disk = 0;
    std::uint64_t root = 0;
    bool nat = false;
    std::string backend;
    std::string network;
    std::string storage;
    std::optional<std::string> address;
    std::optional<SshEndpoint> ssh;
    std::optional<std::int64_t> pid;
    std::int64_t created_at = 0;
    std::optional<std::int64_t> started_at;
    std::optional<Workspace> workspace;
};

struct Timing {
    std::string stage;
    std::uint64_t milliseconds = 0;
};

struct Probe {
    std::string name;
    bool ok = false;
    std::string detail;
};

struct VmRequest {
    std::optional<std::string> name;
    std::optional<std::string> image;
    std::optional<std::uint32_t> vcpus;
    std::optional<std::uint64_t> memory;
    std::optional<std::uint64_t> disk;
    std::optional<std::uint64_t> root;
    std::optional<bool> nat;
    std::optional<std::string> backend;
    std::optional<std::string> network;
    std::optional<std::string> storage;
    std::vector<std::string> authorized_keys;
};

struct PlanVm {
    VmRequest request;
};
struct PlanVmReply {
    Plan plan;
};

struct CreateVm {
    VmRequest request;
    bool start = true;
};
/// Also of Start.
struct CreateVmReply {
    std::optional<Progress> progress;
    std::optional<Vm> vm;
    std::optional<std::vector<Timing>> timings;
};

struct ListVms {};
struct ListVmsReply {
    std::vector<Vm> vms;
};

/// The parameters of Show, Start, Stop and Ports.
struct NamedVm {
    std::string vm;
};
/// The reply of Show, Kill and SetWorkspace.
struct VmReply {
    Vm vm;
};

struct StopVmReply {
    std::optional<Progress> progress;
    std::optional<Vm> vm;
    std::optional<bool> was_forced;
};

struct DeleteVmReply {
    std::optional<Progress> progress;
    std::optional<Vm> vm;
};

struct KillVm {
    std::string vm;
    std::optional<std::string> signal;
};

struct SetVm {
    std::string vm;
    std::optional<std::uint32_t> vcpus;
    std::optional<std::uint64_t> memory;
    std::optional<std::uint64_t> disk;
    std::optional<bool> nat;
};
struct SetVmReply {
    Vm vm;
    std::vector<std::string> pending;
};

struct FileSystem {
    std::uint64_t size = 0;
    std::uint64_t used = 0;
};

struct GuestStats {
    std::uint32_t cpus = 0;
    std::uint64_t cpu_busy_ms = 0;
    std::uint64_t cpu_idle_ms = 0;
    double load = 0;
    std::uint64_t memory = 0;
    std::uint64_t memory_available = 0;
    FileSystem root;
    FileSystem work;
};

struct DiskUsage {
    std::string role;
    std::uint64_t size = 0;
    std::uint64_t allocated = 0;
    std::optional<std::uint64_t> headroom;
};

struct StatsOfVm {
    std::string id;
    std::string name;
    std::string state;
    std::optional<GuestStats> guest;
    std::string reason;
    std::optional<std::uint64_t> vmm_memory;
    std::optional<std::uint64_t> vmm_cpu_ms;
    std::vector<DiskUsage> disks;
    std::uint64_t sampled_at_ms = 0;
};
struct StatsOfVmReply {
    StatsOfVm stats;
};

struct Port {
    std::string protocol;
    std::string address;
    std::uint16_t port = 0;
    std::string process;
    std::optional<std::string> endpoint;
    std::string note;
};
struct PortsOfVmReply {
    std::string id;
    std::string name;
    std::vector<Port> ports;
};

struct DeleteVm {
    std::string vm;
    bool force = false;
};

struct SetWorkspace {
    std::string vm;
    std::optional<Workspace> workspace;
};

struct HealthOfVm {
    std::string vm;
    bool wait = false;
};
struct HealthOfVmReply {
    bool is_ready = false;
    std::vector<Probe> probes;
    std::string boot_id;
    std::string failure;
};

struct LogsOfVm {
    std::string vm;
    bool follow = false;
};
struct LogsOfVmReply {
    std::string data;
};

}  // namespace banger::protocol

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "banger/network.hpp"
#include "banger/result.hpp"
#include "banger/storage.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

namespace banger {

/// What a back end can do on this host. Core asks before it makes anything.
struct BackendCapabilities {
    std::vector<LinkKind> links;
    std::vector<DiskFormat> disk_formats;  ///< best first
    bool vsock = false;
    bool pause = false;
    bool snapshots = false;
    /// Guests run on the CPU itself (KVM). When false, `acceleration_note` is the sentence that
    /// says why and what it costs; the CLI shows it.
    bool hardware_accelerated = false;
    std::string acceleration_note;
    std::uint32_t max_vcpus = 0;
    friend bool operator==(const BackendCapabilities&, const BackendCapabilities&) = default;
};

struct Disk {
    std::string path;
    DiskFormat format = DiskFormat::raw;
    bool read_only = false;
    /// Virtio-blk serial: how the guest's init tells disks apart ("root", "work", "modules"). At
    /// most 20 bytes (virtio 1.2, section 5.2.6).
    std::string serial;
    friend bool operator==(const Disk&, const Disk&) = default;
};

struct MachineSpec {
    VmId vm;
    VmName name;  ///< shown in the process list only
    std::uint32_t vcpus = 0;
    ByteCount memory;
    /// Open files, readable; borrowed for the length of the call. The kernel is an ELF vmlinux.
    int kernel_fd = -1;
    int initramfs_fd = -1;
    std::string command_line;
    std::vector<Disk> disks;  ///< in this order
    NetworkLink link;
    /// The console file is bounded: past this the oldest output goes.
    ByteCount console_limit = ByteCount::mib(4);
};

/// A machine that was started. A plain value that core stores: the process outlives the daemon.
struct VmProcess {
    VmId vm;
    ProcessId process;  ///< of the VMM
    std::string
        backend_state;  ///< the plugin's own note to find it again; core hands it back unread
    friend bool operator==(const VmProcess&, const VmProcess&) = default;
};

/// Optional half of VmBackend. Same threads and errors.
class VmPausing {
public:
    virtual ~VmPausing() = default;
    /// Idempotent both ways. Errc::not_found when the machine is not running.
    virtual Result<void> pause(const VmProcess& vm, std::stop_token stop) = 0;
    virtual Result<void> resume(const VmProcess& vm, std::stop_token stop) = 0;
};

/// Optional half of VmBackend: memory and device state to files and back. Same threads and errors.
class VmSnapshots {
public:
    virtual ~VmSnapshots() = default;
    /// The machine is paused and stays so. `sink` gets everything; all or nothing is up to the
    /// caller, who renames the file when this succeeded.
    virtual Result<void> save(const VmProcess& vm, const UniqueFd& sink, std::stop_token stop) = 0;
    /// Like VmBackend::start(), but from what save() wrote with an equal spec; the machine is
    /// paused.
    virtual Result<VmProcess> restore(const MachineSpec& spec, const UniqueFd& source,
                                      std::stop_token stop) = 0;
};

/// Runs machines.
///
/// Core calls every method from a worker thread: one call at a time for one machine, many at once
/// for different ones. Methods may block; those given a stop_token return Errc::cancelled soon
/// after it is triggered. kill() cannot be cancelled. None throws.
///
/// The VMM is never a child that dies with the daemon: it has a session of its own, no inherited
/// descriptors, and gets no signal that the daemon gets. Core watches it through a pidfd that it
/// opens from VmProcess::process.
class VmBackend {
public:
    virtual ~VmBackend() = default;
    /// Looks at the host as it is now; may block for a moment, changes nothing. Errc::unavailable
    /// with the remedy when the VMM is not installed.
    virtual Result<BackendCapabilities> capabilities() = 0;
    /// Returns when the VMM runs the guest's first instruction, not when the guest is up. All or
    /// nothing: on failure no process and no file is left. A machine that runs already is
    /// Errc::wrong_state. An error carries the last lines the VMM wrote.
    virtual Result<VmProcess> start(const MachineSpec& spec, std::stop_token stop) = 0;
    /// Ends the process now, without asking the guest, and removes what start() left beside it
    /// (sockets, marks; not the console). Returns when the process is gone. Succeeds when it
    /// already is. The clean way down is the agent's: core asks the guest to sync and power off,
    /// waits on the pidfd, and calls this in the end in any case.
    virtual Result<void> kill(const VmProcess& vm) = 0;
    /// Forgets everything kept for the machine, the console too. It is not running. Succeeds when
    /// there is nothing.
    virtual Result<void> remove(const VmId& vm) = 0;
    /// The serial console so far and from now on: a readable descriptor of a file that the VMM
    /// appends to. Guest-controlled bytes. Errc::not_found before the first start.
    virtual Result<UniqueFd> console(const VmId& vm) = 0;
    /// A connected stream socket to the guest's agent, which may answer much later. Errc::busy when
    /// the one channel is taken, not_found when the machine is not running; Errc::unreachable when
    /// nobody in the guest listens yet, which only a vsock can tell: ask again.
    virtual Result<UniqueFd> connect_agent(const VmProcess& vm) = 0;
    /// Called once, before anything else, with every machine core believes to run. Adopts those
    /// that do, ends the plugin's own leftovers that core does not know, and returns those that are
    /// gone.
    virtual Result<std::vector<VmId>> recover(std::span<const VmProcess> remembered) = 0;
    /// The optional halves, or null. Owned by the plugin.
    virtual VmPausing* pausing() = 0;
    virtual VmSnapshots* snapshots() = 0;
    /// Rows for `banger doctor`. Changes nothing.
    virtual std::vector<Check> checks(std::stop_token stop) = 0;
};

}  // namespace banger

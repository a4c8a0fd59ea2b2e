#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"
#include "plugins/vmm-firecracker/host_parts.hpp"
#include "plugins/vmm-firecracker/programs.hpp"

namespace banger::firecracker {

/// A Firecracker to start.
struct Launch {
    VmId vm;
    VmName name;
    Programs programs;
    std::string jail_base;
    std::string jail_root;  ///< JAIL_BASE/PROGRAM/ID/root, filled
    std::uint32_t uid = 0;
    ByteCount memory;  ///< of the guest
    std::uint32_t vcpus = 1;
    std::vector<DeviceNumber> disks;
    bool is_restored = false;  ///< it waits to be told of a snapshot, and builds nothing itself
    int console = -1;          ///< standard output: the guest's serial port. Borrowed.
    int complaints = -1;       ///< standard error. Borrowed.
};

/// Runs VMMs so that they outlive this process and can do nothing but run their guest. Any thread;
/// one call at a time for one machine.
class Launcher {
public:
    virtual ~Launcher() = default;
    /// Returns once the program runs; it is Firecracker, or jailer that becomes it.
    virtual Result<ProcessId> start(const Launch& launch, std::stop_token stop) = 0;
    /// Kills whatever runs for the machine, also what start() never got to tell of, and returns
    /// when it is gone. Succeeds when nothing does.
    virtual Result<void> end(const VmId& vm) = 0;
    /// A row for doctor.
    virtual Check check() = 0;
};

}  // namespace banger::firecracker

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger::qemu {

/// Where one machine's things lie: marks of the running one below the run folder (gone after a
/// reboot of the host, as the process is), what stays below the state folder.
struct MachinePaths {
    MachinePaths(const Host& host, const VmId& vm);
    std::string run_folder;
    std::string record;  ///< the note that start() writes before it makes anything
    std::string qmp_socket;
    std::string agent_socket;
    std::string state_folder;
    std::string console;
    std::string complaints;  ///< what QEMU wrote to standard error
};

/// The note. Written before QEMU is spawned, and again with its identity after: a daemon that dies
/// in between leaves a record without a process, and QEMU is then found by its QMP socket, on which
/// it has listened from its first moment.
struct MachineRecord {
    VmId vm;
    std::optional<ProcessId> process;
    ByteCount console_limit;
    friend bool operator==(const MachineRecord&, const MachineRecord&) = default;
};

std::string format_record(const MachineRecord& record);
/// Errc::corrupt for anything else than format_record() writes.
Result<MachineRecord> parse_record(std::string_view text);

Result<void> write_record(const MachinePaths& paths, const MachineRecord& record);
/// Errc::not_found when the machine has none.
Result<MachineRecord> read_record(const MachinePaths& paths);

/// The machines that have a run folder, or a state folder, of this plugin.
Result<std::vector<VmId>> machines_in(const std::string& folder);

}  // namespace banger::qemu

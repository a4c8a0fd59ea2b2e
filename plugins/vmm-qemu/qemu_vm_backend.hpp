#pragma once

#include <memory>
#include <string>

#include "banger/host.hpp"
#include "banger/vm_backend.hpp"
#include "core/base/console_file.hpp"
#include "plugins/vmm-qemu/machine_folder.hpp"

namespace banger::qemu {

/// Machines as qemu-system-x86_64 processes of the daemon's own user. README.md says which machine
/// QEMU builds and why.
///
/// Keeps no table of machines: each call looks at the records in the run folder and at the
/// processes, so a new instance knows what the old one knew.
class QemuVmBackend final : public VmBackend, private VmPausing {
public:
    explicit QemuVmBackend(Host& host) : host_(host) {}

    Result<BackendCapabilities> capabilities() override;
    Result<VmProcess> start(const MachineSpec& spec, std::stop_token stop) override;
    Result<void> kill(const VmProcess& vm) override;
    Result<void> remove(const VmId& vm) override;
    Result<UniqueFd> console(const VmId& vm) override;
    Result<UniqueFd> connect_agent(const VmProcess& vm) override;
    Result<std::vector<VmId>> recover(std::span<const VmProcess> remembered) override;
    VmPausing* pausing() override { return this; }
    VmSnapshots* snapshots() override { return nullptr; }
    std::vector<Check> checks(std::stop_token stop) override;

private:
    Result<void> pause(const VmProcess& vm, std::stop_token stop) override;
    Result<void> resume(const VmProcess& vm, std::stop_token stop) override;

    Result<std::string> program() const;
    Check check_binary(std::stop_token stop) const;
    Result<VmProcess> launch(const MachineSpec& spec, const MachinePaths& paths,
                             std::stop_token stop);
    /// Ends whatever runs for the machine and takes its run folder away.
    Result<void> end(const MachinePaths& paths);
    Result<void> command(const VmProcess& vm, std::string_view name, std::stop_token stop);

    Host& host_;
    ConsoleWatcher watcher_;
};

}  // namespace banger::qemu

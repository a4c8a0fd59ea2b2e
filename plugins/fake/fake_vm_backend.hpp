#pragma once

#include <string>

#include "banger/vm_backend.hpp"
#include "failpoints.hpp"

namespace banger {

/// Machines that are processes: each `fake-vmm` has a session of its own, outlives the daemon,
/// writes a console and speaks the guest agent's protocol.
///
/// `RUN/ID/` holds what lives as long as the process: its socket, and the file `process` with pid
/// and start time, which the process itself writes before it says that it is ready. `STATE/ID.log`
/// is the console. Nothing is kept in memory.
class FakeVmBackend final : public VmBackend, private VmPausing {
public:
    /// The folders exist; `program` is the absolute path of fake-vmm.
    FakeVmBackend(std::string run_folder, std::string state_folder, std::string program,
                  Failpoints& failpoints)
        : run_(std::move(run_folder)),
          state_(std::move(state_folder)),
          program_(std::move(program)),
          failpoints_(failpoints) {}

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
    [[nodiscard]] std::string folder_of(const std::string& vm) const { return run_ + "/" + vm; }
    [[nodiscard]] std::string console_of(const VmId& vm) const {
        return state_ + "/" + vm.str() + ".log";
    }
    /// The process that the machine's folder names, if it runs.
    [[nodiscard]] std::optional<ProcessId> running(const std::string& vm) const;
    [[nodiscard]] Result<void> check_spec(const MachineSpec& spec) const;
    Result<ProcessId> launch(const MachineSpec& spec, std::stop_token stop);
    static Result<void> signal(const VmProcess& vm, int number);

    const std::string run_;
    const std::string state_;
    const std::string program_;
    Failpoints& failpoints_;
};

}  // namespace banger

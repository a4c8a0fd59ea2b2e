#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "banger/host.hpp"
#include "banger/vm_backend.hpp"
#include "core/base/console_file.hpp"
#include "core/base/kvm.hpp"
#include "core/base/ledger.hpp"
#include "plugins/vmm-firecracker/api.hpp"
#include "plugins/vmm-firecracker/host_parts.hpp"
#include "plugins/vmm-firecracker/jail.hpp"
#include "plugins/vmm-firecracker/launcher.hpp"
#include "plugins/vmm-firecracker/programs.hpp"
#include "plugins/vmm-firecracker/record.hpp"

namespace banger {

/// Machines as Firecracker processes, each in a jail, as a user of its own; for the root helper.
/// README.md says what a machine is and what is in force.
///
///     RUN/ID                          ledger entry (record.hpp), as long as the VMM may run
///     STATE/jail/PROGRAM/ID/root      Firecracker's "/"
///     STATE/vm/ID/console.log         what the guest wrote, until remove()
///
/// Nothing is kept in memory that a new instance would miss. What a caller says of a process is
/// only compared with the ledger: a machine's process is the ledger's.
class FirecrackerVmBackend final : public VmBackend, private VmPausing, private VmSnapshots {
public:
    struct Options {
        /// Root's in the helper; for tests another.
        std::uint32_t trusted_uid = 0;
        /// For tests: every machine runs as this one.
        std::optional<std::uint32_t> only_uid = std::nullopt;
        std::function<Acceleration()> probe_kvm = [] { return banger::probe_kvm(); };
        /// From the start of the program to the guest's first instruction.
        std::chrono::milliseconds start_deadline{30'000};
        /// For one exchange over the API.
        std::chrono::milliseconds api_deadline{5'000};
        /// For writing all of a guest's memory to a file, and for mapping it from one.
        std::chrono::milliseconds snapshot_deadline{50'000};
        /// How long connect_agent() waits for a guest that does not listen yet.
        std::chrono::milliseconds agent_deadline{1'000};
    };

    /// Everything given must outlive the object.
    static Result<std::unique_ptr<FirecrackerVmBackend>> open(Host& host,
                                                              firecracker::HostParts& parts,
                                                              firecracker::Launcher& launcher,
                                                              Options options);

    Result<BackendCapabilities> capabilities() override;
    Result<VmProcess> start(const MachineSpec& spec, std::stop_token stop) override;
    Result<void> kill(const VmProcess& vm) override;
    Result<void> remove(const VmId& vm) override;
    Result<UniqueFd> console(const VmId& vm) override;
    Result<UniqueFd> connect_agent(const VmProcess& vm) override;
    Result<std::vector<VmId>> recover(std::span<const VmProcess> remembered) override;
    VmPausing* pausing() override { return this; }
    VmSnapshots* snapshots() override { return this; }
    std::vector<Check> checks(std::stop_token stop) override;

private:
    FirecrackerVmBackend(Host& host, firecracker::HostParts& parts, firecracker::Launcher& launcher,
                         Options options, Ledger ledger, firecracker::KernelCopies kernels)
        : host_(host),
          parts_(parts),
          launcher_(launcher),
          options_(std::move(options)),
          programs_(options_.trusted_uid),
          ledger_(std::move(ledger)),
          kernels_(std::move(kernels)) {}

    Result<void> pause(const VmProcess& vm, std::stop_token stop) override;
    Result<void> resume(const VmProcess& vm, std::stop_token stop) override;
    Result<void> set_paused(const VmProcess& vm, bool is_paused, std::stop_token stop);
    Result<void> save(const VmProcess& vm, const UniqueFd& sink, std::stop_token stop) override;
    Result<VmProcess> restore(const MachineSpec& spec, const UniqueFd& source,
                              std::stop_token stop) override;
    /// start(), or restore() when there is a snapshot.
    Result<VmProcess> begin(const MachineSpec& spec,
                            const std::optional<firecracker::SnapshotSource>& snapshot,
                            std::stop_token stop);

    /// Nothing when there is no entry.
    Result<std::optional<firecracker::Record>> record_of(const VmId& vm) const;
    /// The record of a machine that runs as this very process. Errc::not_found.
    Result<firecracker::Record> running(const VmProcess& vm) const;
    /// Picks a user that no machine has, and writes the entry.
    Result<firecracker::Record> reserve(const MachineSpec& spec,
                                        const firecracker::Programs& programs);
    Result<VmProcess> launch(const MachineSpec& spec, const firecracker::Programs& programs,
                             const std::optional<firecracker::SnapshotSource>& snapshot,
                             firecracker::Record record, std::stop_token stop);
    /// Returns when Firecracker says that it is that far.
    Result<void> wait_until(firecracker::InstanceState wanted, const firecracker::JailPaths& paths,
                            const firecracker::Record& record, const UniqueFd& pidfd,
                            std::stop_token stop);
    /// The machine's description for Firecracker.
    [[nodiscard]] std::string config_of(const MachineSpec& spec) const;
    /// Ends whatever runs for the machine and removes its jail and its entry.
    Result<void> end(const VmId& vm);
    [[nodiscard]] std::uint32_t number_setting(std::string_view key) const;
    [[nodiscard]] std::uint32_t owner_uid() const { return number_setting("owner_uid"); }
    [[nodiscard]] Error explained(Error why, const firecracker::JailPaths& paths) const;

    Host& host_;
    firecracker::HostParts& parts_;
    firecracker::Launcher& launcher_;
    const Options options_;
    firecracker::ProgramFinder programs_;
    Ledger ledger_;
    const firecracker::KernelCopies kernels_;
    std::mutex users_;  ///< of picking one
    ConsoleWatcher watcher_;
};

}  // namespace banger

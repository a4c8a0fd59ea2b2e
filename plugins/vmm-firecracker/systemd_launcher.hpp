#pragma once

#include <string>

#include "plugins/vmm-firecracker/launcher.hpp"

namespace banger::firecracker {

/// Each VMM as a transient service of systemd (banger.slice): it is systemd that starts it, so
/// nothing of the helper is inherited, neither its sandbox nor its life, and the helper needs none
/// of the privileges that confining takes.
class SystemdLauncher final : public Launcher {
public:
    /// `bus` is the address of the bus that systemd is on; empty: the system bus. For tests.
    explicit SystemdLauncher(std::string bus = {}) : bus_(std::move(bus)) {}
    Result<ProcessId> start(const Launch& launch, std::stop_token stop) override;
    Result<void> end(const VmId& vm) override;
    Check check() override;

private:
    const std::string bus_;
};

}  // namespace banger::firecracker

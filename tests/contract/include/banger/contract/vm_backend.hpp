#pragma once

#include "banger/contract/subject.hpp"
#include "banger/contract/suite.hpp"
#include "banger/vm_backend.hpp"

namespace banger::contract {

BANGER_CONTRACT_SUITE(vm_backend);

/// `exists()` counts the VMM processes too. `lose()` kills the VMM as the kernel's OOM killer
/// would.
class VmBackendSubject : public Subject<VmBackend> {
public:
    /// The smallest machine that starts here. The subject owns the descriptors in it.
    virtual MachineSpec spec(const VmId& vm, const VmName& name) = 0;
};

class VmBackendContract : public Suite<VmBackendSubject> {
protected:
    MachineSpec spec(std::size_t i = 0);
    /// Starts a machine that ends with the test, whatever happens.
    Result<VmProcess> start(const MachineSpec& spec, std::stop_token stop = {});
    void TearDown() override;

private:
    std::vector<VmProcess> started_;
};

}  // namespace banger::contract

#pragma once

#include <string>
#include <vector>

#include "core/config/config.hpp"

namespace banger {

/// What the default back end depends on.
struct BackendFacts {
    /// Where a firecracker may lie that no key names.
    std::vector<std::string> firecracker_places = {"/usr/local/bin/firecracker",
                                                   "/usr/bin/firecracker"};
    bool has_kvm = false;
    /// Of this host: looks at the CPU's flags and at /dev/kvm, and opens nothing.
    static BackendFacts of_host();
};

/// In system mode the back end that nobody chose becomes vmm-firecracker where there are root's own
/// firecracker and KVM, and stays vmm-qemu elsewhere; its source says which it was and why.
void choose_default_backend(Config& config, const BackendFacts& facts);

}  // namespace banger

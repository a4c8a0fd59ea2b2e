#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/base/firecracker_program.hpp"
#include "core/config/config.hpp"

namespace banger {

/// What the default back end depends on.
struct BackendFacts {
    /// Of the program at a path; called only where it matters.
    std::function<Result<firecracker::Program>(const std::string&)> ask;
    bool has_kvm = false;
    /// Of this host: looks at the CPU's flags and at /dev/kvm, and opens nothing; what it asks, it
    /// runs, as the caller, when it is root's alone.
    static BackendFacts of_host();
};

/// In system mode the back end that nobody chose becomes vmm-firecracker where there are a usable
/// firecracker and KVM, and stays vmm-qemu elsewhere; its source says which it was and why.
void choose_default_backend(Config& config, const BackendFacts& facts);

/// A row for doctor and for whoever installs: a warning with the remedy where system mode falls
/// back to vmm-qemu. Nothing where somebody chose, and in user mode.
std::optional<Check> default_backend_check(const Config& config);

}  // namespace banger

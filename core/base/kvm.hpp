#pragma once

#include <string>
#include <string_view>

namespace banger {

/// Whether guests can run on this CPU itself.
struct Acceleration {
    bool is_usable = false;
    std::string reason;  ///< why not, as half a sentence: "the CPU shows neither vmx nor svm"
    std::string remedy;  ///< what the owner can do about it
};

/// Looks at the CPU's flags, opens the device and makes a trial virtual machine, which is freed at
/// once. The flags come first: a para-virtual KVM exists that has the device, on which a stock
/// kernel hangs. Blocks for a moment. `cpuinfo` is the text of /proc/cpuinfo.
Acceleration probe_kvm(std::string_view cpuinfo, const std::string& device);
Acceleration probe_kvm();

/// The first processor's part of /proc/cpuinfo, at least: the whole file of a large host takes long
/// to make.
std::string cpuinfo_of_host();

/// Whether the first processor in /proc/cpuinfo has hardware virtualisation (proc_cpuinfo(5)).
bool has_virtualisation_flag(std::string_view cpuinfo);

}  // namespace banger

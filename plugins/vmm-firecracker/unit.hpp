#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "plugins/vmm-firecracker/launcher.hpp"

/// What systemd is told of a machine: a transient service. Pure: values out of values.
namespace banger::firecracker {

struct Descriptor {
    int fd = -1;
};
struct Executable {
    std::string path;
    std::vector<std::string> arguments;  ///< with argv[0]
};
using Pairs = std::vector<std::pair<std::string, std::string>>;
struct Binds {
    Pairs places;  ///< source, destination
};
using Words = std::vector<std::string>;

struct Property {
    std::string name;  ///< as in org.freedesktop.systemd1(5)
    std::variant<std::string, bool, std::uint64_t, Words, Pairs, Binds, Descriptor, Executable>
        value;
};

/// "banger-vm-ID.service".
std::string unit_name(const VmId& vm);

/// The guest's memory and what Firecracker and the kernel need for it: no accounting, a net under a
/// VMM that runs wild.
ByteCount memory_limit(ByteCount guest);

/// Firecracker's own arguments, with or without jailer.
std::vector<std::string> firecracker_arguments(bool is_restored);

/// What the way without jailer has to know of the host.
struct OwnJail {
    std::string chroot;         ///< chroot(1)
    std::uint32_t kvm_gid = 0;  ///< group of /dev/kvm
};

/// With jailer it does the confining, as root with the capabilities that takes and no more, and
/// becomes Firecracker without any. Without, systemd lays the jail out and chroot(1) does the rest:
/// User= takes no number that is nobody's account.
std::vector<Property> unit_properties(const Launch& launch, const OwnJail& own);

}  // namespace banger::firecracker

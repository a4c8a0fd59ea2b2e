#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "banger/plugin.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger::root {

/// How much the owner may have at once.
struct Limits {
    std::size_t links = 256;
    std::size_t volumes = 512;
    std::size_t records = 256;
    std::size_t forwards = 64;  ///< of one link
    ByteCount volume = ByteCount::gib(16 * 1024);
    std::size_t machines = 256;
    std::size_t disks = 8;  ///< of one machine
    std::uint32_t vcpus = 256;
    ByteCount memory = ByteCount::gib(4 * 1024);
    ByteCount console = ByteCount::mib(64);
};

/// Stands in front of one plugin: between what was decoded and what is done.
///
/// - `owner_uid` of a request must be the owner's: Errc::permission_denied.
/// - Sizes and counts are bounded (Limits): Errc::invalid_argument, no_space.
/// - Texts that no type has checked (a device, a path, a zone, a kernel's command line) are short,
///   plain and begin with no hyphen. A disk's path is for its plugin to judge.
/// - The plugin gets what its header promises, whoever calls: one call at a time for one machine,
///   and recover() alone.
///
/// What exists is counted by what the plugin said in this process and, after recover(), by what it
/// adopted. A plugin restarted with its helper adopts by its own ledger, which this does not see:
/// until bangerd's next recover() the count may be too low.
class Policy {
public:
    /// Errc::unsupported for a plugin with a role that has no policy here (image-source): nothing
    /// is served that was not thought through. The roles must outlive it.
    static Result<std::unique_ptr<Policy>> make(const Roles& inner, uid_t owner, Limits limits);
    virtual ~Policy() = default;
    /// The guarded roles.
    [[nodiscard]] virtual Roles roles() = 0;
};

}  // namespace banger::root

#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

namespace banger::firecracker {

/// Kernels that were copied into a jail, for the next jail. A kernel has 50 MB and more, and every
/// machine of an owner usually has the same: a link costs nothing. The copies are root's and
/// nobody may write to them, so machines can share one.
///
/// A copy is found again by what tells one file's content from another's without reading it: owner
/// of the machines, device, inode, size, times of change. An owner who manages to fake these
/// gets another kernel of his own. Any thread.
class KernelCopies {
public:
    /// Below a folder of root's alone, on the file system of the jails. Removes what is not from
    /// since this start of the host: a copy may not have reached the disk before that.
    static Result<KernelCopies> open(std::string folder);

    /// The name of the copy of the file that `status` is of.
    [[nodiscard]] std::string name_of(const struct stat& status, std::uint32_t owner_uid) const;
    /// Links the copy into the jail; false when there is none.
    Result<bool> take(const std::string& name, const UniqueFd& jail, std::string_view as) const;
    /// Keeps the file of the jail as a copy. One that is there already stays; of those that others
    /// use no more, few stay.
    Result<void> keep(const std::string& name, const UniqueFd& jail, std::string_view file) const;

private:
    KernelCopies(std::string folder, std::string boot)
        : folder_(std::move(folder)), boot_(std::move(boot)) {}

    std::string folder_;
    std::string boot_;  ///< of the host
};

}  // namespace banger::firecracker

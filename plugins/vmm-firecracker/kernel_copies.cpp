#include "plugins/vmm-firecracker/kernel_copies.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "core/base/file.hpp"

namespace banger::firecracker {

namespace {

constexpr std::size_t most_copies = 4;

std::string text_of(const timespec& time) {
    return std::to_string(time.tv_sec) + "." + std::to_string(time.tv_nsec);
}

}  // namespace

Result<KernelCopies> KernelCopies::open(std::string folder) {
    std::string boot =
        BANGER_TRY(read_file("/proc/sys/kernel/random/boot_id", ByteCount::bytes(64)));
    boot.resize(std::min(boot.find('\n'), boot.size()));
    BANGER_TRY(ensure_folder(folder, 0700));
    for (const std::string& name : BANGER_TRY(list_folder(folder)))
        if (!name.starts_with(boot + "_")) BANGER_TRY(remove_file(folder + "/" + name));
    return KernelCopies(std::move(folder), std::move(boot));
}

std::string KernelCopies::name_of(const struct stat& status, std::uint32_t owner_uid) const {
    return boot_ + "_" + std::to_string(owner_uid) + "_" + std::to_string(status.st_dev) + "_" +
           std::to_string(status.st_ino) + "_" + std::to_string(status.st_size) + "_" +
           text_of(status.st_mtim) + "_" + text_of(status.st_ctim);
}

Result<bool> KernelCopies::take(const std::string& name, const UniqueFd& jail,
                                std::string_view as) const {
    if (::linkat(AT_FDCWD, (folder_ + "/" + name).c_str(), jail.get(), std::string(as).c_str(),
                 0) == 0)
        return true;
    // A file has only so many names.
    if (errno == ENOENT || errno == EMLINK) return false;
    return Error::from_errno(errno, "taking a kernel for the jail");
}

Result<void> KernelCopies::keep(const std::string& name, const UniqueFd& jail,
                                std::string_view file) const {
    const std::vector<std::string> kept = BANGER_TRY(list_folder(folder_));
    if (kept.size() >= most_copies)
        for (const std::string& former : kept)
            BANGER_TRY(remove_file(folder_ + "/" + former));
    if (::linkat(jail.get(), std::string(file).c_str(), AT_FDCWD, (folder_ + "/" + name).c_str(),
                 0) == 0 ||
        errno == EEXIST)
        return ok();
    return Error::from_errno(errno, "keeping a kernel for the next machine");
}

}  // namespace banger::firecracker

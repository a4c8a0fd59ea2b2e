#include "core/plugin_host/landlock.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "banger/unique_fd.hpp"

namespace banger::plugin_host {

namespace {

// linux/landlock.h, with what came after version 1 (the version stands behind it).
constexpr std::uint64_t fs_execute = 1U << 0;
constexpr std::uint64_t fs_write_file = 1U << 1;
constexpr std::uint64_t fs_read_file = 1U << 2;
constexpr std::uint64_t fs_read_dir = 1U << 3;
constexpr std::uint64_t fs_remove_dir = 1U << 4;
constexpr std::uint64_t fs_remove_file = 1U << 5;
constexpr std::uint64_t fs_make_dir = 1U << 7;
constexpr std::uint64_t fs_make_reg = 1U << 8;
constexpr std::uint64_t fs_make_fifo = 1U << 10;
constexpr std::uint64_t fs_refer = 1U << 13;       // 2
constexpr std::uint64_t fs_truncate = 1U << 14;    // 3
constexpr std::uint64_t fs_ioctl_dev = 1U << 15;   // 5
constexpr std::uint64_t net_bind_and_connect = 3;  // 4
constexpr std::uint64_t scope_all = 3;             // 6: abstract sockets, signals
constexpr std::uint32_t create_version = 1;
constexpr int rule_path_beneath = 1;

struct RulesetAttributes {
    std::uint64_t handled_fs = 0;
    std::uint64_t handled_net = 0;  // 4
    std::uint64_t scoped = 0;       // 6
};

struct __attribute__((packed)) PathAttributes {
    std::uint64_t allowed = 0;
    std::int32_t parent_fd = -1;
};

/// All file rights that a version knows: what is not handled stays allowed.
std::uint64_t known_to(int version) {
    std::uint64_t all = (1U << 13) - 1;
    if (version >= 2) all |= fs_refer;
    if (version >= 3) all |= fs_truncate;
    if (version >= 5) all |= fs_ioctl_dev;
    return all;
}

std::size_t size_for(int version) {
    if (version >= 6) return sizeof(RulesetAttributes);
    return version >= 4 ? offsetof(RulesetAttributes, scoped)
                        : offsetof(RulesetAttributes, handled_net);
}

constexpr std::uint64_t to_read = fs_read_file | fs_read_dir;
constexpr std::uint64_t to_run = to_read | fs_execute;
constexpr std::uint64_t to_write = to_read | fs_write_file | fs_remove_dir | fs_remove_file |
                                   fs_make_dir | fs_make_reg | fs_make_fifo | fs_refer |
                                   fs_truncate;
/// Of those, the ones that make sense for a file that is no folder: others are refused for it.
constexpr std::uint64_t of_files =
    fs_execute | fs_write_file | fs_read_file | fs_truncate | fs_ioctl_dev;

class Ruleset {
public:
    Ruleset(UniqueFd fd, std::uint64_t handled) : fd_(std::move(fd)), handled_(handled) {}

    [[nodiscard]] Result<void> allow(int fd, std::uint64_t rights) const {
        struct stat status {};
        if (::fstat(fd, &status) != 0) return Error::from_errno(errno, "fstat");
        PathAttributes attributes;
        attributes.allowed = rights & handled_;
        if (!S_ISDIR(status.st_mode)) attributes.allowed &= of_files;
        attributes.parent_fd = fd;
        if (::syscall(SYS_landlock_add_rule, fd_.get(), rule_path_beneath, &attributes, 0) != 0)
            return Error::from_errno(errno, "landlock_add_rule");
        return ok();
    }
    [[nodiscard]] Result<void> allow(const std::vector<std::string>& paths,
                                     std::uint64_t rights) const {
        for (const std::string& path : paths) {
            const UniqueFd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
            if (!fd) continue;
            BANGER_TRY(allow(fd.get(), rights).context("opening " + path + " to the plugin"));
        }
        return ok();
    }
    [[nodiscard]] Result<void> enforce() const {
        if (::syscall(SYS_landlock_restrict_self, fd_.get(), 0) != 0)
            return Error::from_errno(errno, "landlock_restrict_self");
        return ok();
    }

private:
    UniqueFd fd_;
    std::uint64_t handled_;
};

}  // namespace

int landlock_version() {
    const long version =
        ::syscall(SYS_landlock_create_ruleset, nullptr, std::size_t{0}, create_version);
    return version > 0 ? static_cast<int>(version) : 0;
}

Result<void> restrict_files(const FileRights& rights) {
    const int version = landlock_version();
    if (version == 0) return ok();
    RulesetAttributes attributes;
    attributes.handled_fs = known_to(version);
    if (version >= 4) attributes.handled_net = net_bind_and_connect;
    if (version >= 6) attributes.scoped = scope_all;
    UniqueFd fd(static_cast<int>(
        ::syscall(SYS_landlock_create_ruleset, &attributes, size_for(version), 0)));
    if (!fd) return Error::from_errno(errno, "landlock_create_ruleset");
    const Ruleset ruleset(std::move(fd), attributes.handled_fs);
    BANGER_TRY(ruleset.allow(rights.programs, to_run));
    BANGER_TRY(ruleset.allow(rights.read, to_read));
    BANGER_TRY(ruleset.allow(rights.devices, fs_read_file | fs_write_file));
    BANGER_TRY(ruleset.allow(rights.write, to_write));
    for (const int file : rights.plugin_files)
        BANGER_TRY(ruleset.allow(file, fs_read_file | fs_execute));
    return ruleset.enforce();
}

}  // namespace banger::plugin_host

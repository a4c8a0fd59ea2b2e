#include "daemons/plugin-host/confine.hpp"

#include <dirent.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>

#include "core/plugin_host/landlock.hpp"

namespace banger::plugin_host {

namespace {

constexpr rlim_t most_files = 256;

Result<void> limit(int resource, rlim_t value, const char* what) {
    rlimit present{};
    ::getrlimit(static_cast<__rlimit_resource>(resource), &present);
    // A lower one of our own stays: raising it needs rights.
    const rlim_t bound = std::min(value, present.rlim_max);
    const rlimit wanted{bound, bound};
    if (::setrlimit(static_cast<__rlimit_resource>(resource), &wanted) == 0) return ok();
    return Error::from_errno(errno, std::string("limiting ") + what);
}

Result<void> limit_resources(ByteCount memory) {
    // The sanitizers reserve terabytes.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    BANGER_TRY(limit(RLIMIT_AS, memory.count(), "memory"));
#else
    static_cast<void>(memory);
#endif
    BANGER_TRY(limit(RLIMIT_NOFILE, most_files, "open files"));
    BANGER_TRY(limit(RLIMIT_CORE, 0, "core dumps"));
    BANGER_TRY(limit(RLIMIT_MEMLOCK, 0, "locked memory"));
    return limit(RLIMIT_MSGQUEUE, 0, "message queues");
}

/// Of a root that runs the tests, say: the owner has none.
Result<void> drop_capabilities() {
    for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability) >= 0; ++capability)
        ::prctl(PR_CAPBSET_DROP, capability);  // without the right to, there is nothing to drop
    ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> held{};
    if (::syscall(SYS_capget, &header, held.data()) == 0 && (held[0].permitted == 0) &&
        (held[1].permitted == 0))
        return ok();  // a service's filter may have no capset
    std::array<__user_cap_data_struct, 2> none{};
    if (::syscall(SYS_capset, &header, none.data()) == 0) return ok();
    return Error::from_errno(errno, "dropping capabilities");
}

/// What programs of every language read to begin with. Nothing of a user's.
FileRights common_rights() {
    FileRights rights;
    rights.programs = {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};
    rights.read = {"/etc/alternatives",
                   "/etc/ca-certificates",
                   "/etc/group",
                   "/etc/ld.so.cache",
                   "/etc/ld.so.conf",
                   "/etc/ld.so.conf.d",
                   "/etc/locale.alias",
                   "/etc/localtime",
                   "/etc/mime.types",
                   "/etc/nsswitch.conf",
                   "/etc/os-release",
                   "/etc/passwd",
                   "/etc/ssl/certs",
                   "/proc/cpuinfo",
                   "/proc/meminfo",
                   "/proc/self",
                   "/proc/sys/vm/overcommit_memory",
                   "/sys/devices/system/cpu"};
    rights.devices = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};
    // /etc/python3.11 and its like.
    const std::unique_ptr<DIR, int (*)(DIR*)> etc(::opendir("/etc"), &::closedir);
    while (const dirent* entry = etc ? ::readdir(etc.get()) : nullptr)
        if (std::string_view(entry->d_name).starts_with("python"))
            rights.read.push_back(std::string("/etc/") + entry->d_name);
    return rights;
}

}  // namespace

Result<void> confine(const Confine& wanted, int file) {
    BANGER_TRY(limit_resources(wanted.memory));
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return Error::from_errno(errno, "giving up new privileges");
    BANGER_TRY(drop_capabilities());
    FileRights rights = common_rights();
    rights.read.insert(rights.read.end(), wanted.read.begin(), wanted.read.end());
    rights.write = wanted.write;
    rights.plugin_files = {file};
    BANGER_TRY(restrict_files(rights));
    return filter_system_calls();
}

}  // namespace banger::plugin_host

#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "daemons/plugin-host/confine.hpp"

/// Which system calls a plugin has: reading this is the audit. What is not in it is ENOSYS, as on a
/// kernel that is too old for it, so that runtimes do without; what programs know to be there, and
/// is refused on purpose, is EPERM.
namespace banger::plugin_host {

namespace {

/// Whatever their arguments.
constexpr int allowed[] = {
    // files, by descriptor and by name: Landlock says which
    SCMP_SYS(access), SCMP_SYS(chdir), SCMP_SYS(close), SCMP_SYS(close_range),
    SCMP_SYS(copy_file_range), SCMP_SYS(creat), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3),
    SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(fadvise64), SCMP_SYS(fallocate),
    SCMP_SYS(fchdir), SCMP_SYS(fchmod), SCMP_SYS(fcntl), SCMP_SYS(fdatasync), SCMP_SYS(fgetxattr),
    SCMP_SYS(flistxattr), SCMP_SYS(flock), SCMP_SYS(fremovexattr), SCMP_SYS(fsetxattr),
    SCMP_SYS(fstat), SCMP_SYS(fstatfs), SCMP_SYS(fsync), SCMP_SYS(ftruncate), SCMP_SYS(getcwd),
    SCMP_SYS(getdents), SCMP_SYS(getdents64), SCMP_SYS(ioctl), SCMP_SYS(lseek), SCMP_SYS(lstat),
    SCMP_SYS(memfd_create), SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(newfstatat),
    SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(openat2), SCMP_SYS(pread64), SCMP_SYS(preadv),
    SCMP_SYS(preadv2), SCMP_SYS(pwrite64), SCMP_SYS(pwritev), SCMP_SYS(pwritev2), SCMP_SYS(read),
    SCMP_SYS(readahead), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(readv),
    SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(rmdir), SCMP_SYS(sendfile),
    SCMP_SYS(splice), SCMP_SYS(stat), SCMP_SYS(statfs), SCMP_SYS(statx), SCMP_SYS(sync_file_range),
    SCMP_SYS(tee), SCMP_SYS(truncate), SCMP_SYS(umask), SCMP_SYS(unlink), SCMP_SYS(unlinkat),
    SCMP_SYS(vmsplice), SCMP_SYS(write), SCMP_SYS(writev),
    // memory
    SCMP_SYS(brk), SCMP_SYS(madvise), SCMP_SYS(membarrier), SCMP_SYS(mincore), SCMP_SYS(mlock),
    SCMP_SYS(mmap), SCMP_SYS(mprotect), SCMP_SYS(mremap), SCMP_SYS(msync), SCMP_SYS(munlock),
    SCMP_SYS(munmap), SCMP_SYS(pkey_alloc), SCMP_SYS(pkey_free), SCMP_SYS(pkey_mprotect),
    // threads of its own
    SCMP_SYS(arch_prctl), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(futex),
    SCMP_SYS(futex_waitv), SCMP_SYS(get_robust_list), SCMP_SYS(getcpu), SCMP_SYS(gettid),
    SCMP_SYS(restart_syscall), SCMP_SYS(rseq), SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_get_priority_max), SCMP_SYS(sched_get_priority_min), SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler), SCMP_SYS(sched_yield), SCMP_SYS(set_robust_list),
    SCMP_SYS(set_tid_address), SCMP_SYS(wait4), SCMP_SYS(waitid),
    // becoming another program: it is confined as this one is
    SCMP_SYS(execve), SCMP_SYS(execveat),
    // signals of its own
    SCMP_SYS(alarm), SCMP_SYS(pause), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigpending),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigsuspend),
    SCMP_SYS(rt_sigtimedwait), SCMP_SYS(sigaltstack), SCMP_SYS(signalfd4),
    // time
    SCMP_SYS(clock_getres), SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(getitimer),
    SCMP_SYS(gettimeofday), SCMP_SYS(nanosleep), SCMP_SYS(setitimer), SCMP_SYS(time),
    SCMP_SYS(timer_create), SCMP_SYS(timer_delete), SCMP_SYS(timer_getoverrun),
    SCMP_SYS(timer_gettime), SCMP_SYS(timer_settime), SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_gettime), SCMP_SYS(timerfd_settime), SCMP_SYS(times),
    // who and where it is
    SCMP_SYS(capget), SCMP_SYS(getegid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getgroups),
    SCMP_SYS(getpgid), SCMP_SYS(getpgrp), SCMP_SYS(getpid), SCMP_SYS(getppid),
    SCMP_SYS(getpriority), SCMP_SYS(getrandom), SCMP_SYS(getresgid), SCMP_SYS(getresuid),
    SCMP_SYS(getrlimit), SCMP_SYS(getrusage), SCMP_SYS(getsid), SCMP_SYS(getuid), SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    // waiting
    SCMP_SYS(epoll_create), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2), SCMP_SYS(epoll_wait), SCMP_SYS(eventfd), SCMP_SYS(eventfd2),
    SCMP_SYS(pipe), SCMP_SYS(pipe2), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(pselect6),
    SCMP_SYS(select),
    // the channel it was given
    SCMP_SYS(getpeername), SCMP_SYS(getsockname), SCMP_SYS(getsockopt), SCMP_SYS(recvfrom),
    SCMP_SYS(recvmmsg), SCMP_SYS(recvmsg), SCMP_SYS(sendmmsg), SCMP_SYS(sendmsg), SCMP_SYS(sendto),
    SCMP_SYS(setsockopt), SCMP_SYS(shutdown)};

/// Programs expect these to exist. Some by name of a file, which Landlock does not look at: rights
/// and owners of files, links.
constexpr int refused[] = {SCMP_SYS(accept),
                           SCMP_SYS(accept4),
                           SCMP_SYS(bind),
                           SCMP_SYS(chmod),
                           SCMP_SYS(chown),
                           SCMP_SYS(connect),
                           SCMP_SYS(fchmodat),
                           SCMP_SYS(fchown),
                           SCMP_SYS(fchownat),
                           SCMP_SYS(fork),
                           SCMP_SYS(lchown),
                           SCMP_SYS(link),
                           SCMP_SYS(linkat),
                           SCMP_SYS(listen),
                           SCMP_SYS(mknod),
                           SCMP_SYS(mknodat),
                           SCMP_SYS(mount),
                           SCMP_SYS(pidfd_getfd),
                           SCMP_SYS(pidfd_open),
                           SCMP_SYS(pidfd_send_signal),
                           SCMP_SYS(process_vm_readv),
                           SCMP_SYS(process_vm_writev),
                           SCMP_SYS(ptrace),
                           SCMP_SYS(setpgid),
                           SCMP_SYS(setpriority),
                           SCMP_SYS(setrlimit),
                           SCMP_SYS(setsid),
                           SCMP_SYS(setxattr),
                           SCMP_SYS(socket),
                           SCMP_SYS(symlink),
                           SCMP_SYS(symlinkat),
                           SCMP_SYS(tkill),
                           SCMP_SYS(unshare),
                           SCMP_SYS(utime),
                           SCMP_SYS(utimes),
                           SCMP_SYS(futimesat),
                           SCMP_SYS(vfork)};

/// What of prctl(2) concerns the calling thread's name and looks alone. Not the signal at the death
/// of the parent.
constexpr unsigned harmless_prctl[] = {PR_SET_NAME,         PR_GET_NAME,      PR_GET_DUMPABLE,
                                       PR_GET_NO_NEW_PRIVS, PR_CAPBSET_READ,  PR_SET_VMA,
                                       PR_GET_SECCOMP,      PR_GET_PDEATHSIG, PR_SET_THP_DISABLE};

using Filter = std::unique_ptr<void, void (*)(scmp_filter_ctx)>;

/// The first failure of many rules.
class Rules {
public:
    explicit Rules(scmp_filter_ctx filter) : filter_(filter) {}
    template <class... Comparison>
    void add(std::uint32_t action, int call, Comparison... comparison) {
        const int result =
            ::seccomp_rule_add(filter_, action, call, sizeof...(comparison), comparison...);
        // Not on this machine, e.g. what has no number in its table.
        if (result != 0 && result != -EDOM && result != -EOPNOTSUPP && failure_ == 0)
            failure_ = -result;
    }
    [[nodiscard]] int failure() const { return failure_; }

private:
    scmp_filter_ctx filter_;
    int failure_ = 0;
};

}  // namespace

Result<void> filter_system_calls() {
    const Filter filter(::seccomp_init(SCMP_ACT_ERRNO(ENOSYS)), &::seccomp_release);
    if (!filter) return Error(Errc::internal, "no room for a filter of system calls");
    Rules rules(filter.get());
    constexpr std::uint32_t permit = SCMP_ACT_ALLOW;
    constexpr std::uint32_t refuse = SCMP_ACT_ERRNO(EPERM);
    for (const int call : allowed)
        rules.add(permit, call);
    for (const int call : refused)
        rules.add(refuse, call);
    // A thread, no process. clone3 is ENOSYS, because a filter cannot look at its arguments.
    rules.add(permit, SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    rules.add(refuse, SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
    // Signals to itself.
    const auto self = static_cast<scmp_datum_t>(::getpid());
    for (const int call : {SCMP_SYS(kill), SCMP_SYS(tgkill), SCMP_SYS(rt_sigqueueinfo),
                           SCMP_SYS(rt_tgsigqueueinfo)}) {
        rules.add(permit, call, SCMP_A0(SCMP_CMP_EQ, self));
        rules.add(refuse, call, SCMP_A0(SCMP_CMP_NE, self));
    }
    // Limits: its own, to look at or to lower.
    rules.add(permit, SCMP_SYS(prlimit64), SCMP_A0(SCMP_CMP_EQ, 0));
    rules.add(refuse, SCMP_SYS(prlimit64), SCMP_A0(SCMP_CMP_NE, 0));
    // Both ends of a pair are its own. Datagrams can be sent to whoever listens somewhere.
    for (const int type : {SOCK_STREAM, SOCK_SEQPACKET})
        rules.add(permit, SCMP_SYS(socketpair), SCMP_A0(SCMP_CMP_EQ, AF_UNIX),
                  SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, static_cast<scmp_datum_t>(type)));
    // The times of an open file: by name, any file of the owner's could be reached.
    rules.add(permit, SCMP_SYS(utimensat), SCMP_A1(SCMP_CMP_EQ, 0));
    rules.add(refuse, SCMP_SYS(utimensat), SCMP_A1(SCMP_CMP_NE, 0));
    for (const unsigned option : harmless_prctl)
        rules.add(permit, SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, option));
    int failure = rules.failure();
    // For threads that a library made in the meantime there would be a flag; there are none yet.
    if (failure == 0) failure = -::seccomp_load(filter.get());
    if (failure == 0) return ok();
    return Error::from_errno(failure, "filtering system calls");
}

}  // namespace banger::plugin_host

#include "daemons/vsock-agent/hand_over.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

namespace banger::agent {

namespace {

std::string link_target(const ImageRoot& root, const std::string& path) {
    std::array<char, PATH_MAX> target{};
    const ssize_t size = readlinkat(root.fd(), path.c_str(), target.data(), target.size());
    return size > 0 ? std::string(target.data(), static_cast<std::size_t>(size)) : std::string();
}

/// devtmpfs has devices alone; these links and folders are what udev or an init would add.
void mount_more() {
    mkdir("/dev/pts", 0755);
    mkdir("/dev/shm", 01777);
    mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
    for (const auto& [target, link] :
         {std::pair{"/proc/self/fd", "/dev/fd"}, std::pair{"/proc/self/fd/0", "/dev/stdin"},
          std::pair{"/proc/self/fd/1", "/dev/stdout"}, std::pair{"/proc/self/fd/2", "/dev/stderr"}})
        [[maybe_unused]] const int ignored = symlink(target, link);
    // An image of one program has no /tmp; whoever has one has it with its mode.
    if (mkdir("/tmp", 01777) == 0) chmod("/tmp", 01777);
}

pid_t start_sshd() {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    setsid();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    execl("/usr/sbin/sshd", "/usr/sbin/sshd", "-D", nullptr);
    _exit(127);
}

/// What PID 1 waits for.
sigset_t block_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGCHLD, SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGPWR, SIGRTMIN + 4})
        sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    return set;
}

}  // namespace

bool has_systemd(const ImageRoot& root) {
    return root.has_program("usr/lib/systemd/systemd") || root.has_program("lib/systemd/systemd");
}

std::optional<std::string> find_image_init(const ImageRoot& root) {
    const bool has_init = root.has_program("sbin/init");
    if (has_systemd(root))
        return has_init                                      ? "/sbin/init"
               : root.has_program("usr/lib/systemd/systemd") ? "/usr/lib/systemd/systemd"
                                                             : "/lib/systemd/systemd";
    if (!has_init || !root.has("etc/inittab")) return std::nullopt;
    const bool is_busybox = link_target(root, "sbin/init").find("busybox") != std::string::npos;
    const bool is_followed = root.has_program("sbin/openrc") || root.has_program("etc/init.d/rcS");
    return is_busybox && !is_followed ? std::nullopt : std::optional<std::string>("/sbin/init");
}

Result<void> switch_root(const std::string& folder) {
    if (chdir(folder.c_str()) != 0) return Error::from_errno(errno, folder);
    BANGER_TRY(mount_at(folder, "/", nullptr, MS_MOVE, nullptr));
    if (chroot(".") != 0 || chdir("/") != 0) return Error::from_errno(errno, "chroot");
    return {};
}

void stay_as_init(BootState& state, void (*shut_down)(const BootState& state)) {
    mount_more();
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    const sigset_t awaited = block_signals();
    state.reach(BootState::handed_over);
    pid_t sshd = state.has_sshd() ? start_sshd() : -1;
    std::uint64_t started = uptime_ms();
    bool is_going_down = false;
    while (true) {
        const int number = sigwaitinfo(&awaited, nullptr);
        if (number > 0 && number != SIGCHLD && !std::exchange(is_going_down, true)) {
            say("powering off, as " + std::string(strsignal(number)) + " asks");
            shut_down(state);
        }
        for (pid_t ended = 0; (ended = waitpid(-1, nullptr, WNOHANG)) > 0;) {
            if (ended != sshd || is_going_down) continue;
            // Started again when it had run for a while; one that ends at once is broken.
            sshd = -1;
            say("sshd ended");
            if (uptime_ms() - started < 2000) continue;
            sshd = start_sshd();
            started = uptime_ms();
        }
    }
}

}  // namespace banger::agent

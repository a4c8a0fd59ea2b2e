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

namespace banger::agent {

namespace {

std::string link_target(const ImageRoot& root, const std::string& path) {
    std::array<char, PATH_MAX> target{};
    const ssize_t size = readlinkat(root.fd(), path.c_str(), target.data(), target.size());
    return size > 0 ? std::string(target.data(), static_cast<std::size_t>(size)) : std::string();
}

void mount_more() {
    mkdir("/dev/pts", 0755);
    mkdir("/dev/shm", 01777);
    mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
}

pid_t start_sshd() {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    setsid();
    execl("/usr/sbin/sshd", "/usr/sbin/sshd", "-D", nullptr);
    _exit(127);
}

}  // namespace

std::optional<std::string> find_image_init(const ImageRoot& root) {
    const bool has_openrc = root.has_program("sbin/openrc");
    const bool is_busybox = link_target(root, "sbin/init").find("busybox") != std::string::npos;
    if (root.has_program("sbin/init") && (!is_busybox || has_openrc)) return "/sbin/init";
    for (const char* path : {"usr/lib/systemd/systemd", "lib/systemd/systemd"}) {
        if (root.has_program(path)) return "/" + std::string(path);
    }
    return std::nullopt;
}

Result<void> switch_root(const std::string& folder) {
    if (chdir(folder.c_str()) != 0) return Error::from_errno(errno, folder);
    BANGER_TRY(mount_at(folder, "/", nullptr, MS_MOVE, nullptr));
    if (chroot(".") != 0 || chdir("/") != 0) return Error::from_errno(errno, "chroot");
    return {};
}

void stay_as_init(const BootState& state) {
    mount_more();
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    pid_t sshd = state.has_sshd() ? start_sshd() : -1;
    std::uint64_t started = uptime_ms();
    while (true) {
        const pid_t ended = wait(nullptr);
        if (ended < 0 && errno == ECHILD) pause();
        if (ended < 0 || ended != sshd) continue;
        // Started again when it had run for a while; one that ends at once is broken.
        sshd = -1;
        say("sshd ended");
        if (uptime_ms() - started < 2000) continue;
        sshd = start_sshd();
        started = uptime_ms();
    }
}

}  // namespace banger::agent

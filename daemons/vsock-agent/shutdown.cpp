#include "daemons/vsock-agent/shutdown.hpp"

#include <dirent.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>

#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

namespace {

constexpr int grace_ms = 5000;
constexpr int step_ms = 20;

/// Processes other than PID 1, ourselves and our agent that have a program: kernel threads have no
/// command line, nor has a zombie.
bool is_anyone_left() {
    const std::string self = std::to_string(getpid());
    const std::string parent = std::to_string(getppid());
    return std::ranges::any_of(names_in("/proc"), [&](const std::string& name) {
        if (name.find_first_not_of("0123456789") != std::string::npos) return false;
        if (name == "1" || name == self || name == parent) return false;
        return !read_text("/proc/" + name + "/cmdline").value_or("").empty();
    });
}

void end_all_processes() {
    signal(SIGTERM, SIG_IGN);
    kill(-1, SIGTERM);
    for (int waited = 0; waited < grace_ms && is_anyone_left(); waited += step_ms) {
        const timespec pause{0, step_ms * 1'000'000};
        nanosleep(&pause, nullptr);
    }
    // Spares PID 1 and ourselves, but not the agent: from here on there is nothing to ask.
    kill(-1, SIGKILL);
}

void quiet_disks() {
    sync();
    if (chroot("/proc/1/root/.") != 0 || chdir("/") != 0) return;
    umount2("/root", 0);
    mount(nullptr, "/root", nullptr, MS_REMOUNT | MS_RDONLY, nullptr);
    mount(nullptr, "/", nullptr, MS_REMOUNT | MS_RDONLY, nullptr);
    sync();
}

}  // namespace

void power_off() {
    sync();
    reboot(RB_POWER_OFF);
    while (true)
        pause();
}

void begin_shutdown() {
    if (read_line("/proc/1/comm") == "systemd") {
        kill(1, SIGRTMIN + 4);  // systemd(1): starts poweroff.target
        return;
    }
    if (fork() != 0) return;
    setsid();
    end_all_processes();
    quiet_disks();
    power_off();
}

}  // namespace banger::agent

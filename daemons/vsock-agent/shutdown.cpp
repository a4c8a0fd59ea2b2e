#include "daemons/vsock-agent/shutdown.hpp"

#include <dirent.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

namespace {

constexpr int grace_ms = 5000;
constexpr int step_ms = 20;

/// Processes other than PID 1, ourselves and the agent that have a program: kernel threads have no
/// command line, nor has a zombie; the agent's begins with '@'.
bool is_anyone_left() {
    const std::string self = std::to_string(getpid());
    return std::ranges::any_of(names_in("/proc"), [&](const std::string& name) {
        if (name.find_first_not_of("0123456789") != std::string::npos) return false;
        if (name == "1" || name == self) return false;
        const std::string command = read_text("/proc/" + name + "/cmdline").value_or("");
        return !command.empty() && command.front() != '@';
    });
}

void sleep_ms(int milliseconds) {
    const timespec pause{milliseconds / 1000, milliseconds % 1000 * 1'000'000L};
    nanosleep(&pause, nullptr);
}

bool is_systemd() {
    std::array<char, 256> program{};
    const ssize_t size = readlink("/proc/1/exe", program.data(), program.size());
    return size > 0 &&
           std::string_view(program.data(), static_cast<std::size_t>(size)).ends_with("/systemd");
}

/// PID 1 blocks a signal that it takes through a signalfd; unblocked, the kernel would drop it.
bool waits_for_signal(int number) {
    constexpr std::string_view field = "\nSigBlk:\t";
    const std::string status = read_text("/proc/1/status").value_or("");
    const std::size_t at = status.find(field);
    if (at == std::string::npos) return true;
    const std::uint64_t mask = std::strtoull(status.c_str() + at + field.size(), nullptr, 16);
    return (mask >> (number - 1) & 1) != 0;
}

void end_all_processes() {
    signal(SIGTERM, SIG_IGN);
    kill(-1, SIGTERM);
    kill(-1, SIGHUP);  // an interactive shell heeds only this one
    for (int waited = 0; waited < grace_ms && is_anyone_left(); waited += step_ms) {
        sleep_ms(step_ms);
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

/// A VMM without a power switch ends when its guest reboots, and says so on the command line.
bool is_off_by_reboot() {
    return (" " + read_line("/proc/cmdline") + " ").find(" banger.off=reboot ") !=
           std::string::npos;
}

}  // namespace

void power_off() {
    sync();
    reboot(is_off_by_reboot() ? RB_AUTOBOOT : RB_POWER_OFF);
    while (true)
        pause();
}

void begin_shutdown(const BootState& state) {
    if (!state.is_reached(BootState::handed_over)) power_off();  // nothing runs but us
    if (fork() != 0) return;
    setsid();
    if (is_systemd()) {
        // Before systemd listens for it, the signal would be lost.
        const int target = SIGRTMIN + (is_off_by_reboot() ? 5 : 4);  // systemd(1): reboot, poweroff
        while (!waits_for_signal(target))
            sleep_ms(step_ms);
        kill(1, target);
        _exit(0);
    }
    end_all_processes();
    quiet_disks();
    power_off();
}

}  // namespace banger::agent

#include "daemons/vsock-agent/init.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "core/guest/identity.hpp"
#include "daemons/vsock-agent/boot_state.hpp"
#include "daemons/vsock-agent/channel.hpp"
#include "daemons/vsock-agent/disks.hpp"
#include "daemons/vsock-agent/hand_over.hpp"
#include "daemons/vsock-agent/modules.hpp"
#include "daemons/vsock-agent/network.hpp"
#include "daemons/vsock-agent/provision.hpp"
#include "daemons/vsock-agent/server.hpp"
#include "daemons/vsock-agent/shutdown.hpp"
#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

using guest::GuestIdentity;

namespace {

constexpr const char* new_root = "/newroot";
constexpr int failure_wait_ms = 5000;

void mount_kernel_file_systems(const std::string& root) {
    struct Place {
        const char* type;
        const char* path;
    };
    for (const Place& place :
         {Place{"proc", "/proc"}, Place{"sysfs", "/sys"}, Place{"devtmpfs", "/dev"}}) {
        const std::string path = root + place.path;
        mkdir(path.c_str(), 0755);
        const Result<void> done = mount_at(place.type, path, place.type, 0, nullptr);
        if (!done) say(done.error().text());
    }
}

/// For people who read the console: how long each part took.
class Timings {
public:
    void mark(const char* name) {
        const std::uint64_t now = uptime_ms();
        text_ += std::string(text_.empty() ? "" : ", ") + name + " " + std::to_string(now - last_);
        last_ = now;
    }
    [[nodiscard]] std::string text() const {
        return "after " + std::to_string(uptime_ms()) + " ms (" + text_ + ")";
    }

private:
    std::uint64_t last_ = 0;
    std::string text_;
};

Result<GuestIdentity> read_identity() {
    const std::string path = "/" + std::string(guest::identity_path);
    const std::string text = BANGER_TRY(read_text(path));
    return guest::decode_identity(text, [](std::string_view member) {
        return read_text("/" + std::string(member), guest::max_files_bytes);
    });
}

/// The agent lives on in a child, with the initramfs as its root. systemd spares processes whose
/// name begins with '@' until the very end of a shutdown.
void leave_agent(BootState& state, char* name) {
    Result<HostChannel> channel = open_host_channel();
    if (!channel) {
        say(channel.error().text());
        return;
    }
    const pid_t pid = fork();
    if (pid < 0) say(Error::from_errno(errno, "starting the agent").text());
    if (pid != 0) return;
    setsid();
    name[0] = '@';
    prctl(PR_SET_NAME, "banger-agent");
    const UniqueFd score(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
    [[maybe_unused]] const Result<void> ignored = write_bytes(score.get(), "-1000");
    AgentServer(*std::move(channel), state, begin_shutdown).run();
    _exit(1);
}

/// The initramfs stays as the agent's root; its bulk goes.
void free_memory() {
    for (const char* folder : {"/modules", "/banger/files", "/banger"}) {
        for (const std::string& name : names_in(folder))
            unlink((std::string(folder) + "/" + name).c_str());
    }
}

Result<void> set_up_disks(const Disks& disks, const GuestIdentity& identity, BootState& state,
                          Timings& timings) {
    const Disks::const_iterator root_disk = disks.find("root");
    if (root_disk == disks.end()) return Error(Errc::not_found, "no disk has the serial \"root\"");
    mkdir(new_root, 0755);
    BANGER_TRY(mount_root(root_disk->second, new_root));
    timings.mark("root");
    if (identity.grow_disks) grow(root_disk->second, new_root);
    timings.mark("grow");
    state.reach(BootState::root_mounted);

    const ImageRoot root = BANGER_TRY(ImageRoot::open(new_root));
    if (const auto work = disks.find("work"); work != disks.end()) {
        BANGER_TRY(mount_work(work->second, root, identity.grow_disks));
        state.reach(BootState::work_mounted);
        timings.mark("work");
    }
    if (const auto modules = disks.find("modules"); modules != disks.end()) {
        const Result<void> mounted = mount_modules(modules->second, root);
        if (!mounted) say(mounted.error().text());
    }
    return {};
}

void set_up_network(const GuestIdentity& identity, BootState& state) {
    bring_up_loopback();
    if (sethostname(identity.name.str().data(), identity.name.str().size()) != 0)
        say(Error::from_errno(errno, "setting the host name").text());
    if (!identity.network) return;
    const Result<void> configured = configure_network(*identity.network);
    if (configured) return state.reach(BootState::network_up);
    say(configured.error().text());
    state.set_trouble(BootState::network_up, configured.error().message);
}

Result<void> become_image_init(BootState& state, const Timings& timings) {
    const ImageRoot root = BANGER_TRY(ImageRoot::open(new_root));
    if (root.has_program("usr/sbin/sshd")) state.set_has_sshd();
    const std::optional<std::string> init = find_image_init(root);
    mount_kernel_file_systems(new_root);
    free_memory();
    say((init ? "handing over to " + *init : std::string("the image has no init, staying")) + " " +
        timings.text());
    BANGER_TRY(switch_root(new_root));
    if (!init) stay_as_init(state, begin_shutdown);
    state.reach(BootState::handed_over);
    execl(init->c_str(), init->c_str(), nullptr);
    return Error::from_errno(errno, "starting " + *init);
}

Result<void> boot(BootState& state, char* name) {
    Timings timings;
    timings.mark("kernel");
    mount_kernel_file_systems("");
    load_modules();
    timings.mark("drivers");
    state.expect(BootState::root_mounted);
    state.expect(BootState::handed_over);
    leave_agent(state, name);
    const GuestIdentity identity =
        BANGER_TRY(read_identity().context("reading the machine's identity"));
    if (identity.network) state.expect(BootState::network_up);
    const Disks disks = find_disks();
    if (disks.contains("work")) state.expect(BootState::work_mounted);
    BANGER_TRY(set_up_disks(disks, identity, state, timings));
    timings.mark("kernel-modules");
    set_up_network(identity, state);
    const ImageRoot root = BANGER_TRY(ImageRoot::open(new_root));
    for (const Result<void>& step : {provision(identity, root), prepare_run(root)}) {
        if (!step) say(step.error().text());
    }
    timings.mark("identity");
    return become_image_init(state, timings);
}

}  // namespace

void run_init(char* name) {
    umask(022);
    BootState* state = BootState::make();
    if (state == nullptr) power_off();
    const Result<void> failed = boot(*state, name);
    // boot() returns only when something went wrong for good.
    say(failed.error().text());
    state->fail(failed.error().message);
    for (int waited = 0; waited < failure_wait_ms && !state->is_failure_told(); waited += 20) {
        const timespec pause{0, 20'000'000};
        nanosleep(&pause, nullptr);
    }
    say("powering off");
    power_off();
}

}  // namespace banger::agent

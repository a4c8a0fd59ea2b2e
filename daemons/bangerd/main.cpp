#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <thread>

#include "core/base/file.hpp"
#include "core/base/version.hpp"
#include "core/config/config.hpp"
#include "core/config/paths.hpp"
#include "core/rpc/listener.hpp"
#include "daemons/bangerd/daemon.hpp"

namespace {

using namespace banger;

spdlog::level::level_enum level_of(LogLevel level) {
    switch (level) {
        case LogLevel::debug:
            return spdlog::level::debug;
        case LogLevel::info:
            return spdlog::level::info;
        case LogLevel::warning:
            return spdlog::level::warn;
        case LogLevel::error:
            return spdlog::level::err;
    }
    return spdlog::level::info;
}

std::shared_ptr<spdlog::logger> make_log() {
    std::shared_ptr<spdlog::logger> log = spdlog::stderr_logger_mt("bangerd");
    log->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
    log->flush_on(spdlog::level::debug);
    return log;
}

/// The folder this program lies in: plugins and the agent are found from there.
std::string own_folder() {
    char path[4096];
    const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
    return length > 0 ? parent_path(std::string(path, static_cast<std::size_t>(length)))
                      : "/usr/local/bin";
}

/// SIGTERM, SIGINT and SIGHUP end the daemon, not its machines. A thread waits for them, because a
/// handler may do almost nothing.
std::jthread leave_on_signal(Daemon& daemon, const sigset_t& signals) {
    return std::jthread([&daemon, signals](std::stop_token stop) {
        int signal = 0;
        ::sigwait(&signals, &signal);
        if (!stop.stop_requested()) daemon.leave();
    });
}

sigset_t block_signals() {
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error (EFBIG), not our death
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP})
        sigaddset(&signals, signal);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    return signals;
}

/// Tells whoever started us; nobody may be there.
void tell(int ready_fd, const std::string& text) {
    if (ready_fd < 0) return;
    (void)write_all(ready_fd, text + "\n");
    ::close(ready_fd);
}

/// In a build tree the agent lies beside us; installed, beside the plugins.
std::string find_agent(const std::string& here) {
    std::string agent = here + "/banger-vsock-agent";
    return path_exists(agent) ? agent : here + "/../lib/banger/banger-vsock-agent";
}

/// In a build tree it lies beside us; installed, out of everybody's PATH.
std::string find_plugin_host(const std::string& here) {
    std::string program = here + "/banger-plugin-host";
    return path_exists(program) ? program : here + "/../lib/banger/banger-plugin-host";
}

Result<std::unique_ptr<Daemon>> open_daemon(RunMode mode, bool is_safe_mode,
                                            std::chrono::milliseconds idle_after,
                                            ServiceNotify notify,
                                            const std::shared_ptr<spdlog::logger>& log) {
    // Its unit names the owner. Without that it would run machines as root.
    if (mode == RunMode::system && ::geteuid() == 0)
        return Error(Errc::permission_denied, "bangerd --system does not run as root",
                     "Install it with `sudo banger system install --owner USER`.");
    const PathEnvironment environment = BANGER_TRY(PathEnvironment::from_process());
    const std::string here = own_folder();
    const Paths paths = BANGER_TRY(find_paths(mode, environment));
    return Daemon::open({
        .paths = paths,
        .plugin_folders = {here + "/../lib/banger/plugins"},
        .third_party_folders = {paths.user_plugins()},
        .plugin_host = find_plugin_host(here),
        .is_safe_mode = is_safe_mode,
        .agent = find_agent(here),
        .idle_after = idle_after,
        .listeners = BANGER_TRY(rpc::inherited_listeners()),
        .notify = std::move(notify),
        .log = [log](LogLevel level, const std::string& text) { log->log(level_of(level), text); },
    });
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "bangerd: keeps the machines of one user. `banger` starts it when it is needed; as a\n"
        "service systemd does.");
    bool is_user_mode = false;
    bool is_system_mode = false;
    // The command asks for it that way, because it starts whatever bangerd is there.
    bool is_safe_mode = ::getenv("BANGER_SAFE_MODE") != nullptr;  // NOLINT: no other thread yet
    int ready_fd = -1;
    std::uint32_t idle_seconds = 30;
    CLI::App& mode = *app.add_option_group("mode")->require_option(1);
    mode.add_flag("--user", is_user_mode, "run for the calling user, without root");
    mode.add_flag("--system", is_system_mode,
                  "run as the service of an owner, with bangerd-root; never leaves by itself");
    app.add_option("--ready-fd", ready_fd, "write \"ready\" or an error there once it is decided");
    app.add_option("--idle-seconds", idle_seconds,
                   "leave when nothing runs for this long; 0: never")
        ->capture_default_str();
    app.add_flag("--safe-mode", is_safe_mode, "leave plugins of third parties alone");
    app.set_version_flag("--version", "bangerd " + std::string(version().number) + " " +
                                          std::string(version().commit));
    CLI11_PARSE(app, argc, argv);

    ::umask(077);
    const sigset_t signals = block_signals();
    const std::shared_ptr<spdlog::logger> log = make_log();
    ServiceNotify notify = ServiceNotify::from_environment();
    Result<std::unique_ptr<Daemon>> daemon =
        is_system_mode ? open_daemon(RunMode::system, is_safe_mode, std::chrono::seconds(0),
                                     std::move(notify), log)
                       : open_daemon(RunMode::user, is_safe_mode,
                                     std::chrono::seconds(idle_seconds), std::move(notify), log);
    if (!daemon) {
        log->error(daemon.error().text());
        tell(ready_fd, daemon.error().text());
        return 1;
    }
    log->info("bangerd {} {} is ready, pid {}", version().number, version().commit, ::getpid());
    tell(ready_fd, "ready");
    {
        std::jthread signal_thread = leave_on_signal(**daemon, signals);
        (*daemon)->run();
        signal_thread.request_stop();
        ::pthread_kill(signal_thread.native_handle(), SIGTERM);
    }
    daemon->reset();
    return 0;
}

#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <string_view>

#include "banger/result.hpp"

namespace banger {

/// Which of the two ways to run: two services with a root helper, or one daemon of the user's own.
enum class RunMode { user, system };
std::string_view to_string(RunMode mode);

/// What the places of files are derived from. A value, so that a test can have its own.
struct PathEnvironment {
    uid_t uid = 0;
    std::map<std::string, std::string, std::less<>> variables;  ///< HOME and XDG_…; unset: no entry
    std::string run_user_root = "/run/user";
    std::string tmp_root = "/tmp";
    std::string etc_root = "/etc";
    /// The calling process' own. HOME comes from getpwuid(3) where it is unset or relative. Not
    /// thread-safe against setenv(3), as getenv is not: call it at the start of main.
    static Result<PathEnvironment> from_process();
};

/// Where everything lies. Absolute, without a trailing slash. Folders may not exist yet.
struct Paths {
    RunMode mode = RunMode::user;
    std::string home;

    std::string run;     ///< sockets and marks of live things; gone after a reboot
    std::string state;   ///< what must not be lost
    std::string cache;   ///< what can be made again
    std::string config;  ///< ~/.config/banger

    std::string user_config_file;    ///< ~/.config/banger/config.toml
    std::string system_config_file;  ///< /etc/banger/config.toml

    std::string socket;       ///< bangerd's
    std::string root_socket;  ///< bangerd-root's; empty in user mode
    std::string database;     ///< STATE/banger.db
    std::string log;          ///< STATE/bangerd.log, of the user daemon
    std::string images;       ///< STATE/images
    std::string kernels;      ///< STATE/kernels
    std::string vms;          ///< STATE/vms, a folder a machine
    std::string blobs;        ///< CACHE/blobs: parts of images while they are fetched

    /// The user's, in both modes: the CLI's ssh runs as the user.
    std::string ssh_key;      ///< ~/.local/state/banger/ssh/id_ed25519
    std::string known_hosts;  ///< ~/.local/state/banger/ssh/known_hosts
    /// The daemon's own; the same file as known_hosts in user mode.
    std::string daemon_known_hosts;

    /// Where the owner puts plugins of third parties: ~/.local/lib/banger/plugins
    [[nodiscard]] std::string user_plugins() const;
    /// The folder a plugin is given for each purpose.
    [[nodiscard]] std::string plugin_state(std::string_view plugin) const;
    [[nodiscard]] std::string plugin_cache(std::string_view plugin) const;
    [[nodiscard]] std::string plugin_run(std::string_view plugin) const;
};

/// Works the places out; makes nothing but, as the last resort, the run folder in /tmp.
///
/// System mode: /run/banger, /var/lib/banger, /var/cache/banger. User mode: the XDG base folders,
/// with "banger" beneath; a relative XDG variable counts as unset (XDG Base Directory Specification
/// 0.8). The run folder is the first of these that is a folder of this user and not a link:
/// $XDG_RUNTIME_DIR, /run/user/UID, and else /tmp/banger-UID itself, made 0700. A /tmp/banger-UID
/// that is somebody else's, a link or open to others is Errc::permission_denied: whoever prepared
/// it could sit between the user and the daemon. Errc::invalid_argument when a socket's path would
/// be too long for sun_path (unix(7)).
Result<Paths> find_paths(RunMode mode, const PathEnvironment& environment);

}  // namespace banger

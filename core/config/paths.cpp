#include "core/config/paths.hpp"

#include <pwd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <optional>
#include <vector>

namespace banger {

namespace {

constexpr std::size_t longest_socket_path = sizeof(sockaddr_un::sun_path) - 1;

Result<std::string> home_of(uid_t uid) {
    std::vector<char> buffer(16384);
    passwd entry{};
    passwd* found = nullptr;
    const int error_number = ::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found);
    if (found && found->pw_dir && found->pw_dir[0] == '/') return std::string(found->pw_dir);
    return Error(Errc::not_found,
                 "HOME is not set, and user " + std::to_string(uid) + " has no home folder" +
                     (error_number ? ": " + Error::from_errno(error_number, "getpwuid").message
                                   : std::string()),
                 "Set HOME to an absolute path.");
}

/// An XDG variable, or nothing when it is unset, empty or relative.
std::optional<std::string> folder_variable(const PathEnvironment& environment,
                                           std::string_view name) {
    const auto found = environment.variables.find(name);
    if (found == environment.variables.end() || !found->second.starts_with('/'))
        return std::nullopt;
    std::string folder = found->second;
    while (folder.size() > 1 && folder.ends_with('/'))
        folder.pop_back();
    return folder;
}

bool is_private_folder(const std::string& path, uid_t uid, mode_t forbidden) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == uid &&
           (status.st_mode & forbidden) == 0;
}

Result<std::string> folder_in_tmp(const PathEnvironment& environment) {
    std::string folder = environment.tmp_root + "/banger-" + std::to_string(environment.uid);
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
        return Error::from_errno(errno, "mkdir " + folder);
    if (is_private_folder(folder, environment.uid, 077)) return folder;
    return Error(Errc::permission_denied,
                 folder + " is a link, belongs to somebody else or is open to others",
                 "Set XDG_RUNTIME_DIR to a folder of your own with mode 0700, or remove that one.");
}

Result<std::string> find_user_run_folder(const PathEnvironment& environment) {
    // After su or sudo the variable may still name the folder of another user: not ours to use.
    const std::optional<std::string> named = folder_variable(environment, "XDG_RUNTIME_DIR");
    if (named && is_private_folder(*named, environment.uid, 022)) return *named + "/banger";
    const std::string usual = environment.run_user_root + "/" + std::to_string(environment.uid);
    if (is_private_folder(usual, environment.uid, 022)) return usual + "/banger";
    return folder_in_tmp(environment);
}

}  // namespace

std::string_view to_string(RunMode mode) { return mode == RunMode::user ? "user" : "system"; }

Result<PathEnvironment> PathEnvironment::from_process() {
    PathEnvironment environment;
    environment.uid = ::geteuid();
    for (const char* name :
         {"HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"})
        if (const char* value = std::getenv(name)) environment.variables[name] = value;
    if (!folder_variable(environment, "HOME"))
        environment.variables["HOME"] = BANGER_TRY(home_of(environment.uid));
    return environment;
}

Result<Paths> find_paths(RunMode mode, const PathEnvironment& environment) {
    const std::optional<std::string> home = folder_variable(environment, "HOME");
    if (!home)
        return Error(Errc::invalid_argument, "HOME is not set", "Set HOME to an absolute path.");
    const auto user_folder = [&](std::string_view variable, std::string_view below_home) {
        return folder_variable(environment, variable).value_or(*home + std::string(below_home)) +
               "/banger";
    };
    const std::string user_state = user_folder("XDG_STATE_HOME", "/.local/state");

    Paths paths;
    paths.mode = mode;
    paths.home = *home;
    if (mode == RunMode::system) {
        paths.run = "/run/banger";
        paths.state = "/var/lib/banger";
        paths.cache = "/var/cache/banger";
        paths.root_socket = "/run/banger-root/bangerd-root.sock";
    } else {
        paths.run = BANGER_TRY(find_user_run_folder(environment));
        paths.state = user_state;
        paths.cache = user_folder("XDG_CACHE_HOME", "/.cache");
    }
    paths.config = user_folder("XDG_CONFIG_HOME", "/.config");
    paths.user_config_file = paths.config + "/config.toml";
    paths.system_config_file = environment.etc_root + "/banger/config.toml";
    paths.socket = paths.run + "/bangerd.sock";
    paths.database = paths.state + "/banger.db";
    paths.log = paths.state + "/bangerd.log";
    paths.images = paths.state + "/images";
    paths.kernels = paths.state + "/kernels";
    paths.vms = paths.state + "/vms";
    paths.blobs = paths.cache + "/blobs";
    paths.ssh_key = user_state + "/ssh/id_ed25519";
    paths.known_hosts = user_state + "/ssh/known_hosts";
    paths.daemon_known_hosts = paths.state + "/ssh/known_hosts";
    if (paths.socket.size() > longest_socket_path)
        return Error(Errc::invalid_argument, paths.socket + " is too long for a unix socket",
                     "Set XDG_RUNTIME_DIR to a shorter path.");
    return paths;
}

std::string Paths::user_plugins() const { return home + "/.local/lib/banger/plugins"; }
std::string Paths::plugin_state(std::string_view plugin) const {
    return state + "/plugins/" + std::string(plugin);
}
std::string Paths::plugin_cache(std::string_view plugin) const {
    return cache + "/plugins/" + std::string(plugin);
}
std::string Paths::plugin_run(std::string_view plugin) const {
    return run + "/plugins/" + std::string(plugin);
}

}  // namespace banger

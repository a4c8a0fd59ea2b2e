#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/base/service_notify.hpp"
#include "core/plugins/library.hpp"
#include "core/remote/server.hpp"
#include "daemons/bangerd-root/configuration.hpp"
#include "daemons/bangerd-root/host.hpp"
#include "daemons/bangerd-root/policy.hpp"

namespace banger::root {

/// Where everything lies, and how patient the helper is. Defaults are the installation's; the
/// command line has others for tests only.
struct Options {
    std::string configuration = "/etc/banger/helper.json";
    std::string plugins = "/usr/local/lib/banger/plugins";
    std::string run = "/run/banger-root";
    std::string state = "/var/lib/banger-root";
    /// Listens here when the service manager passed no socket.
    std::string socket;
    /// Believed beside root as owner of the configuration and the plugins.
    uid_t trusted_uid = 0;
    remote::ServerLimits server;
    Limits limits;
    /// Serves nobody: removes what the plugins have made and ends. For `banger system uninstall`,
    /// when nothing runs any more.
    enum class Sweep {
        no,
        kernel,  ///< links and names; disks stay, and are out of use
        all,
    } sweep = Sweep::no;
    std::chrono::milliseconds drain{5'000};  ///< for calls in flight at the end; twice
};

/// The whole helper: the plugins of the configuration, each behind its policy, served to the owner.
class Helper {
public:
    /// Loads each plugin with the loader's checks. One that is refused is an error: half a helper
    /// would show later and less clearly.
    static Result<std::unique_ptr<Helper>> open(const Options& options, Log log);

    /// Accepts connections of the owner and of root until `signals` (a signalfd) is readable. Then
    /// no new calls; those in flight may end, are stopped after a while, and left after another.
    /// False when one did not end: the caller exits without destroying anything.
    bool serve(const UniqueFd& listener, const UniqueFd& signals, const ServiceNotify& notify);

    /// Each plugin is told that nothing is remembered. Goes on when one fails.
    Result<void> sweep();

private:
    struct Loaded {
        std::unique_ptr<RootHost> host;
        LoadedPlugin plugin;
        std::unique_ptr<Policy> policy;
    };
    Helper(Options options, Log log) : options_(std::move(options)), log_(std::move(log)) {}
    Result<void> load(const TrustedFolder& folder, const ChosenPlugin& chosen);
    void accept_one(int listener);
    [[nodiscard]] bool may_connect(int socket) const;

    const Options options_;
    const Log log_;
    uid_t owner_ = 0;
    std::vector<Loaded> loaded_;
    std::vector<remote::ServedPlugin> served_;
    std::unique_ptr<remote::Server> server_;  // goes first
};

}  // namespace banger::root

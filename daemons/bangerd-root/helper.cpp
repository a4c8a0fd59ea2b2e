#include "daemons/bangerd-root/helper.hpp"

#include <malloc.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "core/base/rollback.hpp"
#include "core/rpc/peer.hpp"
#include "daemons/bangerd-root/digest.hpp"

namespace banger::root {

namespace {

/// A call that much over its deadline and grace will not end: no more signs of life, and the
/// service manager starts the helper anew.
constexpr std::chrono::minutes hopeless{1};
constexpr std::chrono::milliseconds longest_sleep{60'000};

Error error_of(const Refusal& refusal) {
    return {Errc::unavailable, refusal.file + ": " + refusal.reason, refusal.remedy};
}

/// That the library is the one that root looked at, and stays so: of the descriptor that is loaded,
/// which root alone may open for writing from now on, and nobody has open that way.
Result<void> check_bytes(int library, const std::string& file, const ChosenPlugin& chosen) {
    if (BANGER_TRY(is_being_written(library)))
        return Error(Errc::unavailable, file + " is open for writing",
                     "Put a copy of the file in its place: sudo install -m 644 …");
    if (BANGER_TRY(sha256_of(library)) == *chosen.digest) return ok();
    return Error(Errc::unavailable, file + " is not the library that root allowed",
                 "Look at what is there now, and if you trust it: sudo banger plugin trust " +
                     chosen.name.str() + " && sudo banger system restart");
}

}  // namespace

Result<std::unique_ptr<Helper>> Helper::open(const Options& options, Log log) {
    const Configuration configuration =
        BANGER_TRY(read_configuration(options.configuration, options.trusted_uid));
    std::unique_ptr<Helper> helper(new Helper(options, std::move(log)));
    helper->owner_ = configuration.owner_uid;
    Admission<TrustedFolder> folder = open_trusted_folder(options.plugins, options.trusted_uid);
    if (!folder) return error_of(folder.refusal());
    for (const ChosenPlugin& chosen : configuration.plugins)
        BANGER_TRY(
            helper->load(*folder, chosen).context("loading the plugin " + chosen.name.str()));
    helper->server_ =
        std::make_unique<remote::Server>(helper->served_, options.server, helper->log_);
    return helper;
}

Result<void> Helper::load(const TrustedFolder& folder, const ChosenPlugin& chosen) {
    const std::string file = folder.path + "/" + chosen.name.str() + ".so";
    Admission<TrustedFile> trusted =
        open_trusted_file(folder, chosen.name.str(), ".so", options_.trusted_uid);
    if (!trusted) return error_of(trusted.refusal());
    if (chosen.digest) BANGER_TRY(check_bytes(trusted->fd.get(), file, chosen));
    Admission<Library> library = Library::open(chosen.name, file, trusted->fd);
    if (!library) return error_of(library.refusal());
    std::unique_ptr<RootHost> host = BANGER_TRY(
        RootHost::create(chosen.name, chosen.settings, options_.state, options_.run, log_));
    Admission<LoadedPlugin> plugin = LoadedPlugin::create(chosen.name, file, *library, *host);
    if (!plugin) return error_of(plugin.refusal());
    std::unique_ptr<Policy> policy =
        BANGER_TRY(Policy::make(plugin->roles(), owner_, options_.limits));
    served_.push_back({chosen.name, policy->roles(), chosen.settings});
    loaded_.push_back({std::move(host), std::move(*plugin), std::move(policy)});
    return ok();
}

bool Helper::may_connect(int socket) const {
    const Result<rpc::PeerCredentials> peer = rpc::peer_credentials(socket);
    if (peer && (peer->uid == owner_ || peer->uid == 0)) return true;
    log_(LogLevel::warning,
         peer ? "refused a connection of uid " + std::to_string(peer->uid) : peer.error().message);
    return false;
}

void Helper::accept_one(int listener) {
    UniqueFd socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) {
        const int number = errno;
        if (number == EAGAIN || number == EINTR || number == ECONNABORTED) return;
        log_(LogLevel::error, Error::from_errno(number, "accepting a connection").message);
        // Most likely no descriptor is left: poll() would return at once for ever.
        static_cast<void>(::poll(nullptr, 0, 100));
        return;
    }
    if (may_connect(socket.get())) server_->add(rpc::PacketChannel(std::move(socket)));
}

bool Helper::serve(const UniqueFd& listener, const UniqueFd& signals, const ServiceNotify& notify) {
    notify.status("serving " + std::to_string(loaded_.size()) + " plugins to uid " +
                  std::to_string(owner_));
    notify.ready();
    // A third of what the service manager allows; never on each connection, because its queue is
    // short and sending waits for it.
    const std::chrono::milliseconds between = notify.watchdog().value_or(longest_sleep) / 3;
    std::chrono::steady_clock::time_point last_sign{};
    while (true) {
        const auto now = std::chrono::steady_clock::now();
        if (notify.watchdog() && now - last_sign >= between && server_->is_healthy(hopeless)) {
            notify.alive();
            last_sign = now;
        }
        pollfd all[] = {{signals.get(), POLLIN, 0}, {listener.get(), POLLIN, 0}};
        const int count = ::poll(all, std::size(all), static_cast<int>(between.count()));
        if (count < 0) continue;
        // The libraries of the plugins leave their caches on the heap: back to the system with it
        // while nobody waits.
        if (count == 0 && server_->calls_in_flight() == 0) ::malloc_trim(0);
        if (all[0].revents != 0) break;
        if (all[1].revents != 0) accept_one(listener.get());
    }
    notify.stopping();
    if (server_->drain(options_.drain)) return true;
    log_(LogLevel::warning, "calls in flight are stopped");
    server_->cancel();
    if (server_->drain(options_.drain)) return true;
    log_(LogLevel::error, "calls in flight did not end; what they made is in the ledger");
    return false;
}

Result<void> Helper::sweep() {
    ErrorCollector errors;
    const auto add = [&](const auto& result) {
        if (!result) errors.add(result.error());
    };
    for (const Loaded& loaded : loaded_) {
        const Roles roles = loaded.plugin.roles();
        // Before what they hold.
        if (roles.vm_backend) add(roles.vm_backend->recover({}));
        if (roles.network) add(roles.network->recover({}));
        if (roles.dns) add(roles.dns->unroute());
        if (roles.storage && options_.sweep == Options::Sweep::all) add(roles.storage->recover({}));
    }
    return errors.result();
}

}  // namespace banger::root

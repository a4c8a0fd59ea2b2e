#include "daemons/bangerd-root/host.hpp"

#include "core/base/file.hpp"

namespace banger::root {

namespace {
Error no_web() {
    return {Errc::unsupported, "a plugin in bangerd-root has no way to the web",
            "Fetch in a plugin that needs no root."};
}
}  // namespace

Result<std::unique_ptr<RootHost>> RootHost::create(const PluginName& name, Settings settings,
                                                   const std::string& state, const std::string& run,
                                                   Log log) {
    std::unique_ptr<RootHost> host(new RootHost(name.str(), std::move(settings), std::move(log)));
    host->state_ = state + "/" + name.str();
    host->run_ = run + "/" + name.str();
    BANGER_TRY(ensure_private_folder(host->state_));
    BANGER_TRY(ensure_private_folder(host->run_));
    return host;
}

void RootHost::log(LogLevel level, std::string_view message) {
    log_(level, name_ + ": " + std::string(message));
}

Result<HttpResponse> RootHost::http_get(const HttpRequest&, Call&) { return no_web(); }
Result<HttpResponse> RootHost::http_download(const HttpRequest&, int, Call&) { return no_web(); }

}  // namespace banger::root

#include "core/plugins/host.hpp"

#include <sys/un.h>

#include "core/base/file.hpp"

namespace banger {

namespace {
/// What plugins may put behind their run folder: a slash, a machine's id and a word.
constexpr std::size_t room_for_sockets = 40;
}  // namespace

Result<std::unique_ptr<PluginHost>> PluginHost::create(const PluginName& name,
                                                       const PluginFolders& folders,
                                                       Settings settings, PluginLog log,
                                                       HttpClient& http) {
    std::unique_ptr<PluginHost> host(
        new PluginHost(name.str(), std::move(settings), std::move(log), http));
    host->state_ = folders.state + "/" + name.str();
    host->cache_ = folders.cache + "/" + name.str();
    host->run_ = folders.run + "/" + name.str();
    if (host->run_.size() + room_for_sockets >= sizeof(sockaddr_un::sun_path))
        return Error(Errc::invalid_argument,
                     "the folder " + host->run_ + " is too long for sockets in it",
                     "Set XDG_RUNTIME_DIR to a shorter path.");
    for (const std::string* folder : {&host->state_, &host->cache_, &host->run_})
        BANGER_TRY(ensure_private_folder(*folder));
    return host;
}

void PluginHost::log(LogLevel level, std::string_view message) {
    if (log_) log_(level, name_, message);
}

Result<HttpResponse> PluginHost::http_get(const HttpRequest& request, Call& call) {
    return BANGER_TRY(http_.get(request, call));
}

Result<HttpResponse> PluginHost::http_download(const HttpRequest& request, int sink, Call& call) {
    return BANGER_TRY(http_.download(request, sink, call));
}

Result<WebResponse> PluginHost::web_get(const WebRequest& request, Call& call) {
    return http_.get(request, call);
}

Result<WebResponse> PluginHost::web_download(const WebRequest& request, int sink, Call& call) {
    return http_.download(request, sink, call);
}

}  // namespace banger

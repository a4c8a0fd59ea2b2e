#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/values.hpp"
#include "banger/web.hpp"
#include "core/plugins/http.hpp"

namespace banger {

/// Where the lines of plugins go. Called from any thread; must not block for long.
using PluginLog =
    std::function<void(LogLevel level, std::string_view plugin, std::string_view message)>;

/// The folders below which each plugin has one of its own name.
struct PluginFolders {
    std::string state;  ///< e.g. ~/.local/state/banger/plugins
    std::string cache;  ///< e.g. ~/.cache/banger/plugins
    /// e.g. $XDG_RUNTIME_DIR/banger/plugins; short, because sockets are made below it.
    std::string run;
};

/// What one plugin sees of the world. Lives longer than the plugin.
class PluginHost final : public Host, public Web {
public:
    /// Makes the three folders (0700, with missing parents). Errc::invalid_argument when the run
    /// folder is too long for unix sockets below it; otherwise what mkdir() said. `http` is shared
    /// and outlives the host.
    static Result<std::unique_ptr<PluginHost>> create(const PluginName& name,
                                                      const PluginFolders& folders,
                                                      Settings settings, PluginLog log,
                                                      HttpClient& http);

    void log(LogLevel level, std::string_view message) override;
    [[nodiscard]] const Settings& settings() const override { return settings_; }
    [[nodiscard]] const std::string& state_folder() const override { return state_; }
    [[nodiscard]] const std::string& cache_folder() const override { return cache_; }
    [[nodiscard]] const std::string& run_folder() const override { return run_; }
    Result<HttpResponse> http_get(const HttpRequest& request, Call& call) override;
    Result<HttpResponse> http_download(const HttpRequest& request, int sink, Call& call) override;
    Result<WebResponse> web_get(const WebRequest& request, Call& call) override;
    Result<WebResponse> web_download(const WebRequest& request, int sink, Call& call) override;

private:
    PluginHost(std::string name, Settings settings, PluginLog log, HttpClient& http)
        : name_(std::move(name)),
          settings_(std::move(settings)),
          log_(std::move(log)),
          http_(http) {}
    std::string name_;
    Settings settings_;
    PluginLog log_;
    HttpClient& http_;
    std::string state_;
    std::string cache_;
    std::string run_;
};

}  // namespace banger

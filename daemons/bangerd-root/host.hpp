#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "banger/host.hpp"
#include "banger/values.hpp"

namespace banger::root {

/// Where lines go. From any thread.
using Log = std::function<void(LogLevel level, std::string_view text)>;

/// What a plugin in the helper sees of the world: its settings, folders of its own (0700), a log.
/// No web.
class RootHost final : public Host {
public:
    /// Makes the folders below `state` (/var/lib/banger-root) and `run` (/run/banger-root).
    static Result<std::unique_ptr<RootHost>> create(const PluginName& name, Settings settings,
                                                    const std::string& state,
                                                    const std::string& run, Log log);

    void log(LogLevel level, std::string_view message) override;
    [[nodiscard]] const Settings& settings() const override { return settings_; }
    [[nodiscard]] const std::string& state_folder() const override { return state_; }
    /// What can be made again lies with what must not be lost: no plugin here fetches anything.
    [[nodiscard]] const std::string& cache_folder() const override { return state_; }
    [[nodiscard]] const std::string& run_folder() const override { return run_; }
    Result<HttpResponse> http_get(const HttpRequest& request, Call& call) override;
    Result<HttpResponse> http_download(const HttpRequest& request, int sink, Call& call) override;

private:
    RootHost(std::string name, Settings settings, Log log)
        : name_(std::move(name)), settings_(std::move(settings)), log_(std::move(log)) {}
    std::string name_;
    Settings settings_;
    Log log_;
    std::string state_;
    std::string run_;
};

}  // namespace banger::root

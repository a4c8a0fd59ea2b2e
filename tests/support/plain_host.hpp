#pragma once

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "banger/host.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {

/// A Host for testing one plugin in process: three folders of its own, settings to write, what was
/// logged, and no network.
class PlainHost final : public Host {
public:
    PlainHost() {
        for (const std::string& folder : {state_, cache_, run_})
            EXPECT_TRUE(ensure_folder(folder, 0700));
    }
    void log(LogLevel, std::string_view message) override {
        const std::lock_guard lock(mutex_);
        logged.emplace_back(message);
    }
    [[nodiscard]] const Settings& settings() const override { return changeable_settings; }
    [[nodiscard]] const std::string& state_folder() const override { return state_; }
    [[nodiscard]] const std::string& cache_folder() const override { return cache_; }
    [[nodiscard]] const std::string& run_folder() const override { return run_; }
    Result<HttpResponse> http_get(const HttpRequest&, Call&) override { return no_network(); }
    Result<HttpResponse> http_download(const HttpRequest&, int, Call&) override {
        return no_network();
    }
    /// Beside the plugin's folders, for what the test makes itself.
    [[nodiscard]] std::string operator/(const std::string& name) const { return folder_ / name; }

    Settings changeable_settings;
    std::vector<std::string> logged;

private:
    static Error no_network() { return {Errc::unreachable, "this test has no network", "None."}; }

    std::mutex mutex_;
    TempFolder folder_;
    std::string state_ = folder_ / "state";
    std::string cache_ = folder_ / "cache";
    std::string run_ = folder_ / "run";
};

}  // namespace banger

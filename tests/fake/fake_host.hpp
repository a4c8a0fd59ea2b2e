#pragma once

#include "banger/host.hpp"
#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {

/// The smallest host: folders of its own, given settings, no way out.
class FakeHost final : public Host {
public:
    explicit FakeHost(Settings settings = {}) : settings_(std::move(settings)) {
        for (const std::string* folder : {&state_, &cache_, &run_})
            EXPECT_TRUE(ensure_folder(*folder, 0700));
    }
    void log(LogLevel, std::string_view) override {}
    [[nodiscard]] const Settings& settings() const override { return settings_; }
    [[nodiscard]] const std::string& state_folder() const override { return state_; }
    [[nodiscard]] const std::string& cache_folder() const override { return cache_; }
    [[nodiscard]] const std::string& run_folder() const override { return run_; }
    Result<HttpResponse> http_get(const HttpRequest&, Call&) override { return no_way_out(); }
    Result<HttpResponse> http_download(const HttpRequest&, int, Call&) override {
        return no_way_out();
    }

private:
    static Error no_way_out() {
        return {Errc::unreachable, "this host has no network", "Use another test."};
    }
    TempFolder folder_;
    Settings settings_;
    std::string state_ = folder_ / "state";
    std::string cache_ = folder_ / "cache";
    std::string run_ = folder_ / "run";
};

}  // namespace banger

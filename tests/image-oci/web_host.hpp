#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "core/plugins/http.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::image_oci {

/// A Host with the real web client and folders of its own; what was logged is kept.
class WebHost final : public Host, public Web {
public:
    explicit WebHost(HttpClient::Limits limits = {}) : http_(std::move(limits)) {}

    void log(LogLevel, std::string_view message) override {
        const std::lock_guard lock(mutex_);
        logged_ += std::string(message) + "\n";
    }
    const Settings& settings() const override { return settings_; }
    const std::string& state_folder() const override { return folder_.path(); }
    const std::string& cache_folder() const override { return folder_.path(); }
    const std::string& run_folder() const override { return folder_.path(); }
    Result<HttpResponse> http_get(const HttpRequest& request, Call& call) override {
        return BANGER_TRY(http_.get(request, call));
    }
    Result<HttpResponse> http_download(const HttpRequest& request, int sink, Call& call) override {
        return BANGER_TRY(http_.download(request, sink, call));
    }
    Result<WebResponse> web_get(const WebRequest& request, Call& call) override {
        return http_.get(request, call);
    }
    Result<WebResponse> web_download(const WebRequest& request, int sink, Call& call) override {
        return http_.download(request, sink, call);
    }
    std::string logged() const {
        const std::lock_guard lock(mutex_);
        return logged_;
    }
    /// A file of the host's own folder.
    std::string operator/(const std::string& name) const { return folder_ / name; }

private:
    HttpClient http_;
    Settings settings_;
    TempFolder folder_;
    mutable std::mutex mutex_;
    std::string logged_;
};

}  // namespace banger::image_oci

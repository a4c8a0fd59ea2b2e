#pragma once

#include <poll.h>

#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "banger/host.hpp"
#include "core/base/file.hpp"
#include "core/base/process.hpp"

namespace banger {

/// A Host whose web is one function, with folders wherever the test says.
class FakeHost : public Host {
public:
    /// Answers a request with status and body; Range is the server's business.
    using Server = std::function<std::pair<int, std::string>(const HttpRequest&)>;

    Settings settings_given;
    std::string folder;
    Server server;
    std::vector<HttpRequest> requests;
    std::vector<std::string> logged;

    void log(LogLevel, std::string_view message) override { logged.emplace_back(message); }
    const Settings& settings() const override { return settings_given; }
    const std::string& state_folder() const override { return folder; }
    const std::string& cache_folder() const override { return folder; }
    const std::string& run_folder() const override { return folder; }
    Result<HttpResponse> http_get(const HttpRequest& request, Call& call) override {
        if (call.stop().stop_requested()) return Error(Errc::cancelled, "cancelled");
        requests.push_back(request);
        if (!server) return Error(Errc::unreachable, "no network in this test");
        auto [status, body] = server(request);
        if (body.size() > request.max_body.count()) return Error(Errc::corrupt, "too large");
        return HttpResponse{status, {}, std::move(body)};
    }
    Result<HttpResponse> http_download(const HttpRequest& request, int sink, Call& call) override {
        HttpResponse response = BANGER_TRY(http_get(request, call));
        const std::string body = std::exchange(response.body, {});
        if (response.status != 200 && response.status != 206) return response;
        for (std::size_t at = 0; at < body.size(); at += piece) {
            BANGER_TRY(poll_fd(sink, POLLOUT, std::chrono::milliseconds(-1), call.stop()));
            const Result<void> written = write_all(sink, body.substr(at, piece));
            if (!written) return Error(Errc::cancelled, written.error().message);
        }
        return response;
    }

private:
    static constexpr std::size_t piece = 4096;  // PIPE_BUF: fits whole where poll() says so
};

/// A call that keeps what is reported and can be stopped.
class FakeCall : public Call {
public:
    std::stop_source source;
    std::stop_token stop() const override { return source.get_token(); }
    void report(const Progress& progress) override {
        const std::lock_guard lock(mutex_);
        reported_.push_back(progress);
        if (on_report) on_report(progress);
    }
    std::function<void(const Progress&)> on_report;
    std::vector<Progress> reported() const {
        const std::lock_guard lock(mutex_);
        return reported_;
    }

private:
    mutable std::mutex mutex_;
    std::vector<Progress> reported_;
};

}  // namespace banger

#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "banger/host.hpp"

namespace banger::contract {

/// A Host for testing one plugin in process: three folders of its own that are gone with it,
/// settings to write, what was logged, and a web of a few pages or none.
class PlainHost final : public Host {
public:
    PlainHost() {
        EXPECT_NE(::mkdtemp(folder_.data()), nullptr) << folder_;
        for (const char* name : {"state", "cache", "run"})
            EXPECT_TRUE(std::filesystem::create_directory(*this / name));
        state_ = *this / "state";
        cache_ = *this / "cache";
        run_ = *this / "run";
        for (const std::string& folder : {state_, cache_, run_})
            std::filesystem::permissions(folder, std::filesystem::perms::owner_all);
    }
    ~PlainHost() override {
        std::error_code failure;
        std::filesystem::remove_all(folder_, failure);
        EXPECT_FALSE(failure) << folder_ << ": " << failure.message();
    }
    PlainHost(const PlainHost&) = delete;
    PlainHost& operator=(const PlainHost&) = delete;

    void log(LogLevel, std::string_view message) override {
        const std::lock_guard lock(mutex_);
        logged.emplace_back(message);
    }
    [[nodiscard]] const Settings& settings() const override { return changeable_settings; }
    [[nodiscard]] const std::string& state_folder() const override { return state_; }
    [[nodiscard]] const std::string& cache_folder() const override { return cache_; }
    [[nodiscard]] const std::string& run_folder() const override { return run_; }
    Result<HttpResponse> http_get(const HttpRequest& request, Call& call) override {
        if (call.stop().stop_requested()) return stopped();
        if (pages.empty()) return no_network();
        const auto page = pages.find(request.url);
        if (page == pages.end()) return HttpResponse{404, {}, "no such page"};
        if (page->second.size() > request.max_body.count())
            return Error(Errc::corrupt, request.url + " is larger than allowed", "None.");
        return HttpResponse{200, {}, page->second};
    }
    Result<HttpResponse> http_download(const HttpRequest& request, int sink, Call& call) override {
        Result<HttpResponse> page = http_get(request, call);
        if (!page || page->status != 200) return page;
        const std::size_t from = std::min(page->body.size(), std::size_t{request.resume_from});
        const Result<void> written = write(std::string_view(page->body).substr(from), sink, call);
        if (!written) return written.error();
        return HttpResponse{request.resume_from > 0 ? 206 : 200, {}, {}};
    }
    /// Beside the plugin's folders, for what the test makes itself.
    [[nodiscard]] std::string operator/(const std::string& name) const {
        return folder_ + "/" + name;
    }

    Settings changeable_settings;
    std::vector<std::string> logged;
    /// The whole web, by URL. Empty: this host has no network.
    std::map<std::string, std::string> pages;

private:
    static Error no_network() { return {Errc::unreachable, "this test has no network", "None."}; }
    static Error stopped() { return {Errc::cancelled, "the transfer was cancelled"}; }
    /// Into a pipe that may be full for as long as it likes.
    static Result<void> write(std::string_view bytes, int sink, Call& call) {
        while (!bytes.empty()) {
            if (call.stop().stop_requested()) return stopped();
            pollfd room{sink, POLLOUT, 0};
            if (::poll(&room, 1, 20) <= 0) continue;
            const std::string_view piece = bytes.substr(0, PIPE_BUF);
            const ssize_t count = ::write(sink, piece.data(), piece.size());
            if (count < 0 && errno == EPIPE) return stopped();
            if (count < 0) return Error::from_errno(errno, "writing the body");
            bytes.remove_prefix(static_cast<std::size_t>(count));
        }
        return ok();
    }

    std::mutex mutex_;
    std::string folder_ = testing::TempDir() + "banger-test-XXXXXX";
    std::string state_;
    std::string cache_;
    std::string run_;
};

}  // namespace banger::contract

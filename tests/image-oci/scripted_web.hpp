#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "banger/web.hpp"

namespace banger::image_oci {

/// A web that is one function; what was asked is kept. Safe from any thread.
class ScriptedWeb final : public Web {
public:
    using Answer = std::function<Result<WebResponse>(const WebRequest&)>;
    explicit ScriptedWeb(Answer answer) : answer_(std::move(answer)) {}

    Result<WebResponse> web_get(const WebRequest& request, Call& call) override {
        if (call.stop().stop_requested()) return Error(Errc::cancelled, "cancelled");
        {
            const std::lock_guard lock(mutex_);
            requests_.push_back(request);
        }
        return answer_(request);
    }
    Result<WebResponse> web_download(const WebRequest& request, int, Call& call) override {
        return web_get(request, call);
    }
    std::vector<WebRequest> requests() const {
        const std::lock_guard lock(mutex_);
        return requests_;
    }

private:
    Answer answer_;
    mutable std::mutex mutex_;
    std::vector<WebRequest> requests_;
};

inline std::string authorization_of(const WebRequest& request) {
    for (const HttpHeader& header : request.headers)
        if (header.name == "Authorization") return header.value;
    return "";
}

}  // namespace banger::image_oci

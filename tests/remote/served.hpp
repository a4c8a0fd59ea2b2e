#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "core/remote/client.hpp"
#include "core/remote/server.hpp"

namespace banger::remote {

/// A server in this process that clients reach through socket pairs, and that can be "restarted".
class Served {
public:
    /// Ends the old server, with all its connections; a null `plugins` starts none.
    void serve(std::vector<ServedPlugin> plugins, ServerLimits limits = {}) {
        end();
        auto server = std::make_unique<Server>(std::move(plugins), limits, Server::Log());
        const std::lock_guard lock(mutex_);
        server_ = std::move(server);
    }
    void end() {
        std::unique_ptr<Server> old;
        const std::lock_guard lock(mutex_);
        old.swap(server_);
    }
    Connect connect() {
        return [this]() -> Result<rpc::PacketChannel> {
            auto ends = BANGER_TRY(rpc::PacketChannel::pair());
            const std::lock_guard lock(mutex_);
            if (!server_) return Error(Errc::unavailable, "no server", "Start one.");
            server_->add(std::move(ends.first));
            return std::move(ends.second);
        };
    }
    Server& server() { return *server_; }

private:
    std::mutex mutex_;
    std::unique_ptr<Server> server_;
};

}  // namespace banger::remote

#pragma once

#include <memory>
#include <string>

#include "banger/web.hpp"
#include "core/remote/client.hpp"
#include "core/remote/web_role.hpp"

namespace banger::remote {

/// The far end of it, in core.
class WebOfCore final : public WebRole {
public:
    /// `web` outlives it.
    explicit WebOfCore(Web& web) : web_(web) {}
    Result<WebAnswer> get(const WebCall& call, const UniqueFd& sink, Call& progress) override;
    Result<WebAnswer> download(const WebCall& call, const UniqueFd& sink, Call& progress) override;

private:
    Web& web_;
};

/// The near end, in the plugin's process.
class RemoteWeb final : public Web {
public:
    /// The far end serves it under the name `served_as`.
    RemoteWeb(std::shared_ptr<Client> client, std::string served_as)
        : client_(std::move(client)), served_as_(std::move(served_as)) {}
    Result<WebResponse> web_get(const WebRequest& request, Call& call) override;
    Result<WebResponse> web_download(const WebRequest& request, int sink, Call& call) override;

private:
    std::shared_ptr<Client> client_;
    std::string served_as_;
};

}  // namespace banger::remote

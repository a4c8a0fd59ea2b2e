#pragma once

#include <memory>
#include <string_view>

#include "banger/plugin.hpp"
#include "core/remote/client.hpp"

namespace banger::remote {

/// A plugin that lives in another process. Core cannot tell it from one in its own: the roles are
/// the plugin's, with the optional halves it has, and the errors are its errors. What is added:
/// Errc::unavailable when the other process is gone, timed_out, and invalid_argument for a
/// descriptor that is no descriptor. addressing() is what the server said when the client was
/// opened.
class RemotePlugin {
public:
    /// Errc::not_found when the server has no plugin of that name.
    static Result<std::unique_ptr<RemotePlugin>> open(std::shared_ptr<Client> client,
                                                      std::string_view name);
    ~RemotePlugin();
    RemotePlugin(const RemotePlugin&) = delete;
    RemotePlugin& operator=(const RemotePlugin&) = delete;

    [[nodiscard]] Roles roles() const;
    [[nodiscard]] const PluginDescription& description() const { return description_; }

private:
    explicit RemotePlugin(PluginDescription description);
    PluginDescription description_;
    std::unique_ptr<Network> network_;
    std::unique_ptr<Dns> dns_;
    std::unique_ptr<Storage> storage_;
    std::unique_ptr<ImageSource> image_source_;
    std::unique_ptr<VmBackend> vm_backend_;
};

}  // namespace banger::remote

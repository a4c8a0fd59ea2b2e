#include "banger/plugin.hpp"

#include "plugins/net-user/user_network.hpp"

namespace banger {
namespace {

class UserNetworkPlugin final : public Plugin {
public:
    explicit UserNetworkPlugin(Host& host) : network_(host) {}
    Roles roles() override { return {.network = &network_}; }

private:
    UserNetwork network_;
};

Result<std::unique_ptr<Plugin>> make_user_network(Host& host) {
    return std::unique_ptr<Plugin>(std::make_unique<UserNetworkPlugin>(host));
}

}  // namespace
}  // namespace banger

BANGER_PLUGIN("net-user", banger::make_user_network);

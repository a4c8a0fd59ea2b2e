#include "banger/plugin.hpp"

#include "plugins/net-bridge/bridge_network.hpp"

namespace banger {
namespace {

class BridgeNetworkPlugin final : public Plugin {
public:
    explicit BridgeNetworkPlugin(std::unique_ptr<BridgeNetwork> network)
        : network_(std::move(network)) {}
    Roles roles() override { return {.network = network_.get()}; }

private:
    std::unique_ptr<BridgeNetwork> network_;
};

Result<std::unique_ptr<Plugin>> make_bridge_network(Host& host) {
    std::unique_ptr<BridgeNetwork> network = BANGER_TRY(BridgeNetwork::create(host, nullptr));
    return std::unique_ptr<Plugin>(std::make_unique<BridgeNetworkPlugin>(std::move(network)));
}

}  // namespace
}  // namespace banger

BANGER_PLUGIN("net-bridge", banger::make_bridge_network);

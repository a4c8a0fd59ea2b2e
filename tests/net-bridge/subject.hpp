#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "banger/contract/network.hpp"
#include "plugins/net-bridge/bridge_network.hpp"
#include "tests/net-bridge/frames.hpp"
#include "tests/net-bridge/namespace.hpp"
#include "tests/support/plain_host.hpp"

namespace banger {

/// What of banger's there is in the namespace: interfaces, tables, rules in others' tables, the
/// host's setting, entries of the ledger. One word a thing.
std::vector<std::string> traces(const PlainHost& host);

/// BridgeNetwork on a host of its own, in the current namespace.
class BridgeFixture {
public:
    explicit BridgeFixture(Settings settings = {}) {
        host.changeable_settings = std::move(settings);
    }

    BridgeNetwork& network() {
        if (!network_) restart();
        return *network_;
    }
    void stop() { network_.reset(); }
    void restart() {
        stop();
        Result<std::unique_ptr<BridgeNetwork>> made = BridgeNetwork::create(host, hook);
        if (!made) throw std::runtime_error(made.error().text());
        network_ = std::move(*made);
    }
    /// The n-th machine's: its address ends in 10 + n.
    LinkRequest request(std::size_t n, bool nat = false) {
        const VmId vm = VmId::random();
        const std::uint32_t first = network().addressing().pool->network().bits() + 10;
        return {vm,
                contract::name_of(n),
                MacAddress::of(vm),
                Ipv4Address(first + static_cast<std::uint32_t>(n)),
                nat,
                ::getuid(),
                {}};
    }
    /// With everything that is still to come after it.
    Result<void> detach(const VmId& vm) {
        ErrorCollector errors;
        errors.add(network().detach(vm));
        errors.add(network().settle());
        return errors.result();
    }
    NetworkLink attach(std::size_t n, bool nat = false) {
        return network().attach(request(n, nat), {}).value();
    }

    PlainHost host;
    BridgeNetwork::StepHook hook;

private:
    std::unique_ptr<BridgeNetwork> network_;
};

}  // namespace banger

#pragma once

#include "banger/contract/subject.hpp"
#include "banger/contract/suite.hpp"
#include "banger/network.hpp"

namespace banger::contract {

BANGER_CONTRACT_SUITE(network);

using NetworkSubject = Subject<Network>;

class NetworkContract : public Suite<NetworkSubject> {
protected:
    /// The i-th machine's request, with a lease where the plugin wants core to reserve one.
    LinkRequest request(std::size_t i);
};

}  // namespace banger::contract

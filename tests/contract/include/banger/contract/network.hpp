#pragma once

#include "banger/contract/subject.hpp"
#include "banger/contract/suite.hpp"
#include "banger/network.hpp"

namespace banger::contract {

BANGER_CONTRACT_SUITE(network);

class NetworkSubject : public Subject<Network> {
public:
    /// Whether it finds a free port of the host for a forward that names none. In the plugin host
    /// it cannot: there are no sockets.
    virtual bool chooses_ports() { return true; }
};

class NetworkContract : public Suite<NetworkSubject> {
protected:
    /// The i-th machine's request, with a lease where the plugin wants core to reserve one.
    LinkRequest request(std::size_t i);
};

}  // namespace banger::contract

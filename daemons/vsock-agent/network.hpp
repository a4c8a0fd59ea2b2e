#pragma once

#include "banger/result.hpp"
#include "core/guest/identity.hpp"

namespace banger::agent {

/// Brings up the loopback interface.
void bring_up_loopback();

/// Gives the interface with that hardware address its address and the default route, and brings it
/// up. Statically, from here, because that takes a millisecond and works the same in every image.
Result<void> configure_network(const guest::GuestNetwork& network);

}  // namespace banger::agent

#pragma once

#include <chrono>

#include "banger/result.hpp"
#include "core/rpc/packet_channel.hpp"

namespace banger::remote {

/// Gives `end` of a pair to whoever is at the other end of `channel`, on which nothing else is
/// asked: from core to a plugin host or the other way. Errc::unavailable when nobody is there any
/// more, else what was answered.
Result<void> give_connection(rpc::PacketChannel& channel, const rpc::PacketChannel& end,
                             std::chrono::steady_clock::time_point deadline);

}  // namespace banger::remote

#pragma once

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/plugin_host/messages.hpp"
#include "core/rpc/packet_channel.hpp"

namespace banger::plugin_host {

/// Loads the plugin that bangerd sends on `calls`, in a process that has given up everything else,
/// and serves it until bangerd closes the channel. `core` is what it asks of bangerd. An Error is
/// for bangerd, that waits for the first answer.
Result<void> run_plugin(rpc::PacketChannel& calls, rpc::PacketChannel core);

}  // namespace banger::plugin_host

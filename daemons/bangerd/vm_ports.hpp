#pragma once

#include <string_view>

#include "core/guest/agent_protocol.hpp"
#include "core/protocol/vm.hpp"
#include "core/store/records.hpp"

namespace banger {

/// A listener of the guest and how this host reaches it. `zone` is what names resolve below, or
/// empty where they do not. Without a way, `note` says why there is none and what helps. Pure.
protocol::Port port_of(const VmRecord& vm, const guest::GuestPort& port, std::string_view zone);

}  // namespace banger

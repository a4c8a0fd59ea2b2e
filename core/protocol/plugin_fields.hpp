#pragma once

#include <string>

#include "core/rpc/fields.hpp"

/// What io.banger.System says of third parties' plugins besides system.hpp.
namespace banger::protocol {

struct RetryPlugin {
    std::string plugin;
};

struct SafeModeReply {
    bool is_on = false;  ///< plugins of third parties are left alone
};

}  // namespace banger::protocol

namespace banger::rpc {

template <>
struct Fields<protocol::RetryPlugin> {
    static constexpr auto list = fields(field("plugin", &protocol::RetryPlugin::plugin));
};

template <>
struct Fields<protocol::SafeModeReply> {
    static constexpr auto list = fields(field("is_on", &protocol::SafeModeReply::is_on));
};

}  // namespace banger::rpc

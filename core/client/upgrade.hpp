#pragma once

#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/client/connection.hpp"

namespace banger::client {

/// A connection that is no longer varlink's.
struct Upgraded {
    rpc::Json reply;
    UniqueFd socket;
    std::string rest;  ///< what came behind the reply already
};

/// One call with `upgrade` on a connection of its own to the daemon at `path`, which has to run
/// (Daemon::connect()). Errors as with Connection. A stop closes the connection: whatever the call
/// began ends with it.
Result<Upgraded> upgrade(const std::string& path, std::string_view method,
                         const rpc::Json& parameters, const rpc::WaitLimits& limits);

}  // namespace banger::client

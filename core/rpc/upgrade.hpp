#pragma once

#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "core/rpc/message.hpp"

/// Varlink's `upgrade`: a call after whose reply the connection carries another protocol.
namespace banger::rpc {

/// Without the NUL.
Result<std::string> write_upgrade(std::string_view method, const Json& parameters);

struct AnyCall {
    CallMessage call;
    bool is_upgrade = false;  ///< then neither `more` nor `oneway`
};
/// As read_call(), which refuses these.
Result<AnyCall> read_any_call(std::string_view text);

}  // namespace banger::rpc

#pragma once

#include <string_view>

#include "banger/result.hpp"

namespace banger {

/// The number of a signal that `vm kill` may send: ABRT, HUP, INT, KILL, QUIT or TERM, spelled so.
/// Errc::invalid_argument for every other word, numbers too: a VMM that is stopped (STOP) answers
/// nobody, and what others do is the VMM's own business.
Result<int> signal_number(std::string_view name);

}  // namespace banger

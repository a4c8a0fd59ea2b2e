#pragma once

#include <string_view>

namespace banger {

/// Of this build; the same in every program of it.
struct Version {
    std::string_view number;  ///< "0.1.0"
    std::string_view commit;  ///< abbreviated, "-dirty" when the tree was; "unknown" without git
    std::string_view built;   ///< "2026-01-31T12:00:00Z"; SOURCE_DATE_EPOCH decides when it is set
};
Version version();

}  // namespace banger

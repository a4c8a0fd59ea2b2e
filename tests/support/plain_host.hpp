#pragma once

#include "tests/base/temp_folder.hpp"
#include "tests/contract/include/banger/contract/plain_host.hpp"

namespace banger {

using contract::PlainHost;

}  // namespace banger

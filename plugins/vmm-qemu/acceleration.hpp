#pragma once

#include "core/base/kvm.hpp"

namespace banger::qemu {

/// Whether this process, and so its children, may map memory that is writable and executable at
/// once; a service with MemoryDenyWriteExecute= may not.
bool may_write_code();

}  // namespace banger::qemu

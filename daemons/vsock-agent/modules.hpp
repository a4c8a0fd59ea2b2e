#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace banger::agent {

/// What the machine has, as the conditions of /modules/list name it.
struct Hardware {
    bool pci = false;
    bool mmio = false;             ///< virtio-mmio devices that ACPI announces
    std::vector<unsigned> virtio;  ///< kinds of virtio devices: virtio 1.2, section 5
};

/// "pci", "mmio", "always", "virtio:2". Unknown conditions do not hold.
bool holds(std::string_view condition, const Hardware& hardware);

/// "virtio:d00000002v00001AF4" → 2; 0 for anything else.
unsigned virtio_kind(std::string_view modalias);

/// Loads the modules of /modules/list ("CONDITION FILE" a line, in order) whose condition holds.
/// Looks at the hardware again whenever a condition asks, because one module's devices are the next
/// one's condition. A module that does not load is said on the console; what it was for is then
/// missing.
void load_modules();

}  // namespace banger::agent

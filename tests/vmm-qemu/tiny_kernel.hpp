#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "banger/unique_fd.hpp"

namespace banger::qemu {

/// What the smallest guest does after it wrote its greeting to the serial port.
enum class TinyGuest {
    halts,  ///< sleeps for ever with interrupts off
    talks,  ///< writes its greeting again and again
};

/// An ELF file that QEMU starts as it starts a vmlinux (the PVH entry point, an ELF note of type 18
/// by "Xen"), with 21 bytes of 32-bit code in it: no guest kernel is needed to test a VMM.
std::string tiny_kernel(TinyGuest guest, std::string_view greeting);

/// The same in a memfd.
UniqueFd tiny_kernel_fd(TinyGuest guest, std::string_view greeting);

}  // namespace banger::qemu

#include "plugins/vmm-qemu/acceleration.hpp"

#include <sys/mman.h>

namespace banger::qemu {

bool may_write_code() {
    constexpr std::size_t page = 4096;
    void* const memory = ::mmap(nullptr, page, PROT_READ | PROT_WRITE | PROT_EXEC,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    ::munmap(memory, page);
    return true;
}

}  // namespace banger::qemu

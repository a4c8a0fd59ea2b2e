#include "daemons/vsock-agent/boot_state.hpp"

#include <sys/eventfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace banger::agent {

BootState* BootState::make() {
    void* memory =
        mmap(nullptr, sizeof(BootState), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    auto* state = new (memory) BootState;
    state->wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return state;
}

void BootState::wake() const { eventfd_write(wake_fd_, 1); }

void BootState::set(Text& text, std::string_view value) {
    value = value.substr(0, text.size() - 1);
    std::ranges::copy(value, text.begin());
    text[value.size()] = '\0';
}

void BootState::reach(Step step) {
    reached_.fetch_or(1U << step);
    wake();
}

void BootState::set_trouble(Step step, std::string_view why) {
    set(trouble_[step], why);
    troubled_.fetch_or(1U << step);
    wake();
}

std::string BootState::trouble(Step step) const {
    return (troubled_ & (1U << step)) != 0 ? std::string(trouble_[step].data()) : std::string();
}

void BootState::fail(std::string_view why) {
    set(failure_, why);
    failed_ = true;
    wake();
}

std::string BootState::failure() const {
    return failed_ ? std::string(failure_.data()) : std::string();
}

}  // namespace banger::agent

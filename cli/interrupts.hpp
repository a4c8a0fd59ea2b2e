#pragma once

#include "banger/unique_fd.hpp"

namespace banger::cli {

/// SIGINT, SIGTERM and SIGHUP as a descriptor: while one of these exists they do not end the
/// process but make fd() readable. One that was ignored from the start (nohup) stays so. Made
/// before any thread; children start with an empty signal mask (core/base/child.hpp).
class Interrupts {
public:
    Interrupts();
    Interrupts(const Interrupts&) = delete;
    Interrupts& operator=(const Interrupts&) = delete;

    [[nodiscard]] int fd() const { return fd_.get(); }
    /// Takes what has come since; the first signal ever seen, or 0.
    int take();
    /// As a shell reports it: 128 and the signal.
    [[nodiscard]] int exit_status() const { return 128 + first_; }

private:
    UniqueFd fd_;
    int first_ = 0;
};

}  // namespace banger::cli

#pragma once

#include <pthread.h>

#include <csignal>

namespace banger {

/// While it lives the calling thread takes no signal, and a thread that it starts meanwhile never
/// does: a signal that is blocked only in the other threads would be lost in one that is not.
class BlockedSignals {
public:
    BlockedSignals() {
        sigset_t all;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    BlockedSignals(const BlockedSignals&) = delete;
    BlockedSignals& operator=(const BlockedSignals&) = delete;
    ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

private:
    sigset_t before_;
};

}  // namespace banger

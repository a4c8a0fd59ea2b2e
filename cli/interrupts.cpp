#include "cli/interrupts.hpp"

#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>

namespace banger::cli {

Interrupts::Interrupts() {
    sigset_t caught;
    ::sigemptyset(&caught);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction action {};
        ::sigaction(signal, nullptr, &action);
        if (action.sa_handler != SIG_IGN) ::sigaddset(&caught, signal);
    }
    ::sigprocmask(SIG_BLOCK, &caught, nullptr);
    fd_.reset(::signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK));
}

int Interrupts::take() {
    signalfd_siginfo info;
    while (::read(fd_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info))
        if (first_ == 0) first_ = static_cast<int>(info.ssi_signo);
    return first_;
}

}  // namespace banger::cli

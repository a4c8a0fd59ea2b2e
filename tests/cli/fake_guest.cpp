// fake-guest: the guest's agent on standard input (a stream socket), with this machine as its
// image.
#include <fcntl.h>
#include <unistd.h>

#include "daemons/vsock-agent/boot_state.hpp"
#include "daemons/vsock-agent/server.hpp"

int main() {
    using namespace banger;
    agent::BootState* const state = agent::BootState::make();
    // A command that outlives this guest must not keep its stream open.
    UniqueFd stream(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    ::close(STDIN_FILENO);
    if (state == nullptr || !stream) return 1;
    state->reach(agent::BootState::handed_over);
    agent::AgentServer(
        {{}, std::move(stream)}, *state, [](const agent::BootState&) {}, "/")
        .run();
    return 1;
}

// fake-guest: the guest's agent on standard input (a stream socket), with this machine as its
// image.
#include <unistd.h>

#include "daemons/vsock-agent/boot_state.hpp"
#include "daemons/vsock-agent/server.hpp"

int main() {
    using namespace banger;
    agent::BootState* const state = agent::BootState::make();
    UniqueFd stream(::dup(STDIN_FILENO));
    ::close(STDIN_FILENO);
    if (state == nullptr || !stream) return 1;
    state->reach(agent::BootState::handed_over);
    agent::AgentServer(
        {{}, std::move(stream)}, *state, [](const agent::BootState&) {}, "/")
        .run();
    return 1;
}

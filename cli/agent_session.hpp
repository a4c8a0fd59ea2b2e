#pragma once

#include <optional>

#include "banger/result.hpp"
#include "cli/interrupts.hpp"
#include "core/protocol/exec.hpp"

/// A command in a guest that has no sshd: through bangerd and the guest's agent.
namespace banger::cli {

struct Session;

/// How it ended.
struct AgentEnd {
    int status = 0;  ///< exit status, or 128 and the signal
    bool was_interrupted = false;
};

/// Runs it with our standard streams; with a terminal in `request`, ours is raw until this returns,
/// on whatever way. Input is taken as the command takes it, so what it does not read stays ours.
///
/// An interrupt goes to the command as the same signal; when it has not ended a few seconds later
/// it is hung up. When our output has nobody to read it any more, the command is hung up and the
/// status is that of SIGPIPE. An error: it never began (Errc as bangerd says), or nobody knows how
/// it ended (Errc::unavailable).
Result<AgentEnd> run_by_agent(Session& session, protocol::ExecInVm request, Interrupts& interrupts);

}  // namespace banger::cli

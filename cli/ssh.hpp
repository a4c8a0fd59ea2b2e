#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "cli/interrupts.hpp"
#include "core/base/child.hpp"
#include "core/protocol/vm.hpp"

namespace banger::cli {

/// One session or command in a guest.
struct SshCall {
    std::string program;  ///< ssh
    protocol::SshEndpoint endpoint;
    std::string key;
    std::string known_hosts;
    /// Words of the command; nothing for a shell.
    std::optional<std::vector<std::string>> command;
    bool wants_terminal = false;
    std::string scratch;  ///< folder of this call: `up`, `log`
};

/// What becomes of the words on the far side's shell: each quoted, so that they arrive as they are.
std::string remote_command(const std::vector<std::string>& words);

/// The program with its arguments. Pure. Nothing of the user's ssh configuration, agent or
/// known_hosts is looked at.
Command ssh_command(const SshCall& call);

/// How it ended.
struct SshEnd {
    /// The connection was up and the command or shell began. Without it, `log` says why not.
    bool has_connected = false;
    /// The remote exit status. ssh's own 255 is told from the command's: see is_lost.
    int status = 0;
    /// The connection broke while the command ran: status is ssh's.
    bool is_lost = false;
    bool was_interrupted = false;
    std::string log;  ///< what ssh itself said, one line
    std::chrono::milliseconds until_connected{0};
};

/// Runs it with our standard streams. Tries again while the guest's sshd does not answer yet, until
/// `patience` has passed. An interrupt ends it: ssh gets the signal too, and a few seconds to put
/// the terminal back. `scratch` of the call is made below `run_folder` and removed again.
Result<SshEnd> run_ssh(SshCall call, const std::string& run_folder,
                       std::chrono::milliseconds patience, Interrupts& interrupts);

}  // namespace banger::cli

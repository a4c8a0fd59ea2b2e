#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "cli/interrupts.hpp"
#include "core/base/child.hpp"
#include "core/protocol/vm.hpp"

namespace banger::cli {

/// A port of this host's loopback and one that the guest's own programs reach on theirs.
struct ForwardedPort {
    std::uint16_t host = 0;
    std::uint16_t guest = 0;
    friend bool operator==(const ForwardedPort&, const ForwardedPort&) = default;
};

/// One session or command in a guest.
struct SshCall {
    std::string program;  ///< ssh
    protocol::SshEndpoint endpoint;
    std::string key;
    std::string known_hosts;
    /// Words of the command; nothing for a shell.
    std::optional<std::vector<std::string>> command;
    std::string folder;  ///< where it begins; empty: where a login does
    bool wants_terminal = false;
    bool forwards_agent = false;
    bool is_silent = false;  ///< none of our streams: only to see that the connection comes up
    /// Socket of the connection that later calls use again; empty: a connection of its own.
    std::string control_path;
    std::string scratch;  ///< folder of this call: `up`, `log`
    /// Instead of a command or shell: these ports, until it ends.
    std::vector<ForwardedPort> forwards = {};
    std::function<void()> on_connected = {};
};

/// What becomes of the words on the far side's shell: each quoted, so that they arrive as they are.
std::string remote_words(const std::vector<std::string>& words);
/// What the far side's shell is given. It stays until the command has ended, because only then does
/// a death by signal reach us as 128 and the number; what it would say to that itself is dropped. A
/// folder that is not there ends with 125. Empty for a plain login shell.
std::string remote_command(const std::optional<std::vector<std::string>>& words,
                           const std::string& folder);

/// The program with its arguments. Pure. Nothing of the user's ssh configuration, agent or
/// known_hosts is looked at.
Command ssh_command(const SshCall& call);

/// A script for the far side's shell with streams of the caller's choice: no terminal, no mark.
/// `log` is where ssh says what is wrong.
Command ssh_script(const SshCall& call, const std::string& script);

/// Whether somebody listens on this socket. Removes one where nobody does.
bool is_kept(const std::string& control_path);
/// Where a machine's connection is kept: below `run_folder`, by id and start, so that one of
/// another boot is never met. Empty when such a path is too long for a socket.
std::string control_path_of(const std::string& run_folder, const protocol::Vm& vm);
/// Ends every kept connection to this machine, of whatever boot. "None" is success.
void drop_kept_connections(const std::string& run_folder, const std::string& id);

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

#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "cli/command.hpp"
#include "cli/interrupts.hpp"
#include "cli/ssh.hpp"

/// Into a machine that is there, by ssh: what run, ssh, exec and workspaces have in common.
namespace banger::cli {

struct Session;

struct SshKey {
    std::string path;
    std::string public_line;
};
/// The key that every machine of the user's lets in; made at the first call.
Result<SshKey> user_key(const Session& session);

/// A call to this machine without a command. Errc::wrong_state when it does not run.
Result<SshCall> ssh_call(const Session& session, const protocol::Vm& vm);

/// The same once its sshd answers, which is waited for: the calls that follow share a connection.
/// Errc::timed_out says which probe failed and what the console showed last; Errc::cancelled.
Result<SshCall> connect_ssh(Session& session, const protocol::Vm& vm, Interrupts& interrupts);

/// What somebody wants in there.
struct SshWish {
    std::optional<std::vector<std::string>> command;  ///< nothing: a shell
    std::string folder;                               ///< empty: where a login begins
    bool forwards_agent = false;
};

/// How it was.
struct Stay {
    int status = exit_not_run;  ///< for banger to end with
    bool has_connected = false;
    std::chrono::milliseconds until_connected{0};
    std::chrono::milliseconds took{0};  ///< after that
};
/// Session or command with our streams. Says what went wrong; returns when it is over.
Stay stay_in(Session& session, Context& context, const protocol::Vm& vm, const SshWish& wish,
             Interrupts& interrupts);

}  // namespace banger::cli

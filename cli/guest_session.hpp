#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "cli/command.hpp"
#include "cli/interrupts.hpp"
#include "cli/ssh.hpp"
#include "core/base/child.hpp"

/// Into a machine that is there, by ssh, or where the image has no sshd through the guest's agent:
/// what run, ssh, exec and workspaces have in common.
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

/// Whether the way in is the guest's agent: it says that the image has no sshd. One that does not
/// answer is taken to have one, which is then waited for.
bool is_without_sshd(Session& session, const protocol::Vm& vm);

/// A script for the guest's shell, as root, by a `banger vm ssh` of its own, which knows the way.
/// With streams of the caller's choice.
Command script_by_banger(const Context& context, const protocol::Vm& vm, const std::string& script);

/// Runs scripts in the guest, by ssh or through the agent, as root.
using ScriptCommand = std::function<Command(const std::string& script)>;
/// Once the guest's sshd answers, which is waited for: the calls that follow share a connection.
/// `log_folder` gets the file `log` with ssh's complaints. Errc::timed_out says which probe failed
/// and what the console showed last; Errc::cancelled.
Result<ScriptCommand> connect_scripts(Session& session, const Context& context,
                                      const protocol::Vm& vm, const std::string& log_folder,
                                      Interrupts& interrupts);

/// What somebody wants in there.
struct StayWish {
    std::optional<std::vector<std::string>> command;  ///< nothing: a shell
    std::string folder;                               ///< empty: where a login begins
    bool forwards_agent = false;
    /// The image is run: its entrypoint counts. Only through the agent, as the next ones.
    bool is_run = false;
    std::optional<std::vector<std::string>> entrypoint;  ///< instead of the image's
    std::optional<std::string> user;                     ///< instead of the image's
};
/// What `--user` and `--entrypoint` say.
void add_flags(StayWish& wish, const Arguments& arguments);
Option user_option();

/// How it was.
struct Stay {
    int status = exit_not_run;  ///< for banger to end with
    bool has_connected = false;
    std::chrono::milliseconds until_connected{0};
    std::chrono::milliseconds took{0};  ///< after that
};
/// Session or command with our streams. Says what went wrong; returns when it is over.
Stay stay_in(Session& session, Context& context, const protocol::Vm& vm, const StayWish& wish,
             Interrupts& interrupts);

}  // namespace banger::cli

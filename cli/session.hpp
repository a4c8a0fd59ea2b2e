#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "cli/command.hpp"
#include "cli/interrupts.hpp"
#include "cli/render/terminal.hpp"
#include "core/client/daemon.hpp"
#include "core/config/paths.hpp"
#include "core/protocol/image_fields.hpp"
#include "core/protocol/system_fields.hpp"
#include "core/protocol/vm_fields.hpp"

/// What most commands begin with, and the flags that they share.
namespace banger::cli {

/// The daemon, and the user's own files.
struct Session {
    PathEnvironment environment;
    Paths user_paths;  ///< of user mode: ssh material is the user's in both
    client::Daemon daemon;
};

/// Connects at the first call. Warnings go to standard error.
Result<Session> open_session(Context& context);
/// Without a daemon: for what runs before one is needed.
Result<client::DaemonPlace> daemon_place(const Context& context);

Option format_option();
Option quiet_option(const std::string& help);
[[nodiscard]] bool wants_json(const Arguments& arguments);

/// Does one thing to each of the named, several at once, each with a connection of its own. What
/// `work` returns is printed as a line, in the order given, as soon as it is that one's turn. A
/// failure is printed likewise and the others go on; the exit status is then 1.
using Work = std::function<Result<std::string>(client::Daemon& daemon, const std::string& name)>;
Result<int> for_each(const std::vector<std::string>& names, Session& session, Context& context,
                     const Work& work);

/// Calls `work` for each index below `count`, several at once, each with a connection of its own;
/// returns when all are done.
using IndexedWork = std::function<void(client::Daemon& daemon, std::size_t index)>;
Result<void> run_each(std::size_t count, Session& session, const IndexedWork& work);

/// The words that were given, or the names of the machines that run.
Result<std::vector<std::string>> named_or_running(const Arguments& arguments, Session& session);

/// The exit status of a call that failed. One that a signal ended (Errc::cancelled) is told with
/// `cancelled` and ends as a shell reports signals; everything else is printed and is `status`.
int report_failure(const Error& error, Context& context, Interrupts& interrupts,
                   std::string_view cancelled, int status);

/// As `--format json` prints it.
template <class T>
std::string json_text(const T& value) {
    return rpc::encode(value).pretty_text() + "\n";
}

}  // namespace banger::cli

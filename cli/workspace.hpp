#pragma once

#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "cli/command.hpp"
#include "cli/interrupts.hpp"
#include "core/protocol/vm.hpp"
#include "core/workspace/copy_in.hpp"

/// A repository into a machine: what `run PATH`, `workspace prepare` and `exec --auto-prepare`
/// share.
namespace banger::cli {

struct Session;

/// Asks for a stop when a signal comes, and leaves the signal to be taken.
class StopOnInterrupt {
public:
    explicit StopOnInterrupt(const Interrupts& interrupts);
    ~StopOnInterrupt();
    StopOnInterrupt(const StopOnInterrupt&) = delete;
    StopOnInterrupt& operator=(const StopOnInterrupt&) = delete;
    [[nodiscard]] std::stop_token token() const { return source_.get_token(); }

private:
    std::stop_source source_;
    UniqueFd end_;
    std::jthread watcher_;
};

/// What is to be copied, looked at and found possible.
struct CopyWish {
    workspace::HostGit git;
    workspace::CopyPlan plan;
};

/// --branch, --from, --include-untracked, --dry-run: of `run` and `prepare`.
std::vector<Option> copy_options();
Option forward_agent_option();

/// From the flags and a folder as the user named it. Errc::invalid_argument is a usage error.
Result<CopyWish> copy_wish(const Arguments& arguments, const std::string& path,
                           std::stop_token stop);
/// What the machine remembers, once more, for its repository as it is now.
Result<CopyWish> copy_wish_again(const protocol::Workspace& workspace, std::stop_token stop);

/// The one line about files that are not copied.
void say_left_out(const CopyWish& wish, Context& context, bool is_quiet);
/// For --dry-run.
int print_files(const CopyWish& wish, Context& context);

/// Copies and has the machine remember it. Waits for sshd. Errors also of connect_ssh().
Result<void> copy_workspace(Session& session, Context& context, const protocol::Vm& vm,
                            const CopyWish& wish, bool is_quiet, Interrupts& interrupts);

/// Has mise install what the repository asks for, as well as it can: a failure is a note. In the
/// background unless `is_awaited`; the log stays in the guest.
Result<void> bootstrap_tools(Session& session, Context& context, const protocol::Vm& vm,
                             const CopyWish& wish, bool is_awaited, Interrupts& interrupts);

/// What has happened to the source since it was copied: a clause for a sentence, or nothing.
Result<std::string> drift_of(const protocol::Workspace& workspace, std::stop_token stop);

}  // namespace banger::cli

#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "core/workspace/copy_in.hpp"

/// What a full copy sends besides the working tree's files. Internal to core/workspace.
namespace banger::workspace {

/// A file below .git, named as it will be in the guest.
struct GitFile {
    std::string from;  ///< absolute, on the host
    std::string to;    ///< ".git/objects/…"
    bool is_config = false;
};

/// Every file of the repository's .git, without locks, sockets and other checkouts' parts. Errors:
/// unsupported (its objects lie in another repository, or it is a linked worktree with submodules).
Result<std::vector<GitFile>> list_git_files(const CopyPlan& plan);

/// The files of the working tree with those of every submodule that is checked out, and folders for
/// the others; adds to `files` and `left_out` of the plan.
Result<void> add_submodules(const HostGit& git, CopyPlan& plan, std::stop_token stop);

}  // namespace banger::workspace

#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "core/workspace/host_git.hpp"

/// A repository of the user's on this host, read only. Names of files are bytes.
namespace banger::workspace {

struct Repository {
    std::string root;        ///< of the working tree, absolute
    std::string git_dir;     ///< absolute
    std::string common_dir;  ///< where objects and branches are; differs in a linked worktree
    std::string head;        ///< commit
    std::string branch;      ///< empty: detached
    [[nodiscard]] bool is_linked() const { return git_dir != common_dir; }
};

/// The repository that `path` lies in. Errors: not_found (no such folder, not in a repository),
/// unsupported (bare), wrong_state (no commit yet).
Result<Repository> open_repository(const HostGit& git, const std::string& path,
                                   std::stop_token stop);

/// The commit that a user named.
Result<std::string> find_commit(const HostGit& git, const Repository& repository,
                                const std::string& revision, std::stop_token stop);

/// A path whose content in the working tree, or whose entry in the index, differs from HEAD.
struct ChangedPath {
    std::string path;
    /// What the index has, when that differs from HEAD: "100644 OID"; "0" when it is not in the
    /// index.
    std::string staged;
    /// Has to be carried as a file although git calls it unchanged: its content comes out of a
    /// filter that the guest has not got.
    bool is_filtered = false;
};

struct Listing {
    std::vector<std::string> tracked;  ///< without submodules
    std::vector<std::string> submodules;
    std::vector<ChangedPath> changed;    ///< against HEAD, deleted ones too
    std::vector<std::string> untracked;  ///< not ignored; without nested repositories
    std::size_t nested = 0;              ///< repositories inside that git does not track
    /// Of what status said and of the times and sizes of changed files: equal as long as nothing
    /// has happened here.
    std::string fingerprint;
    std::string untracked_fingerprint;
};

Result<Listing> list_repository(const HostGit& git, const Repository& repository,
                                std::stop_token stop);

/// What `git status` says, as a Listing without `tracked` and `submodules`. Quick: for telling
/// whether a repository has moved on.
Result<Listing> status_of(const HostGit& git, const Repository& repository, bool with_untracked,
                          std::stop_token stop);

/// The parts of `text` that end in a NUL.
std::vector<std::string> split_nul(std::string_view text);

/// A remote's URL without user name, password and token. Nothing for one that is a path of this
/// host. Pure.
std::optional<std::string> public_url(const std::string& url);

}  // namespace banger::workspace

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "core/base/child.hpp"
#include "core/workspace/repository.hpp"

/// Copies a repository of this host into a guest.
///
/// Two steps, so that everything that can be refused is refused before anything is made:
/// plan_copy() looks at the host alone, copy_in() does it over one connection.
///
/// An overlay sends one pack with the base commit and nothing before it, made here with its index,
/// and the files that differ from that commit; the guest's own git takes the rest out of the pack.
/// So each byte crosses the link once and compressed, and nothing is hashed in the guest. A guest
/// without git is sent all files instead. A full copy sends the tree and .git as they are.
namespace banger::workspace {

enum class Mode { overlay, full_copy };
std::string to_string(Mode mode);
std::optional<Mode> parse_mode(const std::string& word);

struct CopyRequest {
    std::string source;  ///< a folder in the repository
    std::string guest_path = "/root/repo";
    std::optional<std::string> branch;  ///< to make in the guest; otherwise named as on the host
    std::optional<std::string> from;    ///< what it begins with; otherwise HEAD
    bool with_untracked = false;
    Mode mode = Mode::overlay;
    bool is_readonly = false;
    bool is_forced = false;  ///< replaces what was changed in the guest
};

struct CopyPlan {
    CopyRequest request;
    Repository repository;
    Listing listing;
    std::string base;                ///< commit that the guest begins with
    std::vector<std::string> files;  ///< what the guest will have, sorted
    /// Of these, what an overlay takes out of the base commit; the others are sent.
    std::vector<std::string> in_base;
    std::size_t left_out = 0;  ///< untracked files that are not copied
    /// It asks for tools of mise: .mise.toml, mise.toml or .tool-versions in its root.
    bool wants_tools = false;
    [[nodiscard]] std::string fingerprint() const;
};

/// Errors besides those of open_repository(): unsupported (submodules, with the flag that helps),
/// invalid_argument (a branch or guest path that cannot be), not_found (the revision).
Result<CopyPlan> plan_copy(const HostGit& git, const CopyRequest& request, std::stop_token stop);

/// The command that runs this script by a POSIX shell in the guest, as root; the streams are set by
/// the caller.
using GuestShell = std::function<Command(const std::string& script)>;

struct CopyResult {
    std::size_t files = 0;
    std::vector<std::string> notes;  ///< sentences: what changed while it was copied
};

/// On failure or cancellation the guest's folder may be half filled; it says so itself, and the
/// next call begins anew there. Errors: wrong_state (the folder holds something else, or changes
/// made in the guest), cancelled, unreachable.
/// `scratch` is a folder of the caller's on a disk: the pack is made there and removed again.
Result<CopyResult> copy_in(const HostGit& git, const CopyPlan& plan, const GuestShell& shell,
                           const std::string& scratch,
                           const std::function<void(const Progress&)>& on_progress,
                           std::stop_token stop);

/// A place in a guest that may become a checkout: absolute, plain, not a system folder.
Result<void> check_guest_path(const std::string& path);

}  // namespace banger::workspace

#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "core/workspace/copy_in.hpp"
#include "core/workspace/tar_stream.hpp"

/// The .git of an overlay, made on the host without writing in the host's. Internal to
/// core/workspace.
namespace banger::workspace {

/// What git is asked for the ids of a commit, its trees and its files, one a line, and of nothing
/// before it.
std::vector<std::string> listing_of(const std::string& commit);

/// A pack with the base commit, its trees and files, and what is staged; in `folder`. What is in
/// `had`, such a list, is left out.
struct Pack {
    std::string path;  ///< without ".pack" and ".idx"
    std::string name;  ///< "pack-0123…"; empty: nothing is missing, and there is no file
    std::uint64_t size = 0;
};
Result<Pack> make_pack(const HostGit& git, const CopyPlan& plan, const std::string& had,
                       const std::string& folder, std::stop_token stop);

/// Everything in .git but the pack and the index.
Result<void> add_git_files(const HostGit& git, const CopyPlan& plan, TarStream& tar,
                           std::stop_token stop);

struct Identity {
    std::string name;
    std::string email;
};
/// Who the user is outside of any repository; empty where git does not know.
Result<Identity> global_identity(const HostGit& git, std::stop_token stop);

/// A configuration file of git without what belongs on this host alone: credentials in URLs,
/// headers, helpers, included files, paths.
Result<std::string> public_config(const HostGit& git, const std::string& path,
                                  std::stop_token stop);

}  // namespace banger::workspace

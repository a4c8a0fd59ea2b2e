#pragma once

#include <string>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"
#include "core/base/child.hpp"

/// Where one build happens: WORK/banger-debian-XXXXXX, and what to do about those left behind.
///
/// The folder lies below a shared one because mmdebstrap's user namespace must be able to walk to
/// it, which it cannot through a private home. It is ours, mode 0711, with a locked file
/// `owner` in it that names the process of mmdebstrap. The lock ends with us, however we end; so
/// whoever can take the lock of such a folder has found one whose daemon died, and ends the build
/// and removes the folder.
///
/// Files below it may belong to ids of the namespace. Then mmdebstrap's own helper removes them.
namespace banger::image_debian {

class BuildFolder {
public:
    /// Makes the folder. Errc::no_space, Errc::not_found (no such work folder).
    static Result<BuildFolder> make(const std::string& work_folder, const std::string& mmdebstrap);
    BuildFolder(BuildFolder&&) noexcept = default;
    BuildFolder& operator=(BuildFolder&&) = delete;
    /// Removes the folder if remove() was not called; a failure then is found by the next reap().
    ~BuildFolder();

    [[nodiscard]] const std::string& path() const { return path_; }
    /// Call it right after the start, so that a later daemon can end the process.
    Result<void> record(const ProcessId& process);
    /// Nothing may run in it any more.
    Result<void> remove();

private:
    BuildFolder(std::string path, std::string mmdebstrap, UniqueFd lock);
    std::string path_;
    std::string mmdebstrap_;
    UniqueFd lock_;
};

/// Copies the packages of an unfinished build in `build_folder` to `packages` (made if missing),
/// each complete or not at all. Best effort: what cannot be read is downloaded again.
void rescue_packages(const std::string& build_folder, const std::string& packages);

/// Ends the builds of dead daemons of this user in `work_folder`, and leaves their folders to
/// reap_build_folders(), which may take seconds.
void end_orphaned_builds(const std::string& work_folder);

/// Ends and removes what dead daemons of this user left in `work_folder`; their packages go to
/// `packages`. Returns how many there were.
Result<int> reap_build_folders(const std::string& work_folder, const std::string& mmdebstrap,
                               const std::string& packages);

}  // namespace banger::image_debian

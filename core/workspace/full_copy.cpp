#include "core/workspace/full_copy.hpp"

#include <sys/stat.h>

#include <array>
#include <cerrno>

#include "core/base/file.hpp"

namespace banger::workspace {

namespace {

bool is_left_out(const std::string& relative) {
    return relative == "worktrees" || relative.ends_with(".lock") ||
           relative.find("fsmonitor--daemon") != relative.npos || relative == "banger";
}

Result<void> walk(const std::string& folder, const std::string& inside, const std::string& to,
                  std::vector<GitFile>& files) {
    for (const std::string& name : BANGER_TRY(list_folder(folder + inside))) {
        const std::string relative = inside.empty() ? name : inside.substr(1) + "/" + name;
        if (is_left_out(relative)) continue;
        const std::string path = folder + "/" + relative;
        struct stat status {};
        if (::lstat(path.c_str(), &status) != 0) {
            if (errno == ENOENT) continue;  // git tidies up now and then
            return Error::from_errno(errno, "looking at " + path);
        }
        if (S_ISDIR(status.st_mode))
            BANGER_TRY(walk(folder, "/" + relative, to, files));
        else if (relative == "objects/info/alternates" ||
                 relative.ends_with("/objects/info/alternates"))
            return Error(Errc::unsupported, "objects of this repository lie in another: " + path,
                         "Fetch them here first: git repack -a -d && rm " + path);
        else if (S_ISREG(status.st_mode) || S_ISLNK(status.st_mode))
            files.push_back({path, to + "/" + relative,
                             relative == "config" || relative.ends_with("/config") ||
                                 relative == "config.worktree"});
    }
    return ok();
}

}  // namespace

Result<std::vector<GitFile>> list_git_files(const CopyPlan& plan) {
    const Repository& repository = plan.repository;
    std::vector<GitFile> files;
    BANGER_TRY(walk(repository.common_dir, "", ".git", files));
    if (repository.is_linked()) {
        std::erase_if(files, [](const GitFile& file) {
            return file.to == ".git/HEAD" || file.to == ".git/index" || file.to == ".git/ORIG_HEAD";
        });
        for (const char* name : {"HEAD", "index"})
            files.push_back({repository.git_dir + "/" + name, ".git/" + std::string(name)});
    }
    return files;
}

Result<void> add_submodules(const HostGit& git, CopyPlan& plan, std::stop_token stop) {
    if (plan.repository.is_linked() && !plan.listing.submodules.empty())
        return Error(Errc::unsupported,
                     plan.repository.root + " is a linked worktree that has submodules",
                     "Copy the main checkout instead: git worktree list");
    for (const std::string& path : plan.listing.submodules) {
        const std::string folder = plan.repository.root + "/" + path;
        if (!path_exists(folder + "/.git")) continue;  // not checked out
        CopyPlan inner;
        inner.repository = BANGER_TRY(open_repository(git, folder, stop));
        inner.listing = BANGER_TRY(list_repository(git, inner.repository, stop));
        BANGER_TRY(add_submodules(git, inner, stop));
        const auto add = [&](const std::vector<std::string>& names) {
            for (const std::string& name : names)
                plan.files.push_back(path + "/" + name);
        };
        add(inner.listing.tracked);
        add(inner.listing.untracked);
        add(inner.files);
        plan.files.push_back(path + "/.git");
    }
    return ok();
}

}  // namespace banger::workspace

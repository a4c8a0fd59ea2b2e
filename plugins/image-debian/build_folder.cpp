#include "plugins/image-debian/build_folder.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "plugins/image-debian/user_unit.hpp"

namespace banger::image_debian {

namespace {

constexpr std::string_view prefix = "banger-debian-";
constexpr std::string_view owner_file = "/owner";

/// The roots that mmdebstrap laid out in a build folder.
std::vector<std::string> roots_in(const std::string& build_folder) {
    std::vector<std::string> roots;
    const Result<std::vector<std::string>> names = list_folder(build_folder);
    if (!names) return roots;
    for (const std::string& name : *names)
        if (name.starts_with("mmdebstrap.")) roots.push_back(build_folder + "/" + name);
    return roots;
}

Result<void> remove_build_folder(const std::string& path, const std::string& mmdebstrap) {
    if (::geteuid() != 0) {
        for (const std::string& root : roots_in(path)) {
            Command command;
            command.program = mmdebstrap;
            command.arguments = {"--unshare-helper", "find", root,     "-xdev",
                                 "-mindepth",        "1",    "-delete"};
            command.environment = minimal_environment();
            if (is_confined()) command = as_user_unit(command, unit_of(path) + "-removal");
            // Its own report is not needed: what it leaves, the next step complains about.
            BANGER_TRY(
                run_command(std::move(command), std::chrono::minutes(5), ByteCount::kib(64), {}));
        }
    }
    return remove_tree(path);
}

/// Ends what a dead daemon started in this folder. The group is mmdebstrap's own session; its
/// process namespace ends with it.
void end_orphan(const std::string& build_folder) {
    if (is_confined()) (void)stop_unit(unit_of(build_folder));
    const Result<std::string> text =
        read_file(build_folder + std::string(owner_file), ByteCount::kib(4));
    if (!text) return;
    ProcessId process;
    unsigned long long start_time = 0;
    long long pid = 0;
    if (std::sscanf(text->c_str(), "%lld %llu", &pid, &start_time) != 2 || pid <= 1) return;
    process.pid = pid;
    process.start_time = start_time;
    if (!is_running(process)) return;
    ::kill(-static_cast<pid_t>(pid), SIGKILL);
    // One that is stuck in the kernel keeps its files; the removal then fails and says so.
    [[maybe_unused]] const Result<void> ended = kill_and_wait(process);
}

/// A folder that is just being made has no lock yet, and is still closed to others.
bool is_being_made(const std::string& path, const struct stat& info) {
    constexpr std::chrono::hours patience(1);
    const auto age = std::chrono::system_clock::now() -
                     std::chrono::system_clock::from_time_t(info.st_mtim.tv_sec);
    return (info.st_mode & 07777) == 0700 && !path_exists(path + std::string(owner_file)) &&
           age < patience;
}

struct Abandoned {
    std::string path;
    UniqueFd lock;
};

/// The folders whose daemon died, each locked by us.
Result<std::vector<Abandoned>> find_abandoned(const std::string& work_folder) {
    const std::vector<std::string> names = BANGER_TRY(list_folder(work_folder));
    std::vector<Abandoned> found;
    for (const std::string& name : names) {
        if (!name.starts_with(prefix)) continue;
        const std::string path = work_folder + "/" + name;
        struct stat info {};
        if (::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) ||
            info.st_uid != ::geteuid() || is_being_made(path, info))
            continue;
        Result<UniqueFd> lock = try_lock_file(path + std::string(owner_file));
        if (lock) found.push_back({path, *std::move(lock)});
    }
    return found;
}

}  // namespace

BuildFolder::BuildFolder(std::string path, std::string mmdebstrap, UniqueFd lock)
    : path_(std::move(path)), mmdebstrap_(std::move(mmdebstrap)), lock_(std::move(lock)) {}

Result<BuildFolder> BuildFolder::make(const std::string& work_folder,
                                      const std::string& mmdebstrap) {
    std::string path = work_folder + "/" + std::string(prefix) + "XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) {
        Error error = Error::from_errno(errno, "making a build folder in " + work_folder);
        error.remedy = "Set work_folder in [plugin.image-debian] to a folder that you may write.";
        return error;
    }
    Result<UniqueFd> lock = try_lock_file(path + std::string(owner_file));
    if (!lock) return std::move(lock).error();
    BuildFolder folder(path, mmdebstrap, *std::move(lock));
    // Others may pass through, and see nothing.
    if (::chmod(path.c_str(), 0711) != 0)
        return Error::from_errno(errno, "opening the build folder " + path);
    return folder;
}

BuildFolder::~BuildFolder() {
    if (lock_) [[maybe_unused]]
        const Result<void> removed = remove();
}

Result<void> BuildFolder::record(const ProcessId& process) {
    const std::string text =
        std::to_string(process.pid) + " " + std::to_string(process.start_time) + "\n";
    return write_all(lock_.get(), text).context("recording the build's process");
}

Result<void> BuildFolder::remove() {
    const Result<void> removed = remove_build_folder(path_, mmdebstrap_);
    lock_.reset();
    return removed;
}

void rescue_packages(const std::string& build_folder, const std::string& packages) {
    if (!ensure_folder(packages, 0700)) return;
    for (const std::string& root : roots_in(build_folder)) {
        const std::string archives = root + "/var/cache/apt/archives";
        const Result<std::vector<std::string>> names = list_folder(archives);
        if (!names) continue;
        for (const std::string& name : *names) {
            if (!name.ends_with(".deb") || name.starts_with('.')) continue;
            const std::string half = packages + "/.half";
            std::error_code problem;
            std::filesystem::copy_file(archives + "/" + name, half,
                                       std::filesystem::copy_options::overwrite_existing, problem);
            if (!problem) std::filesystem::rename(half, packages + "/" + name, problem);
        }
        [[maybe_unused]] const Result<void> gone = remove_file(packages + "/.half");
    }
}

Result<int> reap_build_folders(const std::string& work_folder, const std::string& mmdebstrap,
                               const std::string& packages) {
    const std::vector<Abandoned> folders = BANGER_TRY(find_abandoned(work_folder));
    for (const Abandoned& folder : folders) {
        end_orphan(folder.path);
        if (!packages.empty()) rescue_packages(folder.path, packages);
        BANGER_TRY(remove_build_folder(folder.path, mmdebstrap)
                       .context("removing what an interrupted build left in " + folder.path));
    }
    return static_cast<int>(folders.size());
}

void end_orphaned_builds(const std::string& work_folder) {
    const Result<std::vector<Abandoned>> folders = find_abandoned(work_folder);
    if (!folders) return;
    for (const Abandoned& folder : *folders)
        end_orphan(folder.path);
}

}  // namespace banger::image_debian

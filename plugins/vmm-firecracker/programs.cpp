#include "plugins/vmm-firecracker/programs.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <vector>

#include "core/base/file.hpp"

namespace banger::firecracker {

namespace {

std::string setting(const Settings& settings, std::string_view key) {
    const auto found = settings.find(key);
    const std::string* text =
        found == settings.end() ? nullptr : std::get_if<std::string>(&found->second);
    return text ? *text : std::string();
}

/// Which file it was, so that an upgrade is seen.
Result<std::string> stamp_of(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return Error::from_errno(errno, "looking at " + path);
    return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino) + ":" +
           std::to_string(status.st_size) + ":" + std::to_string(status.st_mtim.tv_sec) + ":" +
           std::to_string(status.st_mtim.tv_nsec) + ":" + std::to_string(status.st_ctim.tv_sec) +
           ":" + std::to_string(status.st_ctim.tv_nsec);
}

}  // namespace

Result<Program> ProgramFinder::ask(const std::string& path, std::optional<Known>& known,
                                   std::stop_token stop) {
    const std::string real = BANGER_TRY(trusted_program(path, trusted_uid_));
    const std::string stamp = BANGER_TRY(stamp_of(real));
    if (known && known->path == real && known->stamp == stamp) return Program{real, known->version};
    const Version version = BANGER_TRY(version_of(real, std::move(stop)));
    known = Known{real, stamp, version};
    return Program{real, version};
}

void ProgramFinder::add_jailer(const Settings& settings, Programs& programs, std::stop_token stop) {
    const std::string wanted = setting(settings, "jailer_bin");
    if (wanted == "none") {
        programs.why_no_jailer = "jailer_bin is \"none\"";
        return;
    }
    const std::string beside = parent_path(programs.firecracker.path) + "/jailer";
    std::vector<std::string> places{beside, "/usr/local/bin/jailer", "/usr/bin/jailer"};
    if (!wanted.empty()) places = {wanted};
    for (const std::string& place : places) {
        Result<Program> found = ask(place, jailer_, stop);
        if (!found) {
            programs.why_no_jailer = found.error().message;
            if (found.error().code == Errc::not_found) continue;
            return;
        }
        if (found->version != programs.firecracker.version) {
            programs.why_no_jailer = found->path + " is version " + found->version.text();
            return;
        }
        programs.jailer = *std::move(found);
        programs.why_no_jailer.clear();
        return;
    }
}

Result<Programs> ProgramFinder::find(const Settings& settings, std::stop_token stop) {
    const std::lock_guard lock(mutex_);
    const auto ask_firecracker = [&](const std::string& path) {
        return ask(path, firecracker_, stop);
    };
    Programs programs{
        BANGER_TRY(find_firecracker(setting(settings, "firecracker_bin"), ask_firecracker)),
        {},
        {}};
    add_jailer(settings, programs, std::move(stop));
    return programs;
}

}  // namespace banger::firecracker

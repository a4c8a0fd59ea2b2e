#include "plugins/vmm-firecracker/programs.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <vector>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "plugins/vmm-firecracker/record.hpp"

namespace banger::firecracker {

namespace {

using namespace std::chrono_literals;

constexpr char install_remedy[] =
    "Install firecracker and jailer of one release from "
    "https://github.com/firecracker-microvm/firecracker/releases to /usr/local/bin, root's, or set "
    "[plugins] vm_backend = \"vmm-qemu\".";

std::string setting(const Settings& settings, std::string_view key) {
    const auto found = settings.find(key);
    const std::string* text =
        found == settings.end() ? nullptr : std::get_if<std::string>(&found->second);
    return text ? *text : std::string();
}

Result<void> check_owner(const std::string& path, const struct stat& status,
                         std::uint32_t trusted_uid) {
    const bool is_owned = status.st_uid == 0 || status.st_uid == trusted_uid;
    // In a folder with the sticky bit others may write, but touch nothing of root's.
    const bool is_shared =
        (status.st_mode & 0022) != 0 && !(S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX));
    if (is_owned && !is_shared) return ok();
    return Error(Errc::permission_denied,
                 path + (is_owned ? " can be written by others than root" : " is not root's"),
                 "Make it root's alone: sudo chown root:root " + shell_quote(path) +
                     " && sudo chmod go-w " + shell_quote(path));
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

std::string Version::text() const { return std::to_string(major) + "." + std::to_string(minor); }

std::optional<Version> parse_version(std::string_view output) {
    const std::string_view line = output.substr(0, output.find('\n'));
    const std::size_t at = line.find(" v");
    if (at == line.npos) return {};
    const char* const end = line.data() + line.size();
    Version version;
    const auto major = std::from_chars(line.data() + at + 2, end, version.major);
    if (major.ec != std::errc() || major.ptr == end || *major.ptr != '.') return {};
    const auto minor = std::from_chars(major.ptr + 1, end, version.minor);
    if (minor.ec != std::errc() || minor.ptr == end || *minor.ptr != '.') return {};
    return version;
}

Result<std::string> trusted_program(const std::string& path, std::uint32_t trusted_uid) {
    const std::unique_ptr<char, decltype(&::free)> real(::realpath(path.c_str(), nullptr), ::free);
    if (!real) return Error::from_errno(errno, "looking for " + path);
    const std::string whole = real.get();
    struct stat status {};
    if (::lstat(whole.c_str(), &status) != 0)
        return Error::from_errno(errno, "looking at " + whole);
    if (!S_ISREG(status.st_mode) || (status.st_mode & 0111) == 0)
        return Error(Errc::not_found, whole + " is no program");
    BANGER_TRY(check_owner(whole, status, trusted_uid));
    for (std::string folder = whole; folder != "/";) {
        folder.resize(folder.rfind('/'));
        if (folder.empty()) folder = "/";
        if (::lstat(folder.c_str(), &status) != 0)
            return Error::from_errno(errno, "looking at " + folder);
        BANGER_TRY(check_owner(folder, status, trusted_uid));
    }
    return whole;
}

Result<Program> ProgramFinder::ask(const std::string& path, std::optional<Known>& known,
                                   std::stop_token stop) {
    const std::string real = BANGER_TRY(trusted_program(path, trusted_uid_));
    const std::string stamp = BANGER_TRY(stamp_of(real));
    if (known && known->path == real && known->stamp == stamp) return Program{real, known->version};
    Command command;
    command.program = real;
    command.arguments = {"--version"};
    const CommandOutput said =
        BANGER_TRY(run_command(command, 10s, ByteCount::kib(4), std::move(stop)));
    const std::optional<Version> version = parse_version(said.standard_output);
    if (!said.status.is_success() || !version)
        return Error(Errc::unavailable, real + " does not say its version", install_remedy);
    known = Known{real, stamp, *version};
    return Program{real, *version};
}

Result<Program> ProgramFinder::find_firecracker(const Settings& settings, std::stop_token stop) {
    const std::string wanted = setting(settings, "firecracker_bin");
    std::vector<std::string> places{"/usr/local/bin/firecracker", "/usr/bin/firecracker"};
    if (!wanted.empty()) places = {wanted};
    for (const std::string& place : places) {
        Result<Program> found = ask(place, firecracker_, stop);
        if (found && !is_program_name(found->name()))
            return Error(Errc::unavailable, found->path + " has a name that jailer does not take",
                         "Call it firecracker, or firecracker-VERSION.");
        if (found && found->version < oldest_version)
            return Error(Errc::unavailable,
                         found->path + " is version " + found->version.text() +
                             ", and banger needs " + oldest_version.text() + " or later",
                         install_remedy);
        if (found) return found;
        if (found.error().code == Errc::not_found) continue;
        Error error = std::move(found).error();
        if (error.code != Errc::cancelled) error.code = Errc::unavailable;
        return error;
    }
    return Error(Errc::unavailable,
                 wanted.empty() ? "Firecracker is not installed" : wanted + " does not exist",
                 install_remedy);
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
    Programs programs{BANGER_TRY(find_firecracker(settings, stop)), {}, {}};
    add_jailer(settings, programs, std::move(stop));
    return programs;
}

}  // namespace banger::firecracker

#include "core/base/firecracker_program.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <vector>

#include "core/base/child.hpp"
#include "core/base/file.hpp"

namespace banger::firecracker {

namespace {

using namespace std::chrono_literals;

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

Result<Version> version_of(const std::string& real, std::stop_token stop) {
    Command command;
    command.program = real;
    command.arguments = {"--version"};
    const CommandOutput said =
        BANGER_TRY(run_command(command, 10s, ByteCount::kib(4), std::move(stop)));
    const std::optional<Version> version = parse_version(said.standard_output);
    if (said.status.is_success() && version) return *version;
    return Error(Errc::unavailable, real + " does not say its version", install_remedy);
}

Result<Program> ask_program(const std::string& path, std::uint32_t trusted_uid,
                            std::stop_token stop) {
    const std::string real = BANGER_TRY(trusted_program(path, trusted_uid));
    return Program{real, BANGER_TRY(version_of(real, std::move(stop)))};
}

bool is_program_name(std::string_view name) {
    return name.starts_with("firecracker") && name.size() <= 64 &&
           std::ranges::all_of(name, [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '_' || c == '-';
           });
}

Result<Program> find_firecracker(const std::string& wanted,
                                 const std::function<Result<Program>(const std::string&)>& ask) {
    std::vector<std::string> places{"/usr/local/bin/firecracker", "/usr/bin/firecracker"};
    if (!wanted.empty()) places = {wanted};
    for (const std::string& place : places) {
        Result<Program> found = ask(place);
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

}  // namespace banger::firecracker

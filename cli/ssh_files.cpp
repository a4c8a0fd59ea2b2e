#include "cli/ssh_files.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <string_view>

#include "core/base/child.hpp"
#include "core/base/file.hpp"

namespace banger::cli {

namespace {

using namespace std::chrono_literals;

constexpr ByteCount key_limit = ByteCount::kib(64);
constexpr ByteCount known_hosts_limit = ByteCount::mib(16);

/// Held for the milliseconds that a rename or ssh-keygen takes.
Result<UniqueFd> lock_folder_of(const std::string& path) {
    BANGER_TRY(ensure_folder(parent_path(path), 0700));
    const std::string lock_path = parent_path(path) + "/lock";
    UniqueFd lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock) return Error::from_errno(errno, "opening " + lock_path);
    while (::flock(lock.get(), LOCK_EX) != 0)
        if (errno != EINTR) return Error::from_errno(errno, "locking " + lock_path);
    return lock;
}

Result<std::string> ssh_keygen(std::vector<std::string> arguments) {
    Command command;
    command.program = BANGER_TRY(find_program("ssh-keygen"));
    command.arguments = std::move(arguments);
    command.environment = minimal_environment();
    const CommandOutput output = BANGER_TRY(run_command(command, 30s, key_limit, {}));
    if (!output.status.is_success())
        return Error(Errc::unavailable, "ssh-keygen: " + output.standard_error);
    return output.standard_output;
}

/// The first two words of a public key line: the comment is nobody's business.
std::string without_comment(std::string_view line) {
    line = line.substr(0, line.find('\n'));
    const std::size_t type_end = line.find(' ');
    if (type_end == line.npos) return {};
    return std::string(line.substr(0, line.find(' ', type_end + 1)));
}

/// The private file appears last, so that whoever sees it finds its other half.
Result<void> make_key(const std::string& path) {
    const std::string fresh = path + ".new";
    for (const std::string& name : {fresh, fresh + ".pub"})
        BANGER_TRY(remove_file(name));
    BANGER_TRY(ssh_keygen({"-q", "-t", "ed25519", "-N", "", "-C", "banger", "-f", fresh}));
    for (const std::string suffix : {".pub", ""})
        if (::rename((fresh + suffix).c_str(), (path + suffix).c_str()) != 0)
            return Error::from_errno(errno, "renaming " + fresh + suffix);
    return sync_folder(parent_path(path));
}

/// Every line but those of this alias.
std::string without_alias(std::string_view text, std::string_view alias) {
    std::string kept;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
        const std::string_view line = text.substr(0, end);
        const bool is_its =
            line.starts_with(alias) && line.size() > alias.size() && line[alias.size()] == ' ';
        if (!is_its) kept += line;
        text.remove_prefix(end);
    }
    if (!kept.empty() && !kept.ends_with('\n')) kept += '\n';
    return kept;
}

Result<std::string> read_known_hosts(const std::string& path) {
    Result<std::string> text = read_file(path, known_hosts_limit);
    if (!text && text.error().code == Errc::not_found) return std::string();
    return text;
}

Result<void> replace_lines(const std::string& path, const std::string& alias,
                           const std::string& line) {
    const UniqueFd lock = BANGER_TRY(lock_folder_of(path));
    const std::string before = BANGER_TRY(read_known_hosts(path));
    const std::string after = without_alias(before, alias) + line;
    if (after == before) return ok();
    return write_file_atomic(path, after, 0600);
}

bool is_one_word(std::string_view text) {
    for (const char c : text)
        if (c <= ' ' || c == ',' || c == '*' || c == '?' || c == '!' || c == '#' || c == '|' ||
            c == '@' || c > '~')
            return false;
    return !text.empty();
}

}  // namespace

Result<std::string> ensure_ssh_key(const std::string& path, bool may_make) {
    if (!path_exists(path)) {
        if (!may_make)
            return Error(Errc::not_found, "there is no ssh key at " + path,
                         "Correct ssh_key_path in ~/.config/banger/config.toml, or leave it out: "
                         "banger then makes a key of its own");
        const UniqueFd lock = BANGER_TRY(lock_folder_of(path));
        if (!path_exists(path)) BANGER_TRY(make_key(path).context("making the ssh key"));
    }
    std::string line = without_comment(read_file(path + ".pub", key_limit).value_or(""));
    if (!line.empty()) return line;
    // Only the private half is there: work the other out. A passphrase would ask, on no terminal.
    line = without_comment(BANGER_TRY(
        ssh_keygen({"-y", "-P", "", "-f", path}).context("reading the ssh key " + path)));
    if (line.empty()) return Error(Errc::corrupt, path + " is no ssh key");
    return line;
}

Result<void> remember_host_key(const std::string& known_hosts,
                               const protocol::SshEndpoint& endpoint) {
    const std::string key = without_comment(endpoint.host_key);
    if (!is_one_word(endpoint.host_key_alias) || key.empty() ||
        key.find_first_of("\r\n\t") != key.npos)
        return Error(Errc::corrupt, "bangerd named no usable host key for the guest");
    return replace_lines(known_hosts, endpoint.host_key_alias,
                         endpoint.host_key_alias + " " + key + "\n");
}

Result<void> forget_host_key(const std::string& known_hosts, const std::string& alias) {
    if (!path_exists(known_hosts)) return ok();
    return replace_lines(known_hosts, alias, "");
}

}  // namespace banger::cli

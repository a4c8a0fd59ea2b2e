#include "core/system/services.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <iterator>

#include "core/base/file.hpp"
#include "core/base/rollback.hpp"

namespace banger::system {

namespace {

using namespace std::chrono_literals;

/// Longer than the units' own limits.
constexpr std::chrono::milliseconds patience = 180s;

Command command_of(std::string program, std::vector<std::string> arguments) {
    Command command;
    command.program = std::move(program);
    command.arguments = std::move(arguments);
    command.environment = {{"LC_ALL", "C"},         {"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"},
                           {"SYSTEMD_PAGER", ""},   {"SYSTEMD_COLORS", "0"},
                           {"SYSTEMD_URLIFY", "0"}, {"SYSTEMD_EMOJI", "0"}};
    return command;
}

std::string trimmed(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' '))
        text.pop_back();
    const std::size_t begin = text.find_first_not_of(" \n");
    return begin == std::string::npos ? std::string() : text.substr(begin);
}

Result<std::string> output_of(Command command) {
    const std::string what = command.text();
    const CommandOutput output =
        BANGER_TRY(run_command(std::move(command), patience, ByteCount::mib(1), {}));
    if (output.status.is_success()) return output.standard_output;
    const std::string said = trimmed(output.standard_error);
    return Error(Errc::unavailable,
                 "`" + what + "` failed: " + (said.empty() ? output.status.text() : said),
                 "Look at `systemctl status bangerd bangerd-root`.");
}

template <class Number>
Number number_of(std::string_view text) {
    Number number = 0;
    std::from_chars(text.data(), text.data() + text.size(), number);
    return number;
}

/// Ends a control group with all below it (cgroup.kill, Linux 5.14). "Not there" is success.
Result<void> end_group(const std::string& group) {
    const UniqueFd kill(::open((group + "/cgroup.kill").c_str(), O_WRONLY | O_CLOEXEC));
    if (!kill) {
        if (errno == ENOENT) return ok();
        return Error::from_errno(errno, "opening " + group + "/cgroup.kill");
    }
    return write_all(kill.get(), "1").context("ending " + group);
}

}  // namespace

bool has_systemd() {
    struct stat status {};
    return ::lstat("/run/systemd/system", &status) == 0 && S_ISDIR(status.st_mode);
}

Command systemctl_command(const std::string& verb, const std::vector<std::string>& units) {
    std::vector<std::string> arguments{"--no-pager", "--quiet", verb};
    if (!units.empty()) arguments.emplace_back("--");
    arguments.insert(arguments.end(), units.begin(), units.end());
    return command_of("/usr/bin/systemctl", std::move(arguments));
}

std::vector<std::string> all_units() { return {std::begin(unit_names), std::end(unit_names)}; }

Result<void> systemctl(const std::string& verb, const std::vector<std::string>& units) {
    BANGER_TRY(output_of(systemctl_command(verb, units)));
    return ok();
}

UnitState parse_unit_state(const std::string& unit, const std::string& text) {
    std::map<std::string, std::string> values;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        const std::string line = text.substr(at, end - at);
        at = end + 1;
        const std::size_t equals = line.find('=');
        if (equals != std::string::npos) values[line.substr(0, equals)] = line.substr(equals + 1);
    }
    UnitState state;
    state.unit = unit;
    state.load = values["LoadState"];
    state.active = values["ActiveState"];
    state.sub = values["SubState"];
    state.status = values["StatusText"];
    state.pid = number_of<std::int64_t>(values["MainPID"]);
    // "@1700000000" with --timestamp=unix.
    const std::string& since = values["ActiveEnterTimestamp"];
    if (state.is_running() && since.starts_with('@'))
        state.since = number_of<std::int64_t>(std::string_view(since).substr(1));
    state.restarts = number_of<std::uint64_t>(values["NRestarts"]);
    return state;
}

Result<UnitState> unit_state(const std::string& unit) {
    const std::string text = BANGER_TRY(output_of(command_of(
        "/usr/bin/systemctl",
        {"--no-pager", "--timestamp=unix", "show",
         "--property=LoadState,ActiveState,SubState,StatusText,MainPID,ActiveEnterTimestamp,"
         "NRestarts",
         "--", unit})));
    return parse_unit_state(unit, text);
}

std::string journal_tail(std::int64_t since) {
    const Result<std::string> text = output_of(command_of(
        "/usr/bin/journalctl", {"--no-pager", "--quiet", "--lines=12", "--output=short-iso",
                                "--since=@" + std::to_string(since), "--unit=bangerd.service",
                                "--unit=bangerd-root.service"}));
    return text ? trimmed(*text) : std::string();
}

std::optional<std::string> parse_security_score(const std::string& text) {
    const std::string mark = "exposure level for ";
    const std::size_t at = text.rfind(mark);
    if (at == std::string::npos) return std::nullopt;
    const std::size_t colon = text.find(": ", at);
    if (colon == std::string::npos) return std::nullopt;
    const std::string rest = text.substr(colon + 2, text.find('\n', colon) - colon - 2);
    const std::size_t end = rest.find_first_not_of("0123456789.");
    return rest.substr(0, end);
}

std::optional<std::string> security_score(const std::string& unit) {
    const Result<std::string> text =
        output_of(command_of("/usr/bin/systemd-analyze", {"security", "--no-pager", unit}));
    return text ? parse_security_score(*text) : std::nullopt;
}

bool lingers(const Layout& layout, const Owner& owner) {
    return path_exists(layout.root + "/var/lib/systemd/linger/" + owner.name);
}

Result<void> set_linger(const Owner& owner, bool on) {
    BANGER_TRY(output_of(command_of("/usr/bin/loginctl", {on ? "enable-linger" : "disable-linger",
                                                          std::to_string(owner.uid)})));
    return ok();
}

Result<void> make_run_folders(const Layout& layout) {
    BANGER_TRY(output_of(command_of("/usr/bin/systemd-tmpfiles", {"--create", layout.tmpfiles})));
    return ok();
}

Result<void> end_leftover_processes(const Layout& layout, const Owner& owner) {
    const std::string groups = layout.root + "/sys/fs/cgroup";
    const std::string uid = std::to_string(owner.uid);
    ErrorCollector errors;
    const std::string slice =
        groups + "/user.slice/user-" + uid + ".slice/user@" + uid + ".service/banger.slice";
    errors.add(end_group(slice));
    // An empty slice stays for as long as its user manager runs.
    (void)::rmdir(slice.c_str());
    errors.add(end_group(groups + "/system.slice/bangerd.service"));
    return errors.result();
}

}  // namespace banger::system

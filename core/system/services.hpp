#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "core/base/child.hpp"
#include "core/system/layout.hpp"

/// systemd and logind, through their own programs: absolute paths, fixed arguments, no shell. Not
/// libsystemd: the command line starts in milliseconds, and that library costs several.
namespace banger::system {

/// Whether systemd is PID 1 (sd_booted(3)).
[[nodiscard]] bool has_systemd();

/// unit_names, as systemctl() takes them.
[[nodiscard]] std::vector<std::string> all_units();

/// `systemctl VERB UNIT…`. Waits for the job; the error has what systemctl wrote.
Result<void> systemctl(const std::string& verb, const std::vector<std::string>& units = {});

/// What `systemctl show` says of a unit.
struct UnitState {
    std::string unit;
    std::string load;    ///< "loaded", "not-found"
    std::string active;  ///< "active", "inactive", "failed", "activating"
    std::string sub;     ///< "running", "listening", "dead"
    std::string status;  ///< the daemon's own line
    std::int64_t pid = 0;
    std::int64_t since = 0;  ///< seconds since 1970; 0 when it is not active
    std::uint64_t restarts = 0;
    [[nodiscard]] bool is_running() const { return active == "active"; }
};
Result<UnitState> unit_state(const std::string& unit);
/// Of `systemctl show`'s output. Pure.
UnitState parse_unit_state(const std::string& unit, const std::string& text);

/// The last lines of both services' journal since `since` (seconds since 1970), for an error.
std::string journal_tail(std::int64_t since);

/// "1.7 OK" of `systemd-analyze security UNIT`; nothing when it cannot be had.
std::optional<std::string> security_score(const std::string& unit);
/// The last number of its output. Pure.
std::optional<std::string> parse_security_score(const std::string& text);

/// Whether the user's manager runs without a session: /var/lib/systemd/linger/NAME.
[[nodiscard]] bool lingers(const Layout& layout, const Owner& owner);
Result<void> set_linger(const Owner& owner, bool on);

/// Makes the folders of tmpfiles.d/banger.conf now.
Result<void> make_run_folders(const Layout& layout);

/// Ends every process of the machines that are left: those in scopes of the owner's user manager
/// (banger.slice) and those in bangerd's own group. For when bangerd could not stop them.
Result<void> end_leftover_processes(const Layout& layout, const Owner& owner);

/// The commands themselves, for tests.
Command systemctl_command(const std::string& verb, const std::vector<std::string>& units);

}  // namespace banger::system

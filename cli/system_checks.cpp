#include <unistd.h>

#include <cstdlib>
#include <optional>

#include "cli/system_install.hpp"
#include "core/system/services.hpp"

namespace banger::cli {

namespace {

/// What `systemd-analyze security` may say at most.
struct Posture {
    const char* service;
    double limit;
};
constexpr Posture postures[] = {{"bangerd", 2.0}, {"bangerd-root", 3.0}};

Check service_check(const Posture& posture) {
    const std::string unit = std::string(posture.service) + ".service";
    const std::string name = std::string("service ") + posture.service;
    const Result<system::UnitState> state = system::unit_state(unit);
    if (!state) return {name, CheckStatus::fail, state.error().message, state.error().remedy};
    if (!state->is_running())
        return {name, CheckStatus::fail, "is " + state->active,
                "Look at `journalctl -u " + unit + "`, then: sudo systemctl restart " + unit};
    std::string detail = "runs, pid " + std::to_string(state->pid);
    if (state->restarts > 0)
        detail += ", started again " + std::to_string(state->restarts) + " times";
    const std::optional<std::string> score = system::security_score(unit);
    if (!score) return {name, CheckStatus::pass, detail, ""};
    detail += ", exposure " + *score + " of 10";
    // The words of systemd: lower is better.
    if (std::strtod(score->c_str(), nullptr) < posture.limit)
        return {name, CheckStatus::pass, detail, ""};
    return {name, CheckStatus::warn, detail + ", which is more than banger's own unit has",
            "Look for drop-ins that open it: systemctl cat " + unit};
}

Check helper_check(const std::string& socket) {
    const Result<void> connected = connect_to_helper(socket);
    if (connected) return {"root helper", CheckStatus::pass, "answers at " + socket, ""};
    return {"root helper", CheckStatus::fail, connected.error().message,
            "Run: sudo systemctl restart bangerd-root.socket bangerd-root.service"};
}

Check owner_check(const system::Owner& owner) {
    if (owner.uid == ::getuid() || ::getuid() == 0)
        return {"owner", CheckStatus::pass, owner.name, ""};
    return {"owner", CheckStatus::fail, "the services are those of " + owner.name,
            "Run banger as " + owner.name + "."};
}

Check linger_check(const system::Layout& layout, const system::Owner& owner) {
    if (system::lingers(layout, owner))
        return {"lingering", CheckStatus::pass,
                "the user manager of " + owner.name + " outlives its sessions", ""};
    return {"lingering", CheckStatus::warn,
            "machines of " + owner.name + " end when its last session does",
            "Run: sudo loginctl enable-linger " + owner.name};
}

}  // namespace

std::vector<Check> system_checks(const std::string& root_socket) {
    const system::Layout layout = system::Layout::at();
    std::vector<Check> checks;
    for (const Posture& posture : postures)
        checks.push_back(service_check(posture));
    checks.push_back(helper_check(root_socket));
    const Result<system::InstallRecord> record = installed(layout);
    const Result<system::Owner> owner =
        record ? system::Owner::find(record->owner_uid) : Result<system::Owner>(record.error());
    if (owner) {
        checks.push_back(owner_check(*owner));
        checks.push_back(linger_check(layout, *owner));
    } else {
        checks.push_back({"owner", CheckStatus::fail, owner.error().message, owner.error().remedy});
    }
    return checks;
}

}  // namespace banger::cli

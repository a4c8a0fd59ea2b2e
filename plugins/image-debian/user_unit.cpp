#include "plugins/image-debian/user_unit.hpp"

#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>

namespace banger::image_debian {

namespace {

std::map<std::string, std::string> bus_environment() {
    const std::string folder = "/run/user/" + std::to_string(::getuid());
    return {{"LC_ALL", "C.UTF-8"},
            {"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"},
            {"XDG_RUNTIME_DIR", folder},
            {"DBUS_SESSION_BUS_ADDRESS", "unix:path=" + folder + "/bus"}};
}

/// The manager puts variables in the place of $NAME in a command line; "$$" is a dollar.
std::string escaped(const std::string& word) {
    std::string text;
    for (const char c : word) {
        text += c;
        if (c == '$') text += c;
    }
    return text;
}

}  // namespace

bool is_confined() { return ::geteuid() != 0 && ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1; }

std::string unit_of(const std::string& build_folder) {
    const std::size_t dash = build_folder.rfind('-');
    return "banger-build-" + build_folder.substr(dash == std::string::npos ? 0 : dash + 1);
}

Command as_user_unit(const Command& command, const std::string& unit) {
    Command outside = command;
    outside.program = "/usr/bin/systemd-run";
    outside.environment = bus_environment();
    outside.arguments = {"--user", "--quiet", "--pipe", "--wait", "--collect",
                         "--service-type=exec", "--unit=" + unit, "--slice=banger.slice",
                         // Ended at once: what it was making is thrown away.
                         "--property=KillSignal=SIGKILL",
                         "--working-directory=" + command.working_folder};
    for (const auto& [name, value] : command.environment)
        outside.arguments.push_back("--setenv=" + name + "=" + value);
    outside.arguments.emplace_back("--");
    outside.arguments.push_back(command.program);
    for (const std::string& argument : command.arguments)
        outside.arguments.push_back(escaped(argument));
    return outside;
}

Result<void> stop_unit(const std::string& unit) {
    Command command;
    command.program = "/usr/bin/systemctl";
    command.arguments = {"--user", "--quiet", "stop", "--", unit + ".service"};
    command.environment = bus_environment();
    // Its exit status also tells that there is no such unit, which is what is wanted.
    BANGER_TRY(run_command(std::move(command), std::chrono::seconds(30), ByteCount::kib(64), {}));
    return ok();
}

}  // namespace banger::image_debian

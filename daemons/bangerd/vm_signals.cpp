#include "daemons/bangerd/vm_signals.hpp"

#include <array>
#include <csignal>
#include <string>
#include <utility>

namespace banger {

Result<int> signal_number(std::string_view name) {
    static constexpr std::array<std::pair<std::string_view, int>, 6> allowed = {
        {{"ABRT", SIGABRT},
         {"HUP", SIGHUP},
         {"INT", SIGINT},
         {"KILL", SIGKILL},
         {"QUIT", SIGQUIT},
         {"TERM", SIGTERM}}};
    for (const auto& [word, number] : allowed)
        if (word == name) return number;
    return Error(Errc::invalid_argument, "that is no signal for a machine",
                 "Use ABRT, HUP, INT, KILL, QUIT or TERM.");
}

}  // namespace banger

#include "core/vms/exec.hpp"

#include "core/vms/machines.hpp"
#include "core/vms/states.hpp"

namespace banger {

namespace {

using namespace std::chrono_literals;

/// For the guest to start a process. An emulated one under load is slow.
constexpr std::chrono::seconds start_time = 20s;

}  // namespace

std::vector<std::string> words_without_shell(const ExecWish& wish, const RunConfig& image) {
    if (wish.command || !wish.is_run || wish.entrypoint) return {};
    std::vector<std::string> words = image.entrypoint;
    words.insert(words.end(), image.command.begin(), image.command.end());
    return words;
}

guest::ExecRequest exec_request(const ExecWish& wish, const RunConfig& image) {
    guest::ExecRequest request;
    // An entrypoint without a command is what is wanted; the image's alone gives way to a shell.
    const bool has_entrypoint = wish.is_run && (wish.entrypoint || wish.command);
    if (has_entrypoint) request.words = wish.entrypoint.value_or(image.entrypoint);
    if (wish.command)
        request.words.insert(request.words.end(), wish.command->begin(), wish.command->end());
    request.environment = image.environment;
    request.environment.insert(request.environment.end(), wish.environment.begin(),
                               wish.environment.end());
    request.folder = wish.folder.value_or(image.working_folder);
    // An image may name one that no layer has.
    request.makes_folder = !wish.folder && !image.working_folder.empty();
    request.user = wish.user.value_or(image.user);
    request.terminal = wish.terminal;
    return request;
}

Result<GuestCommand> Machines::exec(const std::string& name, const ExecWish& wish,
                                    std::stop_token stop) {
    const VmRecord vm = BANGER_TRY(parts_.store.find_machine(name));
    if (!vm.process) return not_running(vm);
    const Result<ImageRecord> image = parts_.store.find_image(vm.image_id);
    const RunConfig config = image ? image->run_config : RunConfig{};
    guest::ExecRequest request = exec_request(wish, config);
    if (wish.command && request.words.empty())
        return Error(Errc::invalid_argument, "the command has no words", "Give it at least one.");
    const auto deadline = std::chrono::steady_clock::now() + start_time;
    const Roles3 roles = BANGER_TRY(roles_of(vm));
    const std::shared_ptr<guest::AgentClient> agent =
        BANGER_TRY(lines_.get(*roles.backend, *vm.process, deadline, stop));
    const bool wants_shell = request.words.empty();
    Result<guest::AgentClient::Started> started = agent->exec(request, deadline, stop);
    if (!started && wants_shell && started.error().code == Errc::unsupported) {
        request.words = words_without_shell(wish, config);
        if (request.words.empty())
            return Error(Errc::not_found,
                         "the image " + vm.image.str() + " has no shell" +
                             (wish.is_run ? ", and names no command of its own" : ""),
                         "Say what to run, after `--`.");
        started = agent->exec(request, deadline, stop);
    }
    if (!started)
        return std::move(started).error().context("starting the command in " + vm.name.str());
    return GuestCommand(agent, *started);
}

}  // namespace banger

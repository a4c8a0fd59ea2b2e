#include "cli/guest_session.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "cli/agent_session.hpp"
#include "cli/console.hpp"
#include "cli/session.hpp"
#include "cli/ssh_files.hpp"
#include "cli/vm_forward.hpp"
#include "core/base/child.hpp"
#include "core/config/config.hpp"

namespace banger::cli {

using namespace std::chrono_literals;
using protocol::Vm;

namespace {

std::chrono::milliseconds since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                                 begin);
}

/// How long the agent may take to say whether there is sshd. One that is busy booting on a busy
/// host is worth the wait: taken for one with sshd, an image without would be knocked at in vain.
constexpr std::chrono::milliseconds agent_patience = 20s;

/// How long sshd may take to answer. BANGER_SSH_WAIT (seconds) is for tests and slow hosts.
std::chrono::milliseconds ssh_patience() {
    if (const char* text = std::getenv("BANGER_SSH_WAIT")) {
        const int seconds = std::atoi(text);
        if (seconds > 0) return std::chrono::seconds(seconds);
    }
    return 90s;
}

/// Why ssh never came up, as far as the guest's agent and console tell.
Error explain_no_ssh(Session& session, const Vm& vm, const std::string& reason) {
    std::string message = "no ssh session with " + vm.name + ": " + reason;
    const Result<protocol::HealthOfVmReply> health = session.daemon.call<protocol::HealthOfVmReply>(
        "io.banger.Vm.Health", protocol::HealthOfVm{vm.name, false}, {.timeout = 10s});
    if (health)
        for (const protocol::Probe& probe : health->probes)
            if (!probe.ok) message += "\n  probe " + probe.name + ": " + probe.detail;
    if (!health) message += "\n  " + health.error().message;
    const std::string console = last_console_lines(session.daemon, vm.name, 5);
    if (!console.empty()) message += "\nThe last lines of its console:\n" + console;
    return {Errc::timed_out, message,
            "The machine is kept. Look at its console: banger vm logs " + vm.name +
                "\n  Remove it: banger vm delete " + vm.name};
}

/// From how ssh ended to banger's exit status; says what is to be said.
int status_after(const SshEnd& end, Session& session, Context& context, const Vm& vm,
                 const Interrupts& interrupts) {
    if (end.was_interrupted) return interrupts.exit_status();
    bool is_lost = end.is_lost;
    std::string reason = end.log;
    if (end.status == 255 && !is_lost) {
        // The command's own, unless the machine went away under it, which ssh does not always log.
        const Result<protocol::VmReply> now = session.daemon.call<protocol::VmReply>(
            "io.banger.Vm.Show", protocol::NamedVm{vm.id}, {.timeout = 10s});
        is_lost = now && now->vm.state != "running";
        if (is_lost) reason = "the machine is " + now->vm.state;
    }
    if (!is_lost) return end.status;
    context.terminal.error({Errc::unavailable,
                            "the connection to " + vm.name + " was lost: " + reason,
                            "Look at its console: banger vm logs " + vm.name});
    return exit_not_run;
}

}  // namespace

Result<SshKey> user_key(const Session& session) {
    ConfigContext context;
    context.mode = session.daemon.place().paths.mode;
    context.home = session.user_paths.home;
    context.default_ssh_key = session.user_paths.ssh_key;
    const Config config = BANGER_TRY(load_config(session.user_paths, context));
    const std::string path = *config.ssh_key_path;
    std::string line = BANGER_TRY(ensure_ssh_key(path, path == session.user_paths.ssh_key));
    return SshKey{path, std::move(line)};
}

Result<SshCall> ssh_call(const Session& session, const Vm& vm) {
    if (!vm.ssh)
        return Error(Errc::wrong_state, vm.name + " is not running",
                     "Start it: banger vm start " + vm.name);
    SshCall call;
    Result<std::string> program = find_program("ssh");
    if (!program)
        return Error(Errc::unavailable, "ssh is not on PATH",
                     "Install it: sudo apt install openssh-client");
    call.program = *program;
    call.endpoint = *vm.ssh;
    call.key = BANGER_TRY(user_key(session)).path;
    call.known_hosts = session.user_paths.known_hosts;
    call.control_path = control_path_of(session.user_paths.run, vm);
    BANGER_TRY(remember_host_key(call.known_hosts, call.endpoint));
    return call;
}

bool is_without_sshd(Session& session, const Vm& vm) {
    if (vm.state != "running" || is_kept(control_path_of(session.user_paths.run, vm))) return false;
    const Result<protocol::HealthOfVmReply> health = session.daemon.call<protocol::HealthOfVmReply>(
        "io.banger.Vm.Health", protocol::HealthOfVm{vm.id, true}, {.timeout = agent_patience});
    return health && std::ranges::none_of(health->probes, [](const protocol::Probe& probe) {
               return probe.name == "sshd-listening";
           });
}

namespace {

/// The same once its sshd answers.
Result<SshCall> connect_ssh(Session& session, const Vm& vm, Interrupts& interrupts) {
    SshCall call = BANGER_TRY(ssh_call(session, vm));
    if (is_kept(call.control_path)) return call;
    SshCall knock = call;
    knock.command = {{"true"}};
    knock.is_silent = true;
    const Result<SshEnd> end =
        run_ssh(std::move(knock), session.user_paths.run, ssh_patience(), interrupts);
    if (!end && end.error().code != Errc::timed_out) return end.error();
    if (end && end->was_interrupted) return Error(Errc::cancelled, "cancelled");
    if (!end || !end->has_connected)
        return explain_no_ssh(session, vm, end ? end->log : end.error().message);
    return call;
}

protocol::ExecInVm exec_request(const Vm& vm, const StayWish& wish, bool wants_terminal) {
    protocol::ExecInVm request{.vm = vm.id,
                               .command = wish.command,
                               .is_run = wish.is_run,
                               .entrypoint = wish.entrypoint,
                               .environment = {},
                               .folder = {},
                               .user = wish.user,
                               .terminal = {}};
    if (!wish.folder.empty()) request.folder = wish.folder;
    if (!wants_terminal) return request;
    request.terminal.emplace();
    for (const char* name : {"TERM", "COLORTERM"})
        if (const char* value = std::getenv(name))
            request.environment.push_back(std::string(name) + "=" + value);
    return request;
}

Stay stay_by_agent(Session& session, Context& context, const Vm& vm, const StayWish& wish,
                   Interrupts& interrupts) {
    Terminal& terminal = context.terminal;
    const auto began = std::chrono::steady_clock::now();
    const bool wants_terminal = terminal.in_is_terminal() && terminal.out_is_terminal();
    Stay stay;
    const Result<AgentEnd> end =
        run_by_agent(session, exec_request(vm, wish, wants_terminal), interrupts);
    if (!end && end.error().code == Errc::cancelled) {
        stay.status = interrupts.take() != 0 ? interrupts.exit_status() : exit_not_run;
        stay.has_connected = true;
        return stay;
    }
    // Whatever else failed, the guest answered, and there is nothing in it to look into.
    stay.has_connected = end || end.error().code != Errc::timed_out;
    stay.took = since(began);
    if (!end) {
        terminal.error(end.error());
        return stay;
    }
    stay.status = end->was_interrupted ? interrupts.exit_status() : end->status;
    return stay;
}

}  // namespace

Command script_by_banger(const Context& context, const Vm& vm, const std::string& script) {
    Command command;
    command.program = context.program;
    command.arguments = {"vm", "ssh", vm.id, "--user", "0:0", "--", "sh", "-c", script};
    for (char** each = environ; *each != nullptr; ++each) {
        const std::string_view variable = *each;
        const std::size_t equals = variable.find('=');
        if (equals != variable.npos)
            command.environment[std::string(variable.substr(0, equals))] =
                variable.substr(equals + 1);
    }
    command.dies_with_parent = true;
    return command;
}

Result<ScriptCommand> connect_scripts(Session& session, const Context& context, const Vm& vm,
                                      const std::string& log_folder, Interrupts& interrupts) {
    if (is_without_sshd(session, vm))
        return ScriptCommand([&context, vm](const std::string& script) {
            return script_by_banger(context, vm, script);
        });
    SshCall call = BANGER_TRY(connect_ssh(session, vm, interrupts));
    call.scratch = log_folder;
    return ScriptCommand([call](const std::string& script) { return ssh_script(call, script); });
}

Option user_option() {
    return {"--user",
            "USER",
            "run as: name or number, with :GROUP; images with sshd let in root alone",
            "the image's, else root",
            {}};
}

void add_flags(StayWish& wish, const Arguments& arguments) {
    wish.user = arguments.value("user");
    const std::optional<std::string> entrypoint = arguments.value("entrypoint");
    if (!entrypoint) return;
    wish.entrypoint.emplace();
    if (!entrypoint->empty()) wish.entrypoint->push_back(*entrypoint);
}

Stay stay_in(Session& session, Context& context, const Vm& vm, const StayWish& wish,
             Interrupts& interrupts) {
    if (is_without_sshd(session, vm)) return stay_by_agent(session, context, vm, wish, interrupts);
    Terminal& terminal = context.terminal;
    const auto began = std::chrono::steady_clock::now();
    Stay stay;
    if (wish.user && *wish.user != "root" && *wish.user != "0" && *wish.user != "0:0")
        return terminal.error({Errc::unsupported, vm.name + " has sshd, which lets in root alone",
                               "Leave --user out, and change the user in there: su, runuser."}),
               stay;
    Result<SshCall> call = ssh_call(session, vm);
    if (!call) return terminal.error(call.error()), stay;
    call->command = wish.command;
    if (wish.entrypoint && !wish.entrypoint->empty()) {
        call->command = wish.entrypoint;
        if (wish.command)
            call->command->insert(call->command->end(), wish.command->begin(), wish.command->end());
    }
    call->folder = wish.folder;
    call->forwards_agent = wish.forwards_agent;
    // With its output in a pipe or file a command must not see a terminal, which changes bytes.
    call->wants_terminal = terminal.in_is_terminal() && terminal.out_is_terminal();
    const Result<SshEnd> end =
        run_ssh(std::move(*call), session.user_paths.run, ssh_patience(), interrupts);
    if (!end) {
        terminal.error(end.error().code == Errc::timed_out
                           ? explain_no_ssh(session, vm, end.error().message)
                           : end.error());
        return stay;
    }
    if (!end->has_connected && !end->was_interrupted) {
        terminal.error(explain_no_ssh(session, vm, end->log));
        return stay;
    }
    stay.has_connected = true;
    stay.until_connected = end->until_connected;
    stay.took = since(began) - end->until_connected;
    stay.status = status_after(*end, session, context, vm, interrupts);
    return stay;
}

int forward_ports(Session& session, Context& context, const Vm& vm,
                  const std::vector<ForwardedPort>& ports,
                  const std::function<void()>& on_connected, Interrupts& interrupts) {
    Terminal& terminal = context.terminal;
    Result<SshCall> call = ssh_call(session, vm);
    if (!call) return terminal.error(call.error()), exit_failed;
    call->forwards = ports;
    call->is_silent = true;
    // Whoever keeps a connection keeps what was forwarded over it.
    call->control_path.clear();
    call->on_connected = on_connected;
    const Result<SshEnd> end =
        run_ssh(std::move(*call), session.user_paths.run, ssh_patience(), interrupts);
    if (end && end->was_interrupted) return interrupts.exit_status();
    if (!end && end.error().code != Errc::timed_out)
        terminal.error(end.error());
    else if (!end || !end->has_connected)
        terminal.error(explain_no_ssh(session, vm, end ? end->log : end.error().message));
    else
        terminal.error({Errc::unavailable,
                        "the connection to " + vm.name + " has ended" +
                            (end->log.empty() ? std::string() : ": " + end->log),
                        "See how it is: banger vm show " + vm.name});
    return exit_failed;
}

}  // namespace banger::cli

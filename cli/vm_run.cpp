#include <chrono>
#include <cstdlib>

#include "banger/values.hpp"
#include "cli/commands.hpp"
#include "cli/console.hpp"
#include "cli/interrupts.hpp"
#include "cli/render/progress.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "cli/ssh.hpp"
#include "cli/ssh_config.hpp"
#include "cli/ssh_files.hpp"
#include "cli/vm_flags.hpp"
#include "cli/vm_view.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/config/config.hpp"
#include "core/config/sizing.hpp"

namespace banger::cli {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using protocol::Vm;

/// For the delete of `--rm`, whatever else has been interrupted.
constexpr std::chrono::milliseconds cleanup_patience = 60s;

constexpr const char* nothing_left = "cancelled, nothing is left";

std::chrono::milliseconds since(Clock::time_point begin) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
}

/// How long sshd may take to answer. BANGER_SSH_WAIT (seconds) is for tests and slow hosts.
std::chrono::milliseconds ssh_patience() {
    if (const char* text = std::getenv("BANGER_SSH_WAIT")) {
        const int seconds = std::atoi(text);
        if (seconds > 0) return std::chrono::seconds(seconds);
    }
    return 90s;
}

/// The stages of a whole command, for `--timings`.
class Stopwatch {
public:
    void add(std::string stage, std::chrono::milliseconds took) {
        stages_.push_back({std::move(stage), static_cast<std::uint64_t>(took.count())});
    }
    void add_all(const std::vector<protocol::Timing>& stages) {
        stages_.insert(stages_.end(), stages.begin(), stages.end());
    }
    void print(Terminal& terminal) const {
        terminal.note(timings_text(stages_, since(began_), terminal.note_style()));
    }

private:
    Clock::time_point began_ = Clock::now();
    std::vector<protocol::Timing> stages_;
};

Result<protocol::VmRequest> request_from(const Arguments& arguments) {
    protocol::VmRequest request;
    request.name = arguments.value("name");
    if (request.name) BANGER_TRY(VmName::parse(*request.name));
    request.image = arguments.value("image");
    request.vcpus = BANGER_TRY(count_flag(arguments, "vcpu"));
    request.memory = BANGER_TRY(size_flag(arguments, "memory"));
    request.disk = BANGER_TRY(size_flag(arguments, "disk-size"));
    if (arguments.has("nat")) request.nat = true;
    request.backend = arguments.value("backend");
    request.network = arguments.value("network");
    request.storage = arguments.value("storage");
    return request;
}

struct SshKey {
    std::string path;
    std::string public_line;
};

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

/// Deletes the machine of `--rm`, on a connection and with a deadline of its own; signals wait.
Result<void> clean_up(Session& session, const Vm& vm) {
    client::Daemon daemon = session.daemon.another();
    BANGER_TRY(daemon
                   .call<protocol::VmReply>("io.banger.Vm.Delete", protocol::DeleteVm{vm.id, true},
                                            {.timeout = cleanup_patience})
                   .context("deleting " + vm.name));
    return forget_host_key(session.user_paths.known_hosts, vm.id);
}

/// The machine, made: from the spec line to the guest's readiness.
Result<Vm> create(Session& session, Context& context, protocol::VmRequest request, bool is_started,
                  bool is_quiet, Interrupts& interrupts, Stopwatch& stopwatch) {
    Terminal& terminal = context.terminal;
    Clock::time_point began = Clock::now();
    request.authorized_keys = {BANGER_TRY(user_key(session)).public_line};
    stopwatch.add("ssh key", since(began));

    began = Clock::now();
    BANGER_TRY(session.daemon.connect());
    stopwatch.add("bangerd", since(began));

    began = Clock::now();
    const protocol::PlanVmReply planned = BANGER_TRY(session.daemon.call<protocol::PlanVmReply>(
        "io.banger.Vm.Plan", protocol::PlanVm{request}, {.stop_fd = interrupts.fd()}));
    if (!is_quiet) terminal.note(spec_text(planned.plan, terminal.note_style()));
    stopwatch.add("plan", since(began));

    began = Clock::now();
    ProgressView progress(terminal, is_quiet);
    const protocol::CreateVmReply made = BANGER_TRY(session.daemon.call<protocol::CreateVmReply>(
        "io.banger.Vm.Create", protocol::CreateVm{request, is_started},
        {.on_progress = [&](const Progress& now) { progress.show(now); },
         .stop_fd = interrupts.fd()}));
    if (!made.vm) return Error(Errc::corrupt, "bangerd made a machine, but did not say which");
    if (made.timings)
        stopwatch.add_all(*made.timings);
    else
        stopwatch.add("create", since(began));
    // It was done just before it could be cancelled.
    if (interrupts.take() != 0) {
        BANGER_TRY(clean_up(session, *made.vm));
        return Error(Errc::cancelled, "cancelled");
    }
    refresh_ssh_config(context);
    return *made.vm;
}

/// Ssh into the machine with our streams.
Result<SshEnd> open_ssh(Session& session, Context& context, const Vm& vm,
                        const std::optional<std::vector<std::string>>& words,
                        Interrupts& interrupts) {
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
    call.command = words;
    // With its output in a pipe or file a command must not see a terminal, which changes bytes.
    call.wants_terminal = context.terminal.in_is_terminal() && context.terminal.out_is_terminal();
    BANGER_TRY(remember_host_key(call.known_hosts, call.endpoint));
    return run_ssh(std::move(call), session.user_paths.run, ssh_patience(), interrupts);
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

/// Session or command in a machine that is there, and what follows it.
int use(Session& session, Context& context, const Arguments& arguments, const Vm& vm,
        Interrupts& interrupts, Stopwatch& stopwatch) {
    Terminal& terminal = context.terminal;
    Clock::time_point began = Clock::now();
    const Result<SshEnd> end = open_ssh(session, context, vm, arguments.guest_command, interrupts);
    if (!end) {
        if (end.error().code == Errc::timed_out)
            terminal.error(explain_no_ssh(session, vm, end.error().message));
        else
            terminal.error(end.error());
        return exit_not_run;
    }
    if (!end->has_connected && !end->was_interrupted) {
        terminal.error(explain_no_ssh(session, vm, end->log));
        return exit_not_run;
    }
    stopwatch.add("ssh", end->until_connected);
    stopwatch.add(arguments.guest_command ? "command" : "session",
                  since(began) - end->until_connected);
    int status = status_after(*end, session, context, vm, interrupts);

    if (arguments.has("rm")) {
        began = Clock::now();
        const Result<void> cleaned = clean_up(session, vm);
        stopwatch.add("delete", since(began));
        if (!cleaned) {
            terminal.error(cleaned.error());
            terminal.note("  " + vm.name + " may still be there. Try: banger vm delete --force " +
                          vm.name + "\n");
            if (status == 0) status = exit_not_run;
        }
    } else if (context.command.name == "run" && !arguments.has("quiet")) {
        terminal.note(vm.name + " is still running. Back into it: banger vm ssh " + vm.name +
                      "; remove it: banger vm delete " + vm.name + "\n");
    }
    return status;
}

Result<void> check_detached(const Arguments& arguments) {
    if (!arguments.has("detach")) return ok();
    if (arguments.has("rm"))
        return Error(Errc::invalid_argument, "--detach and --rm contradict each other",
                     "Leave one out: --rm deletes the machine when its session ends");
    if (arguments.guest_command)
        return Error(Errc::invalid_argument, "--detach takes no command",
                     "Leave --detach out, or run the command later: banger vm ssh VM -- COMMAND");
    return ok();
}

Result<int> run(const Arguments& arguments, Context& context) {
    Stopwatch stopwatch;
    if (const Result<void> fits = check_detached(arguments); !fits)
        return usage_error(context, fits.error());
    Result<protocol::VmRequest> request = request_from(arguments);
    if (!request) return usage_error(context, request.error());

    Interrupts interrupts;
    Session session = BANGER_TRY(open_session(context));
    const Result<Vm> vm = create(session, context, std::move(*request), true,
                                 arguments.has("quiet"), interrupts, stopwatch);
    if (!vm) return report_failure(vm.error(), context, interrupts, nothing_left, exit_not_run);

    int status = 0;
    if (arguments.has("detach"))
        context.terminal.out((arguments.has("quiet") ? vm->id : vm->name) + "\n");
    else
        status = use(session, context, arguments, *vm, interrupts, stopwatch);
    if (arguments.has("timings")) stopwatch.print(context.terminal);
    return status;
}

Result<int> create_only(const Arguments& arguments, Context& context) {
    Stopwatch stopwatch;
    Result<protocol::VmRequest> request = request_from(arguments);
    if (!request) return usage_error(context, request.error());
    Interrupts interrupts;
    Session session = BANGER_TRY(open_session(context));
    const Result<Vm> vm = create(session, context, std::move(*request), !arguments.has("no-start"),
                                 arguments.has("quiet"), interrupts, stopwatch);
    if (!vm) return report_failure(vm.error(), context, interrupts, nothing_left, exit_failed);
    Terminal& terminal = context.terminal;
    if (wants_json(arguments))
        terminal.out(json_text(*vm));
    else
        terminal.out((arguments.has("quiet") ? vm->id : vm->name) + "\n");
    if (arguments.has("timings")) stopwatch.print(terminal);
    return 0;
}

Result<int> ssh(const Arguments& arguments, Context& context) {
    Stopwatch stopwatch;
    Interrupts interrupts;
    Session session = BANGER_TRY(open_session(context));
    const Result<protocol::VmReply> shown = session.daemon.call<protocol::VmReply>(
        "io.banger.Vm.Show", protocol::NamedVm{arguments.words[0]}, {.stop_fd = interrupts.fd()});
    if (!shown)
        return report_failure(shown.error(), context, interrupts, "cancelled", exit_not_run);
    const int status = use(session, context, arguments, shown->vm, interrupts, stopwatch);
    if (arguments.has("timings")) stopwatch.print(context.terminal);
    return status;
}

/// What the sizes are without a flag, from configuration and host. Help never fails over it.
void resolve_sizes(CommandSpec& command) {
    const Result<PathEnvironment> environment = PathEnvironment::from_process();
    if (!environment) return;
    const Result<Paths> paths = find_paths(RunMode::user, *environment);
    if (!paths) return;
    const Result<Config> config = load_config(
        *paths, {.mode = RunMode::user, .home = paths->home, .default_ssh_key = paths->ssh_key});
    const Result<HostSize> host = HostSize::of_this_host();
    if (!config || !host) return;
    const Result<MachineSizes> sizes = work_out_sizes({}, config->vm_defaults, *host);
    const auto from = [](const auto& value, const std::string& text) {
        return text + ", " + value.source.text();
    };
    for (Option& option : command.options) {
        const Config::Plugins& plugins = config->plugins;
        if (option.names == "--backend") option.standard = *plugins.vm_backend;
        if (option.names == "--network") option.standard = *plugins.network;
        if (option.names == "--storage") option.standard = *plugins.storage;
        if (option.names == "--image")
            option.standard = from(config->default_image_name, *config->default_image_name);
        if (!sizes) continue;
        if (option.names == "--vcpu")
            option.standard = from(sizes->vcpus, std::to_string(*sizes->vcpus));
        if (option.names == "--memory")
            option.standard = from(sizes->memory, sizes->memory->text());
        if (option.names == "--disk-size") option.standard = from(sizes->disk, sizes->disk->text());
    }
}

std::vector<Option> machine_options() {
    return {
        {"--name", "NAME", "what to call it", "two random words", {}},
        {"--image",
         "IMAGE",
         "what to start from: a name of `banger image list`, or one to pull",
         "",
         {}},
        {"--vcpu", "N", "virtual CPUs", "", {}},
        {"--memory", "SIZE", "RAM: 512M, 4GiB; a bare number is MiB", "", {}},
        {"--disk-size", "SIZE", "work disk, mounted at /root", "", {}},
        {"--nat", "", "let the guest reach the world beyond this host", "", {}},
        {"--backend", "PLUGIN", "what runs it", "", {}},
        {"--network", "PLUGIN", "what connects it", "", {}},
        {"--storage", "PLUGIN", "what keeps its disks", "", {}},
    };
}

const Option timings_option = {
    "--timings", "", "print where the time went, stage by stage", "", {}};

constexpr const char* exit_statuses =
    "The exit status is the command's own; 125 when banger failed before the command could run,\n"
    "126 and 127 as a shell has them.";

}  // namespace

void add_vm_run_commands(CommandTable& table) {
    CommandSpec run_command = {
        "vm",
        "run",
        {},
        "make a machine and open a shell or run a command in it",
        std::string(
            "Makes a machine, starts it, and opens a shell in it by ssh; or, after `--`, runs one\n"
            "command: its input, output and exit status are yours. Everything that banger itself "
            "has\n"
            "to say goes to standard error. The machine stays when you leave it, unless --rm is "
            "given.\n\n") +
            exit_statuses,
        {},
        true,
        machine_options(),
        {{"banger vm run", "a machine and a shell in it"},
         {"banger vm run --rm -- uname -a", "one command in a throw-away machine"},
         {"banger vm run --name sandbox --memory 4GiB", "one to keep"},
         {"echo 'echo hello' | banger vm run --rm -- sh", "input comes from here"},
         {"banger vm run -d", "make it and come back at once"}},
        run,
        resolve_sizes};
    for (const Option& option : std::vector<Option>{
             {"--rm", "", "delete the machine when the session or command ends", "", {}},
             {"-d,--detach", "", "print the name once it is ready, and leave it running", "", {}},
             timings_option,
             quiet_option("print nothing but what the guest prints; with -d the id")})
        run_command.options.push_back(option);

    CommandSpec create_command = {
        "vm",
        "create",
        {},
        "make a machine, without a session",
        "Makes a machine and, unless --no-start is given, starts it. Prints its name.",
        {},
        false,
        machine_options(),
        {{"banger vm create --name sandbox", "make it and start it"},
         {"banger vm create --no-start --name later", "make it for later"}},
        create_only,
        resolve_sizes};
    for (const Option& option : std::vector<Option>{{"--no-start", "", "do not start it", "", {}},
                                                    timings_option,
                                                    format_option(),
                                                    quiet_option("print the id alone")})
        create_command.options.push_back(option);

    CommandSpec ssh_command = {
        "vm",
        "ssh",
        {},
        "open a shell or run a command in a running machine",
        std::string("Opens a shell; or, after `--`, runs one command. No password, no prompt: "
                    "banger has the\n"
                    "key, and knows the guest's.\n\n") +
            exit_statuses,
        {"VM", 1, 1},
        true,
        {timings_option},
        {{"banger vm ssh sandbox", "a shell"},
         {"banger vm ssh sandbox -- journalctl -b", "one command"},
         {"banger vm ssh sandbox -- tar c . > sandbox.tar", "its output, byte by byte"}},
        ssh,
        nullptr};
    table.commands.push_back(std::move(run_command));
    table.commands.push_back(std::move(create_command));
    table.commands.push_back(std::move(ssh_command));
}

}  // namespace banger::cli

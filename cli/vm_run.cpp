#include <chrono>
#include <functional>
#include <optional>

#include "banger/values.hpp"
#include "cli/commands.hpp"
#include "cli/guest_session.hpp"
#include "cli/interrupts.hpp"
#include "cli/reference.hpp"
#include "cli/render/progress.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "cli/ssh_config.hpp"
#include "cli/ssh_files.hpp"
#include "cli/vm_flags.hpp"
#include "cli/vm_view.hpp"
#include "cli/workspace.hpp"
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
    if (const std::optional<std::string> image = arguments.value("image"))
        request.image = BANGER_TRY(absolute_reference(*image));
    request.vcpus = BANGER_TRY(count_flag(arguments, "vcpu"));
    request.memory = BANGER_TRY(size_flag(arguments, "memory"));
    request.disk = BANGER_TRY(size_flag(arguments, "disk-size"));
    if (arguments.has("nat")) request.nat = true;
    request.backend = arguments.value("backend");
    request.network = arguments.value("network");
    request.storage = arguments.value("storage");
    return request;
}

/// Deletes the machine of `--rm`, on a connection and with a deadline of its own; signals wait.
Result<void> clean_up(Session& session, const Vm& vm) {
    client::Daemon daemon = session.daemon.another();
    BANGER_TRY(daemon
                   .call<protocol::DeleteVmReply>("io.banger.Vm.Delete",
                                                  protocol::DeleteVm{vm.id, true},
                                                  {.timeout = cleanup_patience})
                   .context("deleting " + vm.name));
    drop_kept_connections(session.user_paths.run, vm.id);
    return forget_host_key(session.user_paths.known_hosts, vm.id);
}

/// The machine, made: from the spec line to the guest's readiness.
Result<Vm> create(Session& session, Context& context, protocol::VmRequest request, bool is_started,
                  bool is_quiet, Interrupts& interrupts, Stopwatch& stopwatch,
                  const std::function<Result<void>(const protocol::Plan&)>& check = {}) {
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
    if (check) BANGER_TRY(check(planned.plan));
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

/// Session or command in a machine that is there, and what follows it.
int use(Session& session, Context& context, const Arguments& arguments, const Vm& vm,
        const StayWish& wish, Interrupts& interrupts, Stopwatch& stopwatch) {
    Terminal& terminal = context.terminal;
    const Stay stay = stay_in(session, context, vm, wish, interrupts);
    // One whose ssh never came up is kept even with --rm: somebody wants to know why.
    if (!stay.has_connected) return stay.status;
    stopwatch.add("ssh", stay.until_connected);
    stopwatch.add(wish.command ? "command" : "session", stay.took);
    int status = stay.status;

    if (arguments.has("rm")) {
        const Clock::time_point began = Clock::now();
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

/// What `run PATH` is to copy; nothing without PATH. Everything about it that can be refused is.
Result<std::optional<CopyWish>> wish_of_run(const Arguments& arguments, std::stop_token stop) {
    if (!arguments.words.empty()) {
        CopyWish wish = BANGER_TRY(copy_wish(arguments, arguments.words[0], stop));
        return std::optional(std::move(wish));
    }
    for (const char* name : {"branch", "from", "include-untracked", "dry-run"})
        if (arguments.has(name) || arguments.value(name))
            return Error(Errc::invalid_argument, "--" + std::string(name) + " needs PATH",
                         "Say which repository: banger vm run PATH --" + std::string(name));
    return std::optional<CopyWish>();
}

/// Without a way out, tools cannot be installed.
Result<void> check_tools(const CopyWish& wish, const protocol::Plan& plan) {
    const bool has_way_out = plan.nat || plan.network == "net-user";
    if (!wish.plan.wants_tools || has_way_out) return ok();
    return Error(Errc::wrong_state,
                 wish.plan.repository.root +
                     " asks for tools (mise), and the machine would have no way out to get them",
                 "Give it one with --nat, or leave them out with --no-bootstrap");
}

/// The copy and what belongs to it, in the machine that was just made. Not-zero: the exit status.
int bring_in(Session& session, Context& context, const Arguments& arguments, const Vm& vm,
             CopyWish& wish, Interrupts& interrupts, Stopwatch& stopwatch) {
    const Clock::time_point began = Clock::now();
    // Once more: while the machine booted, files may have changed.
    Result<workspace::CopyPlan> now = workspace::plan_copy(wish.git, wish.plan.request, {});
    Result<void> copied = now ? ok() : Result<void>(now.error());
    if (now) {
        wish.plan = std::move(*now);
        copied = copy_workspace(session, context, vm, wish, arguments.has("quiet"), interrupts);
    }
    stopwatch.add("copying in", since(began));
    if (copied && wish.plan.wants_tools && !arguments.has("no-bootstrap"))
        copied = bootstrap_tools(session, context, vm, wish, arguments.guest_command.has_value(),
                                 interrupts);
    if (copied) return 0;
    const int status =
        report_failure(copied.error(), context, interrupts, "cancelled", exit_not_run);
    // As with a session: one whose ssh never came up is kept, so that somebody can look.
    if (arguments.has("rm") && copied.error().code != Errc::timed_out) {
        const Result<void> cleaned = clean_up(session, vm);
        if (!cleaned) context.terminal.error(cleaned.error());
        return status;
    }
    context.terminal.note(vm.name + " is kept. Try again: banger vm workspace prepare " + vm.name +
                          "; remove it: banger vm delete " + vm.name + "\n");
    return status;
}

Result<int> run(const Arguments& arguments, Context& context) {
    Stopwatch stopwatch;
    if (const Result<void> fits = check_detached(arguments); !fits)
        return usage_error(context, fits.error());
    Result<protocol::VmRequest> request = request_from(arguments);
    if (!request) return usage_error(context, request.error());

    Interrupts interrupts;
    const StopOnInterrupt stop(interrupts);
    Result<std::optional<CopyWish>> wish = wish_of_run(arguments, stop.token());
    if (!wish && wish.error().code == Errc::invalid_argument)
        return usage_error(context, wish.error());
    if (!wish) return report_failure(wish.error(), context, interrupts, nothing_left, exit_not_run);
    if (*wish) say_left_out(**wish, context, arguments.has("quiet"));
    if (arguments.has("dry-run")) return print_files(**wish, context);

    Session session = BANGER_TRY(open_session(context));
    const bool bootstraps = *wish && !arguments.has("no-bootstrap");
    const auto check = [&](const protocol::Plan& plan) {
        return bootstraps ? check_tools(**wish, plan) : ok();
    };
    const Result<Vm> vm = create(session, context, std::move(*request), true,
                                 arguments.has("quiet"), interrupts, stopwatch, check);
    if (!vm) return report_failure(vm.error(), context, interrupts, nothing_left, exit_not_run);

    StayWish stay{.command = arguments.guest_command,
                  .folder = {},
                  .forwards_agent = arguments.has("forward-agent"),
                  .is_run = true,
                  .entrypoint = {},
                  .user = {}};
    add_flags(stay, arguments);
    int status = 0;
    if (*wish) {
        status = bring_in(session, context, arguments, *vm, **wish, interrupts, stopwatch);
        stay.folder = (*wish)->plan.request.guest_path;
    }
    if (status == 0 && arguments.has("detach"))
        context.terminal.out((arguments.has("quiet") ? vm->id : vm->name) + "\n");
    else if (status == 0)
        status = use(session, context, arguments, *vm, stay, interrupts, stopwatch);
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
    StayWish wish{.command = arguments.guest_command,
                  .folder = {},
                  .forwards_agent = arguments.has("forward-agent"),
                  .entrypoint = {},
                  .user = {}};
    add_flags(wish, arguments);
    const int status = use(session, context, arguments, shown->vm, wish, interrupts, stopwatch);
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
            "given.\n\n"
            "With PATH, the git repository that it lies in is copied to /root/repo, and the "
            "session "
            "begins\nthere: tracked files as they are now, with one commit of history. `banger vm "
            "workspace export`\ngets the changes out again.\n\n") +
            exit_statuses,
        {"PATH", 0, 1},
        true,
        machine_options(),
        {{"banger vm run", "a machine and a shell in it"},
         {"banger vm run .", "the same with this repository in /root/repo"},
         {"banger vm run . --rm -- make test", "run its tests in a throw-away machine"},
         {"banger vm run --rm -- uname -a", "one command in a throw-away machine"},
         {"banger vm run --name sandbox --memory 4GiB", "one to keep"},
         {"echo 'echo hello' | banger vm run --rm -- sh", "input comes from here"},
         {"banger vm run -d", "make it and come back at once"}},
        run,
        resolve_sizes};
    for (const Option& option : copy_options())
        run_command.options.push_back(option);
    for (const Option& option : std::vector<Option>{
             {"--no-bootstrap",
              "",
              "do not install the tools that the repository asks of mise",
              "",
              {}},
             forward_agent_option(),
             user_option(),
             {"--entrypoint",
              "PROGRAM",
              "run the command with this program; \"\" for none",
              "the image's, where it has no sshd",
              {}},
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
        {forward_agent_option(), user_option(), timings_option},
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

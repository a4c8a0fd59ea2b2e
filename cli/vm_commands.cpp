#include <iostream>

#include "cli/commands.hpp"
#include "cli/console.hpp"
#include "cli/render/progress.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "cli/ssh.hpp"
#include "cli/ssh_files.hpp"
#include "cli/vm_view.hpp"

namespace banger::cli {

namespace {

Result<int> list(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    protocol::ListVmsReply reply = BANGER_TRY(
        session.daemon.call<protocol::ListVmsReply>("io.banger.Vm.List", protocol::ListVms{}));
    Terminal& terminal = context.terminal;
    if (arguments.has("quiet")) {
        std::string ids;
        for (const protocol::Vm& vm : reply.vms)
            ids += vm.id + "\n";
        terminal.out(ids);
    } else if (wants_json(arguments)) {
        terminal.out(json_text(reply.vms));
    } else if (reply.vms.empty()) {
        terminal.note("There are no machines yet. Make one: banger vm run\n");
    } else {
        terminal.out(
            vm_table(reply.vms, now_seconds(), terminal.out_style(), terminal.out_width()));
    }
    return 0;
}

Result<int> show(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    std::vector<protocol::Vm> vms;
    for (const std::string& name : arguments.words)
        vms.push_back(BANGER_TRY(session.daemon.call<protocol::VmReply>("io.banger.Vm.Show",
                                                                        protocol::NamedVm{name}))
                          .vm);
    Terminal& terminal = context.terminal;
    std::string text;
    for (const protocol::Vm& vm : vms) {
        if (arguments.has("quiet"))
            text += vm.id + "\n";
        else if (wants_json(arguments))
            text += json_text(vm);
        else
            text += (text.empty() ? "" : "\n") + vm_sheet(vm, now_seconds(), terminal.out_style());
    }
    terminal.out(text);
    return 0;
}

/// A long call of one machine's; the line of progress is gone when it ends.
template <class Reply, class In>
Result<Reply> call_and_show(client::Daemon& daemon, const std::string& method, const In& in,
                            ProgressView& progress) {
    Result<Reply> reply = daemon.call<Reply>(
        method, in, {.on_progress = [&](const Progress& now) { progress.show(now); }});
    progress.finish();
    return reply;
}

Result<int> start(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    // Several lines that redraw themselves would overwrite each other.
    ProgressView progress(context.terminal, arguments.words.size() > 1);
    return for_each(arguments.words, session, context,
                    [&](client::Daemon& daemon, const std::string& name) -> Result<std::string> {
                        const auto done = BANGER_TRY(call_and_show<protocol::CreateVmReply>(
                            daemon, "io.banger.Vm.Start", protocol::NamedVm{name}, progress));
                        return "started " + (done.vm ? done.vm->name : name);
                    });
}

/// To follow the name of a machine that was stopped.
std::string how_it_went(const protocol::StopVmReply& stopped) {
    return stopped.was_forced.value_or(false) ? " (forced: the guest did not power off)" : "";
}

Result<int> stop(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    ProgressView progress(context.terminal, arguments.words.size() > 1);
    return for_each(arguments.words, session, context,
                    [&](client::Daemon& daemon, const std::string& name) -> Result<std::string> {
                        const auto done = BANGER_TRY(call_and_show<protocol::StopVmReply>(
                            daemon, "io.banger.Vm.Stop", protocol::NamedVm{name}, progress));
                        return "stopped " + (done.vm ? done.vm->name : name) + how_it_went(done);
                    });
}

Result<int> restart(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    ProgressView progress(context.terminal, arguments.words.size() > 1);
    const auto work = [&](client::Daemon& daemon, const std::string& name) -> Result<std::string> {
        const client::CallOptions options{
            .on_progress = [&](const Progress& now) { progress.show(now); }};
        Result<protocol::StopVmReply> stopped = daemon.call<protocol::StopVmReply>(
            "io.banger.Vm.Stop", protocol::NamedVm{name}, options);
        // By id: between the two calls the name may have come to belong to another machine.
        const std::string id = stopped && stopped->vm ? stopped->vm->id : name;
        const Result<protocol::CreateVmReply> started =
            stopped ? daemon.call<protocol::CreateVmReply>("io.banger.Vm.Start",
                                                           protocol::NamedVm{id}, options)
                    : stopped.error();
        progress.finish();
        const protocol::CreateVmReply done = BANGER_TRY(started);
        return "restarted " + (done.vm ? done.vm->name : name) + how_it_went(*stopped);
    };
    return for_each(arguments.words, session, context, work);
}

Result<int> kill(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    const std::optional<std::string> signal = arguments.value("signal");
    const bool is_end = !signal || *signal == "KILL";
    return for_each(arguments.words, session, context,
                    [&](client::Daemon& daemon, const std::string& name) -> Result<std::string> {
                        const protocol::VmReply done = BANGER_TRY(daemon.call<protocol::VmReply>(
                            "io.banger.Vm.Kill", protocol::KillVm{name, signal}));
                        return is_end ? "killed " + done.vm.name
                                      : "sent " + *signal + " to " + done.vm.name;
                    });
}

/// Machines by name or id, and what we know of their host keys.
Result<int> delete_each(const std::vector<std::string>& names, bool is_forced, Session& session,
                        Context& context) {
    ProgressView progress(context.terminal, names.size() > 1);
    return for_each(
        names, session, context,
        [&](client::Daemon& daemon, const std::string& name) -> Result<std::string> {
            const auto done = BANGER_TRY(call_and_show<protocol::DeleteVmReply>(
                daemon, "io.banger.Vm.Delete", protocol::DeleteVm{name, is_forced}, progress));
            if (!done.vm) return "deleted " + name;
            drop_kept_connections(session.user_paths.run, done.vm->id);
            BANGER_TRY(forget_host_key(session.user_paths.known_hosts, done.vm->id));
            return "deleted " + done.vm->name;
        });
}

Result<int> remove(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    return delete_each(arguments.words, arguments.has("force"), session, context);
}

bool may_be_pruned(const protocol::Vm& vm) {
    return vm.state == "created" || vm.state == "stopped" || vm.state == "error" ||
           vm.state == "deleting";
}

/// Anything but a yes is a no, the end of the input too.
bool is_confirmed(Terminal& terminal, const std::string& question) {
    terminal.note(question + " [y/N] ");
    std::string answer;
    std::getline(std::cin, answer);
    return answer == "y" || answer == "Y" || answer == "yes";
}

Result<int> prune(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    Terminal& terminal = context.terminal;
    const protocol::ListVmsReply reply = BANGER_TRY(
        session.daemon.call<protocol::ListVmsReply>("io.banger.Vm.List", protocol::ListVms{}));
    std::vector<std::string> ids;
    std::string listed;
    for (const protocol::Vm& vm : reply.vms)
        if (may_be_pruned(vm)) {
            ids.push_back(vm.id);
            listed += "  " + vm.name + " (" + vm.state + ")\n";
        }
    if (ids.empty()) {
        terminal.note(reply.vms.empty() ? "There are no machines.\n"
                                        : "Every machine runs: there is nothing to delete.\n");
        return 0;
    }
    if (arguments.has("dry-run")) {
        terminal.note("These machines would be deleted, and their disks:\n");
        terminal.out(listed);
        return 0;
    }
    if (!arguments.has("force")) {
        if (!terminal.in_is_terminal())
            return usage_error(context,
                               Error(Errc::invalid_argument, "nobody is there to be asked",
                                     "Look with `banger vm prune --dry-run`, then add -f."));
        terminal.note("These machines do not run:\n" + listed);
        if (!is_confirmed(terminal, "Delete them and their disks?")) {
            terminal.note("Nothing is deleted.\n");
            return exit_failed;
        }
    }
    return delete_each(ids, false, session, context);
}

Result<int> logs(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    Terminal& terminal = context.terminal;
    TerminalFilter filter;
    BANGER_TRY(read_console(session.daemon, arguments.words[0], arguments.has("follow"),
                            [&](const std::string& bytes) -> Result<void> {
                                // Raw into a file or pipe; what commands a terminal stays away from
                                // one.
                                terminal.out(terminal.out_is_terminal() ? filter(bytes) : bytes);
                                return terminal.check_output();
                            }));
    return 0;
}

CommandSpec lifecycle(std::string name, std::string summary, std::string details,
                      std::vector<Option> options, std::vector<Example> examples,
                      decltype(CommandSpec::run) run) {
    return {"vm",
            std::move(name),
            {},
            std::move(summary),
            std::move(details),
            {"VM...", 1, Words::many},
            false,
            std::move(options),
            std::move(examples),
            run,
            nullptr};
}

constexpr const char* naming =
    "VM is a name, an id, or the beginning of an id that only one machine has.";
const std::string several = std::string(naming) +
                            " Several are worked on at once, reported in the order given, and one "
                            "that fails does not keep the others.";

}  // namespace

void add_vm_commands(CommandTable& table) {
    table.groups.push_back(
        {"vm",
         "make, use and remove machines",
         "A machine is a microVM with a Linux of its own: made in seconds, reached by ssh, thrown\n"
         "away or kept. Its /root is a disk of its own and outlives restarts.",
         {{"banger vm run", "make one and open a shell in it"},
          {"banger vm run --rm -- uname -a", "run one command in a fresh one, then delete it"},
          {"banger vm list", "see what there is"},
          {"banger vm ssh NAME", "come back to one"},
          {"banger vm delete NAME", "remove it and everything of it"}}});
    table.commands.push_back({"vm",
                              "list",
                              {"ls"},
                              "list machines",
                              "Lists every machine, running or not. `banger ps` is the same.",
                              {},
                              false,
                              {format_option(), quiet_option("print ids alone")},
                              {{"banger vm list", "see every machine"},
                               {"banger vm list --format json | jq -r '.[].name'", "for a script"},
                               {"banger vm delete $(banger vm list -q)", "remove them all"}},
                              list,
                              nullptr});
    CommandSpec ps = table.commands.back();
    ps.group.clear();
    ps.name = "ps";
    ps.other_names.clear();
    ps.summary = "list machines (vm list)";
    table.commands.push_back(std::move(ps));
    table.commands.push_back(
        {"vm",
         "show",
         {},
         "show everything about a machine",
         naming,
         {"VM...", 1, Words::many},
         false,
         {format_option(), quiet_option("print the id alone")},
         {{"banger vm show sandbox", "its sizes, address and state"},
          {"banger vm show sandbox --format json | jq .ssh", "where its sshd answers"}},
         show,
         nullptr});
    table.commands.push_back(
        lifecycle("start", "start machines that are stopped",
                  several + " Returns when the guest is ready. A running machine is left as it is.",
                  {}, {{"banger vm start sandbox", "start it again"}}, start));
    table.commands.push_back(lifecycle(
        "stop", "stop machines, losing nothing",
        several + " The guest writes its data to disk and powers off; one that does not react is "
                  "forced, and that is said. A stopped machine is left as it is.",
        {}, {{"banger vm stop sandbox", "stop it; its disks stay"}}, stop));
    table.commands.push_back(lifecycle(
        "restart", "stop machines and start them again",
        several + " As `stop` and then `start`: nothing is lost, and a stopped machine is started.",
        {}, {{"banger vm restart sandbox", "boot it anew"}}, restart));
    table.commands.push_back(lifecycle(
        "kill", "end machines now, without asking the guest",
        several +
            " As when the power fails: what the guest had not written to disk is lost. A signal "
            "other than KILL goes to the process that runs the machine, and nothing is waited for.",
        {{"--signal",
          "SIGNAL",
          "what to send",
          "KILL",
          {"ABRT", "HUP", "INT", "KILL", "QUIT", "TERM"}}},
        {{"banger vm kill sandbox", "end one that hangs"},
         {"banger vm kill --signal ABRT sandbox",
          "end its VMM with a core dump, for a bug report"}},
        kill));
    table.commands.push_back(lifecycle(
        "delete", "remove machines and everything of them",
        several + " A running machine is stopped first.",
        {{"-f,--force", "", "end a running machine at once, without asking the guest", "", {}}},
        {{"banger vm delete sandbox", "remove it, its disks too"},
         {"banger vm delete one two three", "several at once"}},
        remove));
    table.commands.back().other_names = {"rm"};
    table.commands.push_back(
        {"vm",
         "prune",
         {},
         "delete every machine that does not run",
         "Lists them and asks first; without a terminal it deletes only with "
         "--force. Their disks go too. Also takes those that are in error or "
         "whose delete did not finish.",
         {},
         false,
         {{"-f,--force", "", "do not ask", "", {}}, {"--dry-run", "", "only list them", "", {}}},
         {{"banger vm prune", "see what would go, and say yes or no"},
          {"banger vm prune -f", "for a script"}},
         prune,
         nullptr});
    table.commands.push_back(
        {"vm",
         "logs",
         {},
         "print a machine's serial console",
         std::string(naming) +
             " What the guest's kernel and init said. On a terminal, control "
             "sequences are left out; in a pipe or file every byte is as it came.",
         {"VM", 1, 1},
         false,
         {{"-f,--follow", "", "go on until the machine ends", "", {}}},
         {{"banger vm logs sandbox", "why did it not come up?"},
          {"banger vm logs -f sandbox", "watch it boot"}},
         logs,
         nullptr});
}

}  // namespace banger::cli

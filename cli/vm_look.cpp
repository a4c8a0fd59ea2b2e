#include <poll.h>

#include <chrono>
#include <optional>

#include "cli/commands.hpp"
#include "cli/config.hpp"
#include "cli/render/table.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "cli/vm_stats.hpp"
#include "core/base/process.hpp"

namespace banger::cli {

namespace {

/// One machine, as `vm health --format json` prints it.
struct HealthRow {
    std::string name;  ///< as it was asked for
    bool is_ready = false;
    std::string failure;
    std::vector<protocol::Probe> probes;
    std::string boot_id;
};

}  // namespace

}  // namespace banger::cli

namespace banger::rpc {

template <>
struct Fields<cli::StatsRow> {
    using Row = cli::StatsRow;
    static constexpr auto list =
        fields(field("id", &Row::id), field("name", &Row::name), field("state", &Row::state),
               field("reason", &Row::reason), field("cpu_percent", &Row::cpu_percent),
               field("cpus", &Row::cpus), field("load", &Row::load), field("memory", &Row::memory),
               field("memory_used", &Row::memory_used), field("root", &Row::root),
               field("work", &Row::work), field("host_cpu_percent", &Row::host_cpu_percent),
               field("host_memory", &Row::host_memory), field("disks", &Row::disks));
};

template <>
struct Fields<cli::HealthRow> {
    using Row = cli::HealthRow;
    static constexpr auto list =
        fields(field("name", &Row::name), field("is_ready", &Row::is_ready),
               field("failure", &Row::failure), field("probes", &Row::probes),
               field("boot_id", &Row::boot_id));
};

}  // namespace banger::rpc

namespace banger::cli {

namespace {

using namespace std::chrono_literals;
using Colour = Style::Colour;

/// Between the two answers that a rate needs, where nobody waits for a third.
constexpr std::chrono::milliseconds rate_interval = 500ms;

/// What was asked of each, in the order given; errors are printed and told by the exit status.
template <class T>
struct Answers {
    std::vector<Result<T>> all;
    explicit Answers(std::size_t count)
        : all(count, Result<T>(Error(Errc::internal, "it was not asked"))) {}
    int print_errors(Terminal& terminal) const {
        int status = 0;
        for (const Result<T>& each : all) {
            if (each) continue;
            terminal.error(each.error());
            status = exit_failed;
        }
        return status;
    }
};

int nothing_runs(const Arguments& arguments, Terminal& terminal) {
    if (wants_json(arguments))
        terminal.out("[]\n");
    else
        terminal.note("No machine runs. Start one: banger vm start NAME\n");
    return 0;
}

// ---- stats -------------------------------------------------------------------------------------

/// Asks all machines at once, again and again.
class StatsView {
public:
    StatsView(std::vector<std::string> names, Session& session, int stop_fd)
        : names_(std::move(names)),
          session_(session),
          stop_fd_(stop_fd),
          before_(names_.size()),
          now_(names_.size()) {}

    Result<void> sample() {
        for (std::size_t i = 0; i < names_.size(); ++i)
            before_[i] = now_.all[i] ? std::optional(now_.all[i]->stats) : std::nullopt;
        return run_each(names_.size(), session_, [&](client::Daemon& daemon, std::size_t index) {
            now_.all[index] = daemon.call<protocol::StatsOfVmReply>(
                "io.banger.Vm.Stats", protocol::NamedVm{names_[index]}, {.stop_fd = stop_fd_});
        });
    }

    [[nodiscard]] std::vector<StatsRow> rows() const {
        std::vector<StatsRow> rows;
        for (std::size_t i = 0; i < names_.size(); ++i)
            if (now_.all[i]) rows.push_back(stats_row(before_[i], now_.all[i]->stats));
        return rows;
    }
    int print_errors(Terminal& terminal) const { return now_.print_errors(terminal); }

private:
    std::vector<std::string> names_;
    Session& session_;
    int stop_fd_;
    std::vector<std::optional<protocol::StatsOfVm>> before_;
    Answers<protocol::StatsOfVmReply> now_;
};

/// True when a signal came before the time had passed.
Result<bool> was_interrupted(Interrupts& interrupts, std::chrono::milliseconds time) {
    const int events = BANGER_TRY(poll_fd(interrupts.fd(), POLLIN, time, {}));
    return events != 0;
}

Result<int> watch_stats(const Arguments& arguments, Context& context, Session& session) {
    Terminal& terminal = context.terminal;
    const Config config = BANGER_TRY(effective_config(session.daemon.place()));
    const std::chrono::milliseconds interval = *config.stats_poll_interval;
    Interrupts interrupts;
    bool is_first = true;
    // Without names it is whoever runs then.
    std::optional<StatsView> view;
    std::vector<std::string> shown;
    for (;;) {
        std::vector<std::string> names = BANGER_TRY(named_or_running(arguments, session));
        const bool is_new = !view || names != shown;
        if (is_new) {
            shown = names;
            view.emplace(std::move(names), session, interrupts.fd());
            BANGER_TRY(view->sample());
            if (BANGER_TRY(was_interrupted(interrupts, rate_interval))) break;
        }
        BANGER_TRY(view->sample());
        if (BANGER_TRY(was_interrupted(interrupts, 0ms))) break;
        const std::vector<StatsRow> rows = view->rows();
        if (wants_json(arguments)) {
            terminal.out(rpc::encode(rows).text() + "\n");
        } else {
            std::string text;
            if (terminal.out_is_terminal()) text = is_first ? "\x1b[2J\x1b[H" : "\x1b[H\x1b[J";
            text += stats_table(rows, terminal.out_style(), terminal.out_width());
            terminal.out(text + (terminal.out_is_terminal() ? "" : "\n"));
        }
        is_first = false;
        view->print_errors(terminal);
        BANGER_TRY(terminal.check_output());
        if (BANGER_TRY(was_interrupted(interrupts, interval))) break;
    }
    return 0;
}

Result<int> stats(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    Terminal& terminal = context.terminal;
    if (arguments.has("watch")) return watch_stats(arguments, context, session);
    std::vector<std::string> names = BANGER_TRY(named_or_running(arguments, session));
    if (names.empty()) return nothing_runs(arguments, terminal);
    Interrupts interrupts;
    StatsView view(std::move(names), session, interrupts.fd());
    BANGER_TRY(view.sample());
    if (BANGER_TRY(was_interrupted(interrupts, rate_interval))) {
        interrupts.take();
        return interrupts.exit_status();
    }
    BANGER_TRY(view.sample());
    const std::vector<StatsRow> rows = view.rows();
    if (wants_json(arguments)) {
        terminal.out(json_text(rows));
    } else {
        if (!rows.empty())
            terminal.out(stats_table(rows, terminal.out_style(), terminal.out_width()));
        terminal.note(disk_warnings(rows));
    }
    return view.print_errors(terminal);
}

// ---- ports -------------------------------------------------------------------------------------

std::string listener_text(const protocol::Port& port) {
    const bool is_v6 = port.address.find(':') != port.address.npos;
    return port.protocol + " " + (is_v6 ? "[" + port.address + "]" : port.address) + ":" +
           std::to_string(port.port);
}

Result<int> ports(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    Terminal& terminal = context.terminal;
    const std::vector<std::string> names = BANGER_TRY(named_or_running(arguments, session));
    if (names.empty()) return nothing_runs(arguments, terminal);
    Answers<protocol::PortsOfVmReply> answers(names.size());
    BANGER_TRY(run_each(names.size(), session, [&](client::Daemon& daemon, std::size_t index) {
        answers.all[index] = daemon.call<protocol::PortsOfVmReply>("io.banger.Vm.Ports",
                                                                   protocol::NamedVm{names[index]});
    }));
    std::vector<protocol::PortsOfVmReply> found;
    Table table({"NAME", "LISTENS", "PROCESS", "ENDPOINT"});
    for (const Result<protocol::PortsOfVmReply>& answer : answers.all) {
        if (!answer) continue;
        found.push_back(*answer);
        for (const protocol::Port& port : answer->ports)
            table.add({{answer->name, Colour::bold},
                       listener_text(port),
                       port.process.empty() ? "-" : port.process,
                       port.endpoint ? Cell(*port.endpoint, Colour::cyan)
                                     : Cell("- (" + port.note + ")", Colour::dim)});
    }
    if (wants_json(arguments))
        terminal.out(json_text(found));
    else if (!table.is_empty())
        terminal.out(table.text(terminal.out_style(), terminal.out_width()));
    else if (!found.empty())
        terminal.note("Nothing listens.\n");
    return answers.print_errors(terminal);
}

// ---- health ------------------------------------------------------------------------------------

/// A machine that cannot answer is not healthy; a name that belongs to none is a mistake.
bool is_mistake(const Error& error) {
    return error.code == Errc::not_found || error.code == Errc::invalid_argument;
}

void add_rows(Table& table, const HealthRow& row) {
    const auto add = [&](const std::string& probe, bool ok, const std::string& reason) {
        table.add({{row.name, Colour::bold},
                   probe,
                   ok ? Cell("pass", Colour::green) : Cell("FAIL", Colour::red),
                   reason});
    };
    for (const protocol::Probe& probe : row.probes)
        add(probe.name, probe.ok, probe.detail);
    if (!row.failure.empty() || row.probes.empty())
        add("agent", row.is_ready && row.failure.empty(), row.failure);
}

Result<int> health(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    Terminal& terminal = context.terminal;
    const std::vector<std::string> names = BANGER_TRY(named_or_running(arguments, session));
    if (names.empty()) return nothing_runs(arguments, terminal);
    Answers<protocol::HealthOfVmReply> answers(names.size());
    BANGER_TRY(run_each(names.size(), session, [&](client::Daemon& daemon, std::size_t index) {
        answers.all[index] = daemon.call<protocol::HealthOfVmReply>(
            "io.banger.Vm.Health", protocol::HealthOfVm{names[index], arguments.has("wait")});
    }));
    int status = 0;
    std::vector<HealthRow> rows;
    Table table({"NAME", "PROBE", "RESULT", "REASON"});
    for (std::size_t i = 0; i < names.size(); ++i) {
        const Result<protocol::HealthOfVmReply>& answer = answers.all[i];
        if (!answer || !answer->is_ready) status = exit_failed;
        if (!answer && is_mistake(answer.error())) {
            terminal.error(answer.error());
            continue;
        }
        rows.push_back(answer ? HealthRow{names[i], answer->is_ready, answer->failure,
                                          answer->probes, answer->boot_id}
                              : HealthRow{names[i], false, answer.error().message, {}, {}});
        add_rows(table, rows.back());
    }
    if (wants_json(arguments))
        terminal.out(json_text(rows));
    else if (!table.is_empty())
        terminal.out(table.text(terminal.out_style(), terminal.out_width()));
    return status;
}

constexpr const char* whom =
    "VM is a name, an id, or the beginning of an id that only one machine has; without one it is "
    "every machine that runs. Several are asked at once, and one that does not answer does not "
    "keep the others. ";

CommandSpec look(std::string name, std::string summary, const std::string& details,
                 std::vector<Option> options, std::vector<Example> examples,
                 decltype(CommandSpec::run) run) {
    options.push_back(format_option());
    return {"vm",
            std::move(name),
            {},
            std::move(summary),
            whom + details,
            {"VM...", 0, Words::many},
            false,
            std::move(options),
            std::move(examples),
            run,
            nullptr};
}

}  // namespace

void add_vm_look_commands(CommandTable& table) {
    table.commands.push_back(look(
        "stats", "what machines use now",
        "CPU, memory and file systems are what the guest says; the columns that begin with HOST "
        "are what the machine takes of this host, measured here. A dash is what could not be "
        "had: a machine that is stopped, or a guest that does not answer within 2 s.",
        {{"--watch",
          "",
          "show it again every stats_poll_interval of the config, until Ctrl-C",
          "",
          {}}},
        {{"banger vm stats", "every machine that runs"},
         {"banger vm stats sandbox --watch", "follow one"},
         {"banger vm stats --format json | jq '.[].memory_used'", "for a script"}},
        stats));
    table.commands.push_back(look(
        "ports", "what listens in machines, and how to reach it",
        "ENDPOINT is an address that works on this host. In user mode that is ssh's alone; other "
        "ports, and in either mode those that listen on the guest's loopback, are reached with "
        "`banger vm forward`.",
        {}, {{"banger vm ports sandbox", "where is my web server?"}}, ports));
    table.commands.push_back(
        look("health", "whether machines are well",
             "A row for each thing that the guest's agent looks at. The exit status is 1 when a "
             "machine is not ready, does not answer or does not run.",
             {{"--wait", "", "until the guest is ready or has no more hope", "", {}}},
             {{"banger vm health sandbox", "which part did not come up?"},
              {"banger vm health sandbox --wait", "for a script that needs it"}},
             health));
}

}  // namespace banger::cli

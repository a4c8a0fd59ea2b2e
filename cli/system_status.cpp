#include <algorithm>
#include <optional>

#include "cli/render/table.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "cli/system_install.hpp"
#include "core/system/services.hpp"

namespace banger::cli {

namespace {

using Colour = Style::Colour;

struct ServiceRow {
    std::string unit;
    std::string state;
    std::int64_t pid = 0;
    std::int64_t since = 0;
    std::uint64_t restarts = 0;
    std::string status;
};

struct StatusReport {
    bool installed = false;
    std::string owner;
    std::int64_t owner_uid = 0;
    std::string version;
    std::string commit;
    std::vector<ServiceRow> services;
    std::optional<protocol::SystemInfoReply> daemon;
};

}  // namespace

}  // namespace banger::cli

template <>
struct banger::rpc::Fields<banger::cli::ServiceRow> {
    using Self = banger::cli::ServiceRow;
    static constexpr auto list =
        fields(field("unit", &Self::unit), field("state", &Self::state), field("pid", &Self::pid),
               field("since", &Self::since), field("restarts", &Self::restarts),
               field("status", &Self::status));
};

template <>
struct banger::rpc::Fields<banger::cli::StatusReport> {
    using Self = banger::cli::StatusReport;
    static constexpr auto list =
        fields(field("installed", &Self::installed), field("owner", &Self::owner),
               field("owner_uid", &Self::owner_uid), field("version", &Self::version),
               field("commit", &Self::commit), field("services", &Self::services),
               field("daemon", &Self::daemon));
};

namespace banger::cli {

namespace {

using namespace std::chrono_literals;

Result<StatusReport> look() {
    const system::Layout layout = system::Layout::at();
    StatusReport report;
    const std::optional<system::InstallRecord> record =
        BANGER_TRY(system::read_install_record(layout));
    report.installed = record.has_value();
    if (record) {
        const Result<system::Owner> owner = system::Owner::find(record->owner_uid);
        report.owner = owner ? owner->name : std::to_string(record->owner_uid);
        report.owner_uid = record->owner_uid;
        report.version = record->version;
        report.commit = record->commit;
    }
    if (system::has_systemd())
        for (const char* unit : system::unit_names) {
            const system::UnitState state = BANGER_TRY(system::unit_state(unit));
            if (state.load == "not-found" && !record) continue;
            report.services.push_back(
                {unit,
                 state.load == "not-found" ? state.load : state.active + " (" + state.sub + ")",
                 state.pid, state.since, state.restarts, state.status});
        }
    const PathEnvironment environment = BANGER_TRY(PathEnvironment::from_process());
    const client::DaemonPlace place{BANGER_TRY(find_paths(RunMode::system, environment)), {}};
    // Only the owner and root may ask; others see the services alone.
    if (Result<client::Connection> daemon = client::connect_running(place)) {
        Result<protocol::SystemInfoReply> info = daemon->call<protocol::SystemInfoReply>(
            "io.banger.System.Info", protocol::NoParameters{}, {.timeout = 5s});
        if (info) report.daemon = std::move(*info);
    }
    return report;
}

bool is_well(const StatusReport& report) {
    return report.installed && !report.services.empty() &&
           std::ranges::all_of(report.services, [](const ServiceRow& row) {
               return row.state.starts_with("active ");
           });
}

std::string table_text(const StatusReport& report, const Terminal& terminal) {
    Table table({"UNIT", "STATE", "PID", "SINCE", "RESTARTS", "STATUS"});
    for (const ServiceRow& row : report.services)
        table.add({row.unit,
                   {row.state, row.state.starts_with("active ") ? Colour::green : Colour::red},
                   row.pid > 0 ? std::to_string(row.pid) : "-",
                   row.since > 0 ? ago_text(now_seconds() - row.since) : "-",
                   std::to_string(row.restarts),
                   row.status.empty() ? "-" : row.status});
    Sheet sheet;
    sheet.add("owner", report.owner);
    sheet.add("version", report.version + " (" + report.commit + ")");
    if (report.daemon) sheet.add("machines", std::to_string(report.daemon->machines));
    return sheet.text(terminal.out_style()) + "\n" +
           table.text(terminal.out_style(), terminal.out_width());
}

}  // namespace

Result<int> system_status(const Arguments& arguments, Context& context) {
    const StatusReport report = BANGER_TRY(look());
    Terminal& terminal = context.terminal;
    if (wants_json(arguments)) {
        terminal.out(json_text(report));
    } else if (!report.installed && report.services.empty()) {
        terminal.out(
            "banger is not installed as a service; it runs in user mode.\n"
            "To install it: sudo banger system install --owner \"$USER\"\n");
    } else {
        terminal.out(table_text(report, terminal));
    }
    return is_well(report) ? 0 : exit_failed;
}

}  // namespace banger::cli

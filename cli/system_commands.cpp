#include <sys/stat.h>

#include <algorithm>

#include "cli/commands.hpp"
#include "cli/config.hpp"
#include "cli/render/table.hpp"
#include "cli/render/text.hpp"
#include "cli/report.hpp"
#include "cli/session.hpp"
#include "cli/system_install.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/version.hpp"

namespace banger::cli {

namespace {

using namespace std::chrono_literals;
using Colour = Style::Colour;

/// The user's key, wherever the configuration says that it is.
Check key_check(const Session& session) {
    const Result<Config> config = effective_config(session.daemon.place());
    if (!config)
        return {"configuration", CheckStatus::fail, config.error().message, config.error().remedy};
    const std::string& key = *config->ssh_key_path;
    struct stat status {};
    if (::stat(key.c_str(), &status) != 0) {
        if (key == session.user_paths.ssh_key)
            return {"ssh key", CheckStatus::pass, key + ", made at the first `banger vm run`", ""};
        return {"ssh key", CheckStatus::fail,
                key + " is not there (" + config->ssh_key_path.source.text() + ")",
                "Correct ssh_key_path, or leave it out: banger then makes a key of its own."};
    }
    if ((status.st_mode & 077) != 0)
        return {"ssh key", CheckStatus::fail, key + " can be read by others, and ssh refuses it",
                "Run: chmod 600 " + shell_quote(key)};
    return {"ssh key", CheckStatus::pass, key, ""};
}

/// What this command itself needs, apart from the daemon.
std::vector<Check> own_checks(const Session& session) {
    std::vector<Check> checks;
    const Result<std::string> ssh = find_program("ssh");
    if (ssh)
        checks.push_back({"ssh client", CheckStatus::pass, *ssh, ""});
    else
        checks.push_back({"ssh client", CheckStatus::fail, ssh.error().message,
                          "Install it: sudo apt install openssh-client"});
    checks.push_back(key_check(session));
    const Paths& paths = session.daemon.place().paths;
    if (paths.mode == RunMode::system)
        for (Check& check : system_checks(paths.root_socket))
            checks.push_back(std::move(check));
    return checks;
}

protocol::DoctorReply examine(Session& session) {
    Result<protocol::DoctorReply> reply = session.daemon.call<protocol::DoctorReply>(
        "io.banger.System.Doctor", protocol::NoParameters{});
    protocol::DoctorReply all;
    if (reply)
        all = *reply;
    else
        all.checks.push_back(
            {"bangerd", CheckStatus::fail, reply.error().message, reply.error().remedy});
    const std::vector<Check> own = own_checks(session);
    all.checks.insert(all.checks.begin(), own.begin(), own.end());
    return all;
}

Cell status_cell(CheckStatus status) {
    switch (status) {
        case CheckStatus::pass:
            return {"PASS", Colour::green};
        case CheckStatus::warn:
            return {"WARN", Colour::yellow};
        case CheckStatus::fail:
            return {"FAIL", Colour::red};
    }
    return {"?"};
}

/// A line a check; below those that do not pass, what to do.
std::string check_lines(const std::vector<Check>& checks, const Style& style) {
    std::size_t widest = 0;
    for (const Check& check : checks)
        widest = std::max(widest, width_of(check.name));
    std::string text;
    for (const Check& check : checks) {
        const Cell status = status_cell(check.status);
        text += style(status.colour, status.text) + "  " + printable(check.name);
        text.append(widest - std::min(widest, width_of(check.name)) + 2, ' ');
        text += printable(check.detail) + "\n";
        if (!check.remedy.empty())
            text +=
                std::string(6, ' ') + style(Colour::yellow, "→ " + printable(check.remedy)) + "\n";
    }
    return text;
}

/// To standard output, or into a file that only its owner can read.
Result<int> print_report(const Arguments& arguments, Session& session,
                         const protocol::DoctorReply& reply, Terminal& terminal) {
    const std::string report = bug_report(session, reply);
    const std::optional<std::string> file = arguments.value("output");
    if (!file) {
        terminal.out(report);
        return 0;
    }
    BANGER_TRY(write_file_atomic(*file, report, 0600));
    terminal.note("written to " + *file + ": read it before you send it\n");
    return 0;
}

Result<int> doctor(const Arguments& arguments, Context& context) {
    if (arguments.value("output") && !arguments.has("report"))
        return usage_error(context,
                           {Errc::invalid_argument, "--output is for a report", "Add --report"});
    Session session = BANGER_TRY(open_session(context));
    const protocol::DoctorReply reply = examine(session);
    Terminal& terminal = context.terminal;
    if (arguments.has("report")) return print_report(arguments, session, reply, terminal);
    if (wants_json(arguments)) {
        terminal.out(json_text(reply));
    } else {
        std::string text = check_lines(reply.checks, terminal.out_style());
        if (!reply.settings.empty()) text += "\n" + settings_table(reply.settings, terminal);
        terminal.out(text);
    }
    const bool has_failed = std::ranges::any_of(
        reply.checks, [](const Check& check) { return check.status == CheckStatus::fail; });
    return has_failed ? exit_failed : 0;
}

struct VersionReport {
    std::string version;
    std::string commit;
    std::string built;
    std::optional<protocol::SystemInfoReply> daemon;
};

}  // namespace

}  // namespace banger::cli

template <>
struct banger::rpc::Fields<banger::cli::VersionReport> {
    using Self = banger::cli::VersionReport;
    static constexpr auto list =
        fields(field("version", &Self::version), field("commit", &Self::commit),
               field("built", &Self::built), field("daemon", &Self::daemon));
};

namespace banger::cli {

namespace {

/// Of a daemon that runs; none is started for this.
std::optional<protocol::SystemInfoReply> running_daemon(const Context& context) {
    const Result<client::DaemonPlace> place = daemon_place(context);
    if (!place) return std::nullopt;
    Result<client::Connection> connection = client::connect_running(*place);
    if (!connection) return std::nullopt;
    const Result<protocol::SystemInfoReply> info = connection->call<protocol::SystemInfoReply>(
        "io.banger.System.Info", protocol::NoParameters{}, {.timeout = 2s});
    if (!info) return std::nullopt;
    return *info;
}

std::string version_line(const std::string& program, const std::string& number,
                         const std::string& commit, const std::string& built) {
    return program + " " + printable(number) + " (" + printable(commit) + ", built " +
           printable(built) + ")";
}

}  // namespace

Result<int> print_version(const Arguments& arguments, Context& context) {
    const Version own = version();
    const VersionReport report{std::string(own.number), std::string(own.commit),
                               std::string(own.built), running_daemon(context)};
    if (wants_json(arguments)) {
        context.terminal.out(json_text(report));
        return 0;
    }
    std::string text = version_line("banger", report.version, report.commit, report.built) + "\n";
    if (report.daemon)
        text += version_line("bangerd", report.daemon->version, report.daemon->commit,
                             report.daemon->built) +
                ", running in " + printable(report.daemon->mode) + " mode\n";
    else
        text += "bangerd is not running\n";
    context.terminal.out(text);
    return 0;
}

namespace {

void add_service_commands(CommandTable& table) {
    table.groups.push_back(
        {"system",
         "the services: machines on a bridge, with names, kept across logins",
         "Without them banger runs in user mode: no root, no address of its own for a machine.\n"
         "With them two services run: bangerd for their owner, and bangerd-root, a narrow helper\n"
         "for what needs root (bridge, NAT, device-mapper, resolver).",
         {{"sudo banger system install --owner \"$USER\"", "install or upgrade, and start"},
          {"banger system status", "how are they?"},
          {"sudo banger system uninstall", "remove them; machines and images stay"}}});
    table.commands.push_back(
        {"system",
         "install",
         {},
         "install or upgrade the services and start them",
         "Programs go to /usr/local/bin, plugins to /usr/local/lib/banger, settings to\n"
         "/etc/banger, units to /etc/systemd/system. Run it again to upgrade in place, or to\n"
         "finish one that was cut off: machines go on running. The owner's user manager is kept\n"
         "alive without a session (lingering), because machines run in its scopes.",
         {},
         false,
         {{"--owner", "USER", "whom the machines belong to", "", {}}},
         {{"sudo banger system install --owner \"$USER\"", "for yourself"}},
         system_install,
         nullptr});
    table.commands.push_back({"system",
                              "status",
                              {},
                              "show both services",
                              "The exit status is 0 when everything runs.",
                              {},
                              false,
                              {format_option()},
                              {{"banger system status", "how are they?"}},
                              system_status,
                              nullptr});
    table.commands.push_back(
        {"system",
         "restart",
         {},
         "restart both services; machines go on running",
         "Reads /etc/banger/config.toml anew, for the root helper too.",
         {},
         false,
         {},
         {{"sudo banger system restart", "after a change of /etc/banger/config.toml"}},
         system_restart,
         nullptr});
    table.commands.push_back(
        {"system",
         "uninstall",
         {},
         "stop machines and remove the services",
         "Machines are stopped cleanly first. Machines, images and settings stay unless --purge\n"
         "is given; what is under your home stays in any case.",
         {},
         false,
         {{"--purge", "", "delete machines, images, caches and /etc/banger too", "", {}}},
         {{"sudo banger system uninstall", "keep machines and images"},
          {"sudo banger system uninstall --purge", "leave nothing"}},
         system_uninstall,
         nullptr});
}

}  // namespace

void add_system_commands(CommandTable& table) {
    add_service_commands(table);
    table.commands.push_back(
        {"",
         "doctor",
         {},
         "check that this host can run machines",
         "One line a check: PASS, WARN or FAIL, with what to do. Then every setting and where it\n"
         "comes from. The exit status is 1 when a check fails.\n\n"
         "With --report: a text for a bug report, with versions, checks, settings and the last\n"
         "lines of the log. Keys, tokens, passwords, your name and your home are taken out; read\n"
         "it all the same before you send it.",
         {},
         false,
         {format_option(),
          {"--report", "", "print a text for a bug report", "", {}},
          {"-o,--output", "FILE", "where to write the report", "standard output", {}}},
         {{"banger doctor", "what is missing here?"},
          {"banger doctor --report -o report.md", "for a bug report"}},
         doctor,
         nullptr});
    table.commands.push_back({"",
                              "version",
                              {},
                              "print the versions of banger and bangerd",
                              "",
                              {},
                              false,
                              {format_option()},
                              {{"banger version", "both, as far as bangerd runs"}},
                              print_version,
                              nullptr});
}

}  // namespace banger::cli

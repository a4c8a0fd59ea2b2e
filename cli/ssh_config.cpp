#include "cli/ssh_config.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "banger/values.hpp"
#include "cli/commands.hpp"
#include "cli/config.hpp"
#include "cli/session.hpp"
#include "cli/ssh_files.hpp"
#include "core/base/file.hpp"

namespace banger::cli {

namespace {

using namespace std::chrono_literals;

constexpr std::string_view first_mark = "# >>> banger ssh-config >>>\n";
constexpr std::string_view last_mark = "# <<< banger ssh-config <<<\n";
constexpr std::string_view made_mark = "# banger made this file.\n";
constexpr ByteCount config_limit = ByteCount::mib(4);
constexpr std::chrono::milliseconds patience = 5s;

/// A path as ssh_config(5) reads it: in quotes, and a percent sign is no token.
std::string quoted_path(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (c == '%') out += '%';
        out += c;
    }
    return out + "\"";
}

bool is_plain(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '.' || c == ':' || c == '-' || c == '_';
    });
}

/// Before the machines are asked for, until they are written: of two at once the later one wins.
Result<UniqueFd> lock_config(const Paths& user_paths) {
    const std::string folder = parent_path(user_paths.known_hosts);
    BANGER_TRY(ensure_folder(folder, 0700));
    const std::string path = folder + "/config.lock";
    UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock) return Error::from_errno(errno, "opening " + path);
    while (::flock(lock.get(), LOCK_EX) != 0)
        if (errno != EINTR) return Error::from_errno(errno, "locking " + path);
    return lock;
}

Result<void> write_entries(client::Connection& daemon, const client::DaemonPlace& place,
                           const Paths& user_paths) {
    const Config config = BANGER_TRY(effective_config(place));
    const UniqueFd lock = BANGER_TRY(lock_config(user_paths));
    const protocol::ListVmsReply reply = BANGER_TRY(daemon.call<protocol::ListVmsReply>(
        "io.banger.Vm.List", protocol::ListVms{}, {.timeout = patience}));
    for (const protocol::Vm& vm : reply.vms)
        if (vm.ssh) BANGER_TRY(remember_host_key(user_paths.known_hosts, *vm.ssh));
    const std::string text = ssh_config_text(
        reply.vms, {*config.ssh_key_path, user_paths.known_hosts, *config.dns_zone});
    const std::string path = ssh_config_path(user_paths);
    if (read_file(path, config_limit).value_or("") == text && path_exists(path)) return ok();
    BANGER_TRY(ensure_folder(parent_path(path), 0700));
    return write_file_atomic(path, text, 0600);
}

/// The file behind ~/.ssh/config, which may be a link into somebody's dotfiles.
struct UserConfig {
    std::string path;
    bool exists = false;
    mode_t mode = 0600;
    std::string text;
};

Result<std::string> follow(std::string path) {
    for (int links = 0; links < 20; ++links) {
        std::array<char, 4096> target{};
        const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
        if (length < 0 && (errno == EINVAL || errno == ENOENT)) return path;
        if (length < 0) return Error::from_errno(errno, "reading the link " + path);
        const std::string_view to(target.data(), static_cast<std::size_t>(length));
        path = to.starts_with('/') ? std::string(to) : parent_path(path) + "/" + std::string(to);
    }
    return Error(Errc::invalid_argument, path + " leads round in links", "Repair the link.");
}

Result<UserConfig> read_user_config(const std::string& home) {
    UserConfig config;
    config.path = BANGER_TRY(follow(home + "/.ssh/config"));
    struct stat status {};
    if (::stat(config.path.c_str(), &status) != 0) {
        if (errno == ENOENT) return config;
        return Error::from_errno(errno, "looking at " + config.path);
    }
    if (!S_ISREG(status.st_mode))
        return Error(Errc::invalid_argument, config.path + " is not a file", "Move it away.");
    config.exists = true;
    config.mode = status.st_mode & 07777;
    config.text = BANGER_TRY(read_file(config.path, config_limit));
    return config;
}

Result<void> write_user_config(const UserConfig& config, const std::string& text,
                               const std::string& line) {
    Result<void> written = write_file_atomic(config.path, text, config.mode);
    if (written) return ok();
    Error error = std::move(written).error();
    error.remedy = "If something else writes that file, put this line at its top there: " + line;
    return error;
}

std::string include_line(const Paths& user_paths) {
    const std::string path = ssh_config_path(user_paths);
    if (path == user_paths.home + "/.config/banger/ssh_config")
        return "Include ~/.config/banger/ssh_config";
    return "Include " + quoted_path(path);
}

Result<int> install(const Paths& user_paths, Terminal& terminal) {
    const std::string line = include_line(user_paths);
    BANGER_TRY(ensure_folder(user_paths.home + "/.ssh", 0700));
    const UserConfig config = BANGER_TRY(read_user_config(user_paths.home));
    const std::string text = BANGER_TRY(with_include(config.text, line, !config.exists));
    if (text == config.text) {
        terminal.note(config.path + " includes it already\n");
        return 0;
    }
    BANGER_TRY(write_user_config(config, text, line));
    terminal.note(config.path + " includes " + ssh_config_path(user_paths) +
                  " now.\nTry: ssh NAME.vm    Undo: banger ssh-config --uninstall\n");
    return 0;
}

Result<int> uninstall(const Paths& user_paths, Terminal& terminal) {
    const UserConfig config = BANGER_TRY(read_user_config(user_paths.home));
    const WithoutInclude without = BANGER_TRY(without_include(config.text));
    if (without.was_ours && without.text.empty()) {
        BANGER_TRY(remove_file(config.path));
    } else if (without.text != config.text) {
        BANGER_TRY(write_user_config(config, without.text, include_line(user_paths)));
    }
    const bool was_there = path_exists(ssh_config_path(user_paths));
    BANGER_TRY(remove_file(ssh_config_path(user_paths)));
    terminal.note(was_there || without.text != config.text
                      ? "~/.ssh/config is as it was before, and banger's own file is gone\n"
                      : "There is nothing of banger in ~/.ssh/config\n");
    return 0;
}

Result<int> ssh_config(const Arguments& arguments, Context& context) {
    if (arguments.has("install") && arguments.has("uninstall"))
        return usage_error(
            context, {Errc::invalid_argument, "--install and --uninstall contradict each other",
                      "Give one of them"});
    Session session = BANGER_TRY(open_session(context));
    if (arguments.has("uninstall")) return uninstall(session.user_paths, context.terminal);
    const client::DaemonPlace& place = session.daemon.place();
    client::Connection daemon = BANGER_TRY(client::connect_or_start(place));
    BANGER_TRY(write_entries(daemon, place, session.user_paths));
    if (arguments.has("install")) return install(session.user_paths, context.terminal);
    context.terminal.out(include_line(session.user_paths) + "\n");
    if (context.terminal.out_is_terminal())
        context.terminal.note(
            "Put this line at the top of ~/.ssh/config, or let banger do it:\n"
            "  banger ssh-config --install\n");
    return 0;
}

}  // namespace

std::string ssh_config_path(const Paths& user_paths) { return user_paths.config + "/ssh_config"; }

std::string ssh_config_text(const std::vector<protocol::Vm>& vms, const SshConfigPlaces& places) {
    std::string text =
        "# Written by banger, anew whenever machines come, go or start: changes here are lost.\n"
        "# See: banger ssh-config --help\n";
    for (const protocol::Vm& vm : vms) {
        if (!vm.ssh || !VmName::parse(vm.name) || !is_plain(vm.ssh->host) ||
            !is_plain(vm.ssh->user) || !is_plain(vm.ssh->host_key_alias))
            continue;
        // Agent and X11 only on request (ssh -A, -X), whatever `Host *` says: a guest may be
        // hostile.
        text +=
            "\nHost " + vm.name + "." + places.zone + "\n    HostName " + vm.ssh->host +
            "\n    Port " + std::to_string(vm.ssh->port) + "\n    User " + vm.ssh->user +
            "\n    IdentityFile " + quoted_path(places.key) +
            "\n    IdentitiesOnly yes\n    HostKeyAlias " + vm.ssh->host_key_alias +
            "\n    UserKnownHostsFile " + quoted_path(places.known_hosts) +
            "\n    GlobalKnownHostsFile none\n    StrictHostKeyChecking yes\n"
            "    UpdateHostKeys no\n    CheckHostIP no\n    PasswordAuthentication no\n"
            "    ProxyCommand none\n    ProxyJump none\n    ForwardAgent no\n    ForwardX11 no\n";
    }
    return text;
}

Result<WithoutInclude> without_include(std::string_view text) {
    const std::size_t first = text.find(first_mark);
    if (first == text.npos) return WithoutInclude{std::string(text), false};
    const std::size_t last = text.find(last_mark, first);
    if (last == text.npos)
        return Error(Errc::corrupt, "~/.ssh/config has the first of banger's two marks alone",
                     "Remove the line \"# >>> banger ssh-config >>>\" and the Include below it.");
    const std::string_view ours = text.substr(first, last - first);
    return WithoutInclude{
        std::string(text.substr(0, first)) + std::string(text.substr(last + last_mark.size())),
        ours.find(made_mark) != ours.npos};
}

Result<std::string> with_include(std::string_view text, const std::string& line, bool is_new_file) {
    const WithoutInclude rest = BANGER_TRY(without_include(text));
    return std::string(first_mark) +
           "# Added by `banger ssh-config --install`; remove it with --uninstall.\n" +
           (is_new_file || rest.was_ours ? std::string(made_mark) : std::string()) + line + "\n" +
           std::string(last_mark) + rest.text;
}

void refresh_ssh_config(const Context& context) {
    const auto refresh = [&]() -> Result<void> {
        const PathEnvironment environment = BANGER_TRY(PathEnvironment::from_process());
        const Paths user_paths = BANGER_TRY(find_paths(RunMode::user, environment));
        if (!path_exists(ssh_config_path(user_paths))) return ok();
        const client::DaemonPlace place =
            BANGER_TRY(client::find_daemon(environment, context.program));
        client::Connection daemon = BANGER_TRY(client::connect_running(place));
        return write_entries(daemon, place, user_paths);
    };
    const Result<void> refreshed = refresh();
    if (!refreshed && refreshed.error().code != Errc::unavailable)
        context.terminal.note(
            "note: ~/.config/banger/ssh_config is not fresh: " + refreshed.error().text() + "\n");
}

void add_ssh_config_commands(CommandTable& table) {
    table.commands.push_back(
        {"",
         "ssh-config",
         {},
         "let plain ssh, scp, rsync and editors reach machines as NAME.vm",
         "Writes ~/.config/banger/ssh_config, with an entry for each machine that runs, and keeps\n"
         "it fresh from then on: each time banger makes, starts, stops or deletes one. Prints the\n"
         "line that includes it; with --install puts that line at the top of ~/.ssh/config, where\n"
         "everything else stays as it is. banger never touches ~/.ssh/config by itself.\n\n"
         "Machines are known by their own host keys, in a file of banger's own. The ssh agent is\n"
         "forwarded on request alone: ssh -A NAME.vm.",
         {},
         false,
         {{"--install", "", "include it in ~/.ssh/config, between marks", "", {}},
          {"--uninstall", "", "take that out of ~/.ssh/config, and stop", "", {}}},
         {{"banger ssh-config --install", "from now on: ssh sandbox.vm"},
          {"banger ssh-config", "print the line, to put it there yourself"},
          {"banger ssh-config --uninstall", "as it was before"}},
         ssh_config,
         nullptr});
}

}  // namespace banger::cli

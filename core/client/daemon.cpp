#include "core/client/daemon.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <vector>

#include "core/base/child.hpp"
#include "core/base/daemon_mark.hpp"
#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "core/base/version.hpp"
#include "core/protocol/plugin_fields.hpp"
#include "core/protocol/system_fields.hpp"

namespace banger::client {

namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds connect_patience = 10s;
/// How long a daemon that dropped us may take to be gone.
constexpr std::chrono::milliseconds dying_patience{1000};
constexpr std::chrono::milliseconds start_patience = 30s;
/// How long one that does not answer may take to be ready, or to leave.
constexpr std::chrono::milliseconds other_patience = 10s;
constexpr ByteCount log_limit = ByteCount::mib(4);

std::string find_program_beside(const std::string& own_program) {
    const std::string folder = parent_path(own_program);
    for (const char* candidate : {"/bangerd", "/../libexec/banger/bangerd", "/../libexec/bangerd"})
        if (::access((folder + candidate).c_str(), X_OK) == 0) return folder + candidate;
    return {};
}

/// Blocks until nobody else holds it: the holder is a banger that starts the daemon, and gives up
/// after start_patience.
Result<UniqueFd> lock_file(const std::string& path) {
    UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock) return Error::from_errno(errno, "opening " + path);
    while (::flock(lock.get(), LOCK_EX) != 0)
        if (errno != EINTR) return Error::from_errno(errno, "locking " + path);
    return lock;
}

/// What the daemon may see of our environment: where its files are, how to reach the network and
/// the user's systemd, and banger's own variables.
std::map<std::string, std::string> daemon_environment() {
    std::map<std::string, std::string> environment = minimal_environment();
    for (char** each = environ; *each != nullptr; ++each) {
        const std::string_view variable = *each;
        const std::size_t equals = variable.find('=');
        if (equals == variable.npos) continue;
        const std::string_view name = variable.substr(0, equals);
        if (name.starts_with("XDG_") || name.starts_with("BANGER_") || name == "HOME" ||
            name == "DBUS_SESSION_BUS_ADDRESS" || name == "SSL_CERT_FILE" || name == "SSL_CERT_DIR")
            environment[std::string(name)] = variable.substr(equals + 1);
    }
    return environment;
}

/// Opened for appending; a log that has grown large becomes LOG.1 first.
Result<UniqueFd> open_log(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0 &&
        static_cast<std::uint64_t>(status.st_size) > log_limit.count())
        ::rename(path.c_str(), (path + ".1").c_str());
    UniqueFd log(
        ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!log) return Error::from_errno(errno, "opening " + path);
    return log;
}

/// The last lines after `from`, or nothing.
std::string log_tail(const std::string& path, std::uint64_t from) {
    const Result<UniqueFd> log = open_read(path);
    if (!log) return {};
    struct stat status {};
    if (::fstat(log->get(), &status) != 0) return {};
    const auto size = static_cast<std::uint64_t>(status.st_size);
    const std::uint64_t begin = std::max(from, size > 2000 ? size - 2000 : 0);
    ::lseek(log->get(), static_cast<off_t>(begin), SEEK_SET);
    std::string text = read_all(log->get(), ByteCount::mib(1)).value_or("");
    while (text.ends_with('\n'))
        text.pop_back();
    std::size_t lines = 0;
    for (std::size_t i = text.size(); i-- > 0;)
        if (text[i] == '\n' && ++lines == 5) return text.substr(i + 1);
    return text;
}

std::string log_remedy(const Paths& paths) { return "Its log is " + paths.log; }

/// What the program writes to its ready descriptor, until it says "ready" or closes it.
Result<std::string> read_ready(const UniqueFd& pipe) {
    const auto end = std::chrono::steady_clock::now() + start_patience;
    std::string said;
    while (said != "ready\n" && said.size() < 4096) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
        const int events = BANGER_TRY(
            poll_fd(pipe.get(), POLLIN, std::max(left, std::chrono::milliseconds(0)), {}));
        if (events == 0)
            return Error(Errc::timed_out, "bangerd was not ready after " +
                                              std::to_string(start_patience.count() / 1000) + " s");
        char buffer[512];
        const ssize_t count = ::read(pipe.get(), buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "waiting for bangerd");
        if (count == 0) break;
        said.append(buffer, static_cast<std::size_t>(count));
    }
    return said;
}

Result<void> start(const DaemonPlace& place) {
    const Paths& paths = place.paths;
    if (place.program.empty())
        return Error(Errc::unavailable, "bangerd is not beside banger nor in ../libexec",
                     "Install banger again, or build the target bangerd");
    BANGER_TRY(ensure_folder(paths.state, 0700));
    const UniqueFd log = BANGER_TRY(open_log(paths.log));
    struct stat status {};
    ::fstat(log.get(), &status);
    const auto log_begin = static_cast<std::uint64_t>(status.st_size);

    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
    const UniqueFd ready_read(ends[0]);
    UniqueFd ready_write(ends[1]);

    Command command;
    command.program = place.program;
    command.arguments = {"--user", "--ready-fd", std::to_string(ready_write.get())};
    command.environment = daemon_environment();
    command.standard_error = log.get();
    command.inherited = {ready_write.get()};
    Child daemon = BANGER_TRY(spawn(command));
    daemon.detach();
    ready_write.reset();

    std::string said = BANGER_TRY(read_ready(ready_read).context("starting bangerd"));
    if (said == "ready\n") return ok();
    while (said.ends_with('\n'))
        said.pop_back();
    if (said.empty()) said = log_tail(paths.log, log_begin);
    if (said.empty()) said = "it ended without a word";
    return Error(Errc::unavailable, "bangerd did not start: " + said, log_remedy(paths));
}

/// `banger --safe-mode` says so to us, and to the bangerd that we start (daemon_environment()).
bool wants_safe_mode() { return ::getenv("BANGER_SAFE_MODE") != nullptr; }

bool is_in_safe_mode(Connection& connection) {
    const Result<protocol::SafeModeReply> reply = connection.call<protocol::SafeModeReply>(
        "io.banger.System.SafeMode", rpc::Nothing{}, {.timeout = connect_patience});
    return reply && reply->is_on;
}

bool is_nobody_there(const Error& error) { return error.code == Errc::unavailable; }

/// Of the daemon that holds our state; nothing when none runs.
std::optional<DaemonMark> mark_of(const DaemonPlace& place) {
    if (place.paths.mode == RunMode::system) return std::nullopt;
    return read_daemon_mark(place.paths.state + "/bangerd.lock");
}

/// A daemon that has our state but does not answer: it has just begun, or is about to leave. Waits
/// until it does either; nothing when it has left.
Result<std::optional<Connection>> wait_for_other(const DaemonPlace& place) {
    const auto end = std::chrono::steady_clock::now() + other_patience;
    for (;;) {
        const std::optional<DaemonMark> mark = mark_of(place);
        const Result<UniqueFd> process =
            mark ? open_pidfd(mark->process) : Result<UniqueFd>(Error(Errc::not_found, ""));
        if (!process) return std::optional<Connection>();
        if (Result<Connection> connection = connect_running(place))
            return std::optional(std::move(*connection));
        BANGER_TRY(wait_for_exit(*process, 100ms, {}));
        if (std::chrono::steady_clock::now() < end) continue;
        const std::string pid = std::to_string(mark->process.pid);
        return Error(
            Errc::unavailable, "bangerd (process " + pid + ") does not answer at " + mark->socket,
            "End it, and the next command starts another; machines go on running: kill " + pid);
    }
}

}  // namespace

Result<DaemonPlace> find_daemon(const PathEnvironment& environment,
                                const std::string& own_program) {
    Paths system = BANGER_TRY(find_paths(RunMode::system, environment));
    const bool is_installed = path_exists(system.socket) ||
                              path_exists(parent_path(system.system_config_file) + "/install.toml");
    // On a host with several users the service is its owner's; the others have their own daemon.
    if (is_installed && (::access(system.socket.c_str(), W_OK) == 0 || errno != EACCES))
        return DaemonPlace{std::move(system), {}};
    Paths user = BANGER_TRY(find_paths(RunMode::user, environment));
    return DaemonPlace{std::move(user), find_program_beside(own_program)};
}

Result<Connection> connect_running(const DaemonPlace& place) {
    Result<Connection> connection = Connection::connect(place.paths.socket, connect_patience);
    if (connection || !is_nobody_there(connection.error())) return connection;
    // Its state is what makes it ours: a shell with another run folder has the same daemon.
    const std::optional<DaemonMark> mark = mark_of(place);
    if (!mark || mark->socket == place.paths.socket) return connection;
    Result<Connection> elsewhere = Connection::connect(mark->socket, connect_patience);
    return elsewhere ? std::move(elsewhere) : std::move(connection);
}

Result<Connection> connect_or_start(const DaemonPlace& place) {
    Result<Connection> connection = connect_running(place);
    if (connection || !is_nobody_there(connection.error())) return connection;
    if (place.paths.mode == RunMode::system)
        return Error(Errc::unavailable, "the service bangerd is installed, but not running",
                     "Start it: sudo systemctl start bangerd");

    BANGER_TRY(ensure_private_folder(place.paths.run));
    const UniqueFd lock = BANGER_TRY(lock_file(place.paths.run + "/start.lock"));
    connection = connect_running(place);
    if (connection || !is_nobody_there(connection.error())) return connection;
    if (std::optional<Connection> other = BANGER_TRY(wait_for_other(place)))
        return std::move(*other);
    BANGER_TRY(start(place));
    return connect_running(place);
}

bool Daemon::is_lost(const Error& error) {
    if (!connection_ || connection_->is_open()) return false;
    connection_.reset();
    // A dying process closes one descriptor after the other: while it is there, its socket may
    // still take a connection that nobody will answer.
    if (process_) (void)wait_for_exit(process_, dying_patience, {});
    return error.code == Errc::unavailable;
}

Error Daemon::went_away(const Error& error) const {
    std::string message = "bangerd went away during the call: " + error.message;
    return {Errc::unavailable, std::move(message),
            place_.paths.mode == RunMode::system ? "Look at `journalctl -u bangerd`"
                                                 : log_remedy(place_.paths)};
}

Result<void> Daemon::connect() {
    if (connection_ && connection_->is_open()) return ok();
    connection_ = BANGER_TRY(connect_or_start(place_));
    if (Result<UniqueFd> process = connection_->process()) process_ = std::move(*process);
    if (has_settled_ || !warn_) return ok();
    has_settled_ = true;
    return settle_versions();
}

Result<void> Daemon::settle_versions() {
    const Result<protocol::SystemInfoReply> info = connection_->call<protocol::SystemInfoReply>(
        "io.banger.System.Info", rpc::Nothing{}, {.timeout = connect_patience});
    // One that cannot even say its version will fail the real call, with a better message.
    if (!info) {
        connection_.reset();
        connection_ = BANGER_TRY(connect_or_start(place_));
        return ok();
    }
    const bool is_as_wanted = !wants_safe_mode() || is_in_safe_mode(*connection_);
    const bool is_same = info->version == version().number && info->commit == version().commit;
    if (is_same && is_as_wanted) return ok();
    const std::string difference = is_same ? "bangerd is not in safe mode"
                                           : "bangerd is of another build (" + info->version +
                                                 ", " + info->commit + ") than banger";
    if (place_.paths.mode == RunMode::system) {
        if (!is_as_wanted)
            return Error(Errc::wrong_state, "the service bangerd is not in safe mode",
                         "Add Environment=BANGER_SAFE_MODE=1 with `sudo systemctl edit bangerd`, "
                         "and restart it: sudo systemctl restart bangerd");
        warn_(difference + "; restart it: sudo systemctl restart bangerd");
        return ok();
    }
    // Held before it is asked to go: its number may be another's a moment later.
    const Result<ProcessId> process = process_id_of(info->pid);
    const Result<UniqueFd> pidfd =
        process ? open_pidfd(*process) : Result<UniqueFd>(process.error());
    const Result<protocol::NoReply> left = connection_->call<protocol::NoReply>(
        "io.banger.System.Exit", rpc::Nothing{}, {.timeout = connect_patience});
    if (!left && connection_->is_open() && !is_as_wanted)
        return Error(Errc::busy, difference + " and busy: " + left.error().message,
                     "Try again when it is done.");
    if (!left && connection_->is_open()) {
        warn_(difference + " and busy, so it stays: " + left.error().message);
        return ok();
    }
    connection_.reset();
    if (pidfd) BANGER_TRY(wait_for_exit(*pidfd, connect_patience, {}));
    connection_ = BANGER_TRY(connect_or_start(place_));
    return ok();
}

}  // namespace banger::client

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/base/log_line.hpp"
#include "core/rpc/listener.hpp"
#include "daemons/bangerd-root/helper.hpp"

namespace {

using namespace banger;

/// Nothing that the caller left open, no mask but ours.
void forget_inheritance(int passed_sockets) {
    ::umask(0077);
    ::close_range(static_cast<unsigned>(STDERR_FILENO + 1 + passed_sockets), ~0U, 0);
    ::signal(SIGPIPE, SIG_IGN);
    // More arenas than one cost memory and save nothing here; and what is large goes back to the
    // system when it is freed, instead of leaving a hole (the limit would otherwise grow by
    // itself).
    ::mallopt(M_ARENA_MAX, 1);
    ::mallopt(M_MMAP_THRESHOLD, 64 * 1024);
}

int passed_sockets() {
    const char* text = std::getenv("LISTEN_FDS");  // NOLINT: no threads yet
    return text != nullptr && text[0] == '1' && text[1] == '\0' ? 1 : 0;
}

Result<UniqueFd> open_listener(std::vector<UniqueFd> passed, const std::string& path) {
    if (passed.size() == 1) return std::move(passed.front());
    if (passed.empty() && !path.empty()) return rpc::listen_at(path, rpc::SocketKind::packets);
    return Error(Errc::unavailable, "no socket was passed",
                 "Start it by its socket: systemctl start bangerd-root.socket.");
}

Result<UniqueFd> open_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP})
        sigaddset(&signals, signal);
    if (::pthread_sigmask(SIG_SETMASK, &signals, nullptr) != 0)
        return Error(Errc::internal, "signals cannot be blocked");
    UniqueFd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd) return Error::from_errno(errno, "waiting for signals");
    return fd;
}

template <class Number>
bool read_number(std::string_view text, Number& number) {
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
    return status == std::errc() && end == text.data() + text.size();
}

bool read_time(std::string_view text, std::chrono::milliseconds& time) {
    std::int64_t count = 0;
    if (!read_number(text, count) || count <= 0) return false;
    time = std::chrono::milliseconds(count);
    return true;
}

bool read_sweep(std::string_view text, root::Options::Sweep& sweep) {
    sweep = text == "all" ? root::Options::Sweep::all : root::Options::Sweep::kernel;
    return text == "all" || text == "kernel";
}

/// All flags but --sweep are for tests: the service has none.
Result<root::Options> read_options(int count, char** arguments) {
    root::Options options;
    for (int i = 1; i < count; i += 2) {
        const std::string_view name = arguments[i];
        const std::string value = i + 1 < count ? arguments[i + 1] : "";
        std::string* text = name == "--config"    ? &options.configuration
                            : name == "--plugins" ? &options.plugins
                            : name == "--run"     ? &options.run
                            : name == "--state"   ? &options.state
                            : name == "--socket"  ? &options.socket
                                                  : nullptr;
        if (text != nullptr) *text = value;
        const bool is_known =
            text != nullptr                 ? value.starts_with('/')
            : name == "--sweep"             ? read_sweep(value, options.sweep)
            : name == "--trusted-uid"       ? read_number(value, options.trusted_uid)
            : name == "--call-milliseconds" ? read_time(value, options.server.call)
            : name == "--grace-milliseconds"
                ? read_time(value, options.server.grace)
                : name == "--drain-milliseconds" && read_time(value, options.drain);
        if (!is_known)
            return Error(Errc::invalid_argument, std::string(name) + " is no flag or has no value",
                         "An installed bangerd-root takes no arguments.");
    }
    return options;
}

Result<void> run(int count, char** arguments) {
    forget_inheritance(passed_sockets());
    const root::Options options = BANGER_TRY(read_options(count, arguments));
    if (options.sweep != root::Options::Sweep::no)
        return BANGER_TRY(root::Helper::open(options, write_log_line))->sweep();
    const UniqueFd signals = BANGER_TRY(open_signals());
    const UniqueFd listener = BANGER_TRY(open_listener(
        BANGER_TRY(rpc::inherited_listeners(rpc::SocketKind::packets)), options.socket));
    const ServiceNotify notify = ServiceNotify::from_environment();
    // What a library might look at later is not there.
    ::clearenv();

    std::unique_ptr<root::Helper> helper = BANGER_TRY(root::Helper::open(options, write_log_line));
    if (!helper->serve(listener, signals, notify)) ::_exit(0);
    return ok();
}

}  // namespace

int main(int count, char** arguments) {
    const Result<void> result = run(count, arguments);
    if (result) return 0;
    write_log_line(LogLevel::error, result.error().text());
    return 1;
}

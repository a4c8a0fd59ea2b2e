// fake-vmm ID RUN_FOLDER CONSOLE CONSOLE_LIMIT
//
// What FakeVmBackend starts: a process that stands for a machine. Writes a console, listens on
// RUN_FOLDER/agent.sock, writes RUN_FOLDER/process, says "ready" on standard output, and then
// speaks the guest agent's protocol (one JSON object and a NUL a frame) until it is asked to shut
// down. Failures are a line on standard output and exit status 1.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/file.hpp"
#include "core/base/process.hpp"

namespace banger {
namespace {

using Json = nlohmann::json;

constexpr std::size_t max_frame = 64 << 10;

struct Connection {
    UniqueFd fd;
    std::string pending;
};

class Guest {
public:
    Guest(std::string id, std::string folder, std::string console, std::uint64_t console_limit)
        : id_(std::move(id)),
          folder_(std::move(folder)),
          console_path_(std::move(console)),
          console_limit_(console_limit) {}

    Result<void> boot();
    void serve();

private:
    Result<void> listen();
    void say(const std::string& line);
    /// False when the connection ends.
    bool read(Connection& connection);
    void answer(Connection& connection, std::string_view frame);
    [[nodiscard]] Json health() const;

    const std::string id_;
    const std::string folder_;
    const std::string console_path_;
    const std::uint64_t console_limit_;
    const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
    UniqueFd console_;
    std::uint64_t console_size_ = 0;
    UniqueFd listener_;
    std::vector<Connection> connections_;
    bool is_on_ = true;
};

Result<void> Guest::boot() {
    console_.reset(::open(console_path_.c_str(),
                          O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!console_) return Error::from_errno(errno, "opening " + console_path_);
    BANGER_TRY(listen());
    const ProcessId self = BANGER_TRY(process_id_of(::getpid()));
    BANGER_TRY(write_file_atomic(folder_ + "/process",
                                 std::to_string(self.pid) + " " + std::to_string(self.start_time),
                                 0600));
    say("fake guest of machine " + id_ + " booted");
    return ok();
}

Result<void> Guest::listen() {
    const std::string path = folder_ + "/agent.sock";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return Error(Errc::invalid_argument, path + " is too long for a socket");
    std::memcpy(address.sun_path, path.data(), path.size());
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ::umask(0177);
    if (!listener_ ||
        ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_.get(), 16) != 0)
        return Error::from_errno(errno, "listening on " + path);
    return ok();
}

void Guest::say(const std::string& line) {
    if (console_size_ > console_limit_) {
        if (::ftruncate(console_.get(), 0) == 0) console_size_ = 0;
    }
    console_size_ += line.size() + 1;
    static_cast<void>(write_all(console_.get(), line + "\n"));
}

void Guest::serve() {
    while (is_on_) {
        std::vector<pollfd> waits{{listener_.get(), POLLIN, 0}};
        for (const Connection& connection : connections_)
            waits.push_back({connection.fd.get(), POLLIN, 0});
        if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return;
        std::vector<Connection> alive;
        for (std::size_t i = 0; i < connections_.size(); ++i)
            if (waits[i + 1].revents == 0 || read(connections_[i]))
                alive.push_back(std::move(connections_[i]));
        connections_ = std::move(alive);
        if (waits[0].revents == 0) continue;
        UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (fd) connections_.push_back({std::move(fd), ""});
    }
    say("fake guest powers off");
}

bool Guest::read(Connection& connection) {
    char buffer[4096];
    const ssize_t got = ::read(connection.fd.get(), buffer, sizeof buffer);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    connection.pending.append(buffer, static_cast<std::size_t>(got));
    for (std::size_t end; (end = connection.pending.find('\0')) != std::string::npos;) {
        answer(connection, connection.pending.substr(0, end));
        connection.pending.erase(0, end + 1);
    }
    return connection.pending.size() <= max_frame;
}

Json Guest::health() const {
    const auto uptime = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - started_);
    const Json probe = {{"name", "handed-over"}, {"ok", true}, {"reason", ""}};
    return {{"booted", true},
            {"ready", true},
            {"failure", ""},
            {"boot_id", "00000000-0000-4000-8000-" + id_},
            {"uptime_ms", uptime.count()},
            {"agent_version", "fake"},
            {"probes", Json::array({probe})}};
}

void Guest::answer(Connection& connection, std::string_view frame) {
    const Json request = Json::parse(frame, nullptr, false);
    if (!request.is_object() || !request.contains("id") || !request.contains("method") ||
        !request["id"].is_number_unsigned() || !request["method"].is_string())
        return;  // no request: dropped without a word
    const std::string method = request["method"];
    const Json usage = {{"size_bytes", 1 << 30}, {"used_bytes", 1 << 20}};
    Json reply = {{"id", request["id"]}, {"parameters", Json::object()}};
    if (method == "Health") {
        reply["parameters"] = health();
    } else if (method == "Ports") {
        reply["parameters"] = {{"ports", Json::array()}};
    } else if (method == "Stats") {
        reply["parameters"] = {{"cpus", 1},
                               {"cpu_busy_ms", 10},
                               {"cpu_idle_ms", 1000},
                               {"load_1", 0.0},
                               {"load_5", 0.0},
                               {"load_15", 0.0},
                               {"memory_total_bytes", 1 << 28},
                               {"memory_available_bytes", 1 << 27},
                               {"root", usage},
                               {"work", usage}};
    } else if (method == "Shutdown") {
        is_on_ = false;
    } else if (method != "Sync") {
        reply = {{"id", request["id"]},
                 {"error", {{"code", "unsupported"}, {"message", "no such method"}}}};
    }
    const std::string text = reply.dump() + '\0';
    static_cast<void>(write_all(connection.fd.get(), text));
}

int run(int argc, char** argv) {
    ::signal(SIGPIPE, SIG_IGN);
    if (argc != 5) {
        std::puts("usage: fake-vmm ID RUN_FOLDER CONSOLE CONSOLE_LIMIT");
        return 2;
    }
    Guest guest(argv[1], argv[2], argv[3], std::strtoull(argv[4], nullptr, 10));
    if (const Result<void> booted = guest.boot(); !booted) {
        std::puts(booted.error().text().c_str());
        return 1;
    }
    std::puts("ready");
    std::fflush(stdout);
    // Whoever started us must not wait for our end at its pipe.
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    ::dup2(null.get(), STDOUT_FILENO);
    ::dup2(null.get(), STDERR_FILENO);
    guest.serve();
    return 0;
}

}  // namespace
}  // namespace banger

int main(int argc, char** argv) { return banger::run(argc, argv); }

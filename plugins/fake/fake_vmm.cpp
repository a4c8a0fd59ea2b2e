// fake-vmm ID RUN_FOLDER CONSOLE CONSOLE_LIMIT
//
// What FakeVmBackend starts: a process that stands for a machine. Writes a console, listens on
// RUN_FOLDER/agent.sock, writes RUN_FOLDER/process, says "ready" on standard output, and then
// speaks the guest agent's protocol (one JSON object and a NUL a frame) until it is asked to shut
// down. Failures are a line on standard output and exit status 1.
//
// Its guest has no sshd; the agent's Exec knows these commands, and everything else is not found:
//   (none: a shell) or cat    gives its input back, until that ends
//   exit N                    ends so
//   say WORD…, complain WORD… on standard output, on standard error
//   request                   what was asked of the agent, as JSON
//   wait                      until a signal

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "core/guest/agent_protocol.hpp"
#include "core/guest/exec_protocol.hpp"

namespace banger {
namespace {

using Json = nlohmann::json;

/// A command that has not ended.
struct Session {
    std::string input;  ///< not given back yet
    bool has_input_ended = false;
    std::uint64_t output_left = exec_window;  ///< what the host takes
};

struct Connection {
    UniqueFd fd;
    guest::FrameReader frames;
    std::map<std::uint64_t, Session> sessions = {};
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
    static void start_command(Connection& connection, std::uint64_t id, const Json& parameters);
    static void take(Connection& connection, const guest::SessionFrame& said);
    static void send(Connection& connection, std::string_view bytes);
    static void end(Connection& connection, std::uint64_t id, int status);
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
        if (fd) connections_.push_back({std::move(fd), {}});
    }
    say("fake guest powers off");
}

bool Guest::read(Connection& connection) {
    char buffer[4096];
    const ssize_t got = ::read(connection.fd.get(), buffer, sizeof buffer);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    connection.frames.append({buffer, static_cast<std::size_t>(got)});
    while (const std::optional<std::string> frame = connection.frames.next()) {
        if (!guest::is_session_frame(*frame)) {
            answer(connection, *frame);
            continue;
        }
        const Result<guest::SessionFrame> said = guest::decode_session_frame(*frame);
        if (said) take(connection, *said);
    }
    return true;
}

void Guest::send(Connection& connection, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::send(connection.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (count > 0) bytes.remove_prefix(static_cast<std::size_t>(count));
        if (count >= 0 || errno == EINTR) continue;
        pollfd room{connection.fd.get(), POLLOUT, 0};
        // A host that does not read for that long gets no more.
        if (errno != EAGAIN || ::poll(&room, 1, 10'000) <= 0) return;
    }
}

void Guest::end(Connection& connection, std::uint64_t id, int status) {
    connection.sessions.erase(id);
    send(connection, guest::encode_session_frame(id, ExecKind::exit,
                                                 std::string(1, static_cast<char>(status))));
}

void Guest::start_command(Connection& connection, std::uint64_t id, const Json& parameters) {
    const Result<guest::ExecRequest> request = guest::decode_exec(parameters.dump());
    if (!request) return send(connection, guest::encode_error(id, request.error()));
    send(connection, guest::encode_started(id, exec_window));
    const std::vector<std::string>& words = request->words;
    const std::string program = words.empty() ? "cat" : words[0];
    std::string rest;
    for (std::size_t at = 1; at < words.size(); ++at)
        rest += (at > 1 ? " " : "") + words[at];
    const auto say = [&](ExecKind kind, const std::string& text) {
        send(connection, guest::encode_session_frame(id, kind, text.substr(0, max_exec_data)));
    };
    if (program == "cat" || program == "wait") {
        connection.sessions[id];
        return;
    }
    int status = 0;
    if (program == "exit")
        status = std::atoi(rest.c_str());
    else if (program == "say")
        say(ExecKind::output, rest + "\n");
    else if (program == "complain")
        say(ExecKind::error_output, rest + "\n");
    else if (program == "request")
        say(ExecKind::output, parameters.dump() + "\n");
    else {
        say(ExecKind::error_output, "banger: " + program + ": No such file or directory\n");
        status = 127;
    }
    end(connection, id, status);
}

void Guest::take(Connection& connection, const guest::SessionFrame& said) {
    const auto found = connection.sessions.find(said.session);
    if (found == connection.sessions.end()) return;
    Session& session = found->second;
    const ExecFrame& frame = said.frame;
    if (frame.kind == ExecKind::hang_up) return end(connection, said.session, 128 + SIGHUP);
    if (frame.kind == ExecKind::signal)
        return end(connection, said.session, 128 + static_cast<unsigned char>(frame.data[0]));
    if (frame.kind == ExecKind::input) session.input += frame.data;
    if (frame.kind == ExecKind::input_end) session.has_input_ended = true;
    if (frame.kind == ExecKind::credit) session.output_left += credit_of(frame);
    while (!session.input.empty() && session.output_left > 0) {
        const std::string part =
            session.input.substr(0, std::min<std::uint64_t>(max_exec_data, session.output_left));
        session.input.erase(0, part.size());
        session.output_left -= part.size();
        send(connection, guest::encode_session_frame(said.session, ExecKind::output, part));
        send(connection,
             guest::encode_session_frame(said.session, ExecKind::credit,
                                         credit_data(static_cast<std::uint32_t>(part.size()))));
    }
    if (session.has_input_ended && session.input.empty()) end(connection, said.session, 0);
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
    } else if (method == "Exec") {
        return start_command(connection, request["id"], request["parameters"]);
    } else if (method == "Shutdown") {
        is_on_ = false;
    } else if (method != "Sync") {
        reply = {{"id", request["id"]},
                 {"error", {{"code", "unsupported"}, {"message", "no such method"}}}};
    }
    send(connection, reply.dump() + '\0');
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

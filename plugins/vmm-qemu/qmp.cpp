#include "plugins/vmm-qemu/qmp.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/file.hpp"
#include "core/base/process.hpp"

namespace banger::qemu {

using nlohmann::json;

namespace {

constexpr int max_depth = 16;
/// More events than this without an answer is not a QEMU that we want to talk to.
constexpr int max_events = 1000;

Error not_qmp(std::string_view why) {
    return {Errc::corrupt,
            "QEMU's control socket said something else than QMP: " + std::string(why),
            "Kill the machine and start it again."};
}

bool is_too_deep(std::string_view text) {
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\')
                ++i;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > max_depth) return true;
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
    return false;
}

std::string text_at(const json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// Never throws: a discarded value for what is no JSON, and what is not UTF-8 is replaced on the
/// way out.
json parsed(std::string_view text) { return json::parse(text, nullptr, false); }
std::string dumped(const json& value) {
    return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return Error(Errc::invalid_argument, "the path " + path + " is too long for a socket",
                     "Choose a shorter runtime folder (XDG_RUNTIME_DIR).");
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

Result<UniqueFd> unix_socket() {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) return Error::from_errno(errno, "socket");
    return fd;
}

}  // namespace

Result<QmpMessage> parse_qmp(std::string_view line) {
    if (line.size() > max_qmp_line) return not_qmp("a line over 64 KiB");
    if (is_too_deep(line)) return not_qmp("too deeply nested");
    const json value = parsed(line);
    if (!value.is_object()) return not_qmp("no JSON object");
    if (const auto reply = value.find("return"); reply != value.end())
        return QmpMessage{QmpMessage::Kind::reply, {}, dumped(*reply)};
    if (const auto failure = value.find("error"); failure != value.end()) {
        if (!failure->is_object()) return not_qmp("an error that is no object");
        return QmpMessage{QmpMessage::Kind::failure, text_at(*failure, "class"),
                          text_at(*failure, "desc")};
    }
    if (const std::string event = text_at(value, "event"); !event.empty())
        return QmpMessage{QmpMessage::Kind::event, event, {}};
    if (const auto greeting = value.find("QMP"); greeting != value.end() && greeting->is_object())
        return QmpMessage{QmpMessage::Kind::greeting, {}, {}};
    return not_qmp("neither greeting, answer nor event");
}

Result<Qmp> Qmp::connect(const std::string& socket_path, std::chrono::milliseconds deadline,
                         std::stop_token stop) {
    Qmp qmp(BANGER_TRY(connect_unix(socket_path)), deadline);
    const std::string first = BANGER_TRY(qmp.read_line(stop));
    const QmpMessage greeting = BANGER_TRY(parse_qmp(first));
    if (greeting.kind != QmpMessage::Kind::greeting) return not_qmp("no greeting");
    BANGER_TRY(qmp.execute("qmp_capabilities", stop));
    return qmp;
}

Result<std::string> Qmp::execute(std::string_view command, std::stop_token stop) {
    const std::string line = dumped(json{{"execute", command}}) + "\r\n";
    const ssize_t sent = ::send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(line.size()))
        return Error(Errc::unreachable, "QEMU closed its control socket",
                     "Look at its last words with `banger vm logs`.");
    QmpMessage reply = BANGER_TRY(read_reply(std::move(stop)));
    if (reply.kind == QmpMessage::Kind::reply) return std::move(reply.text);
    return Error(Errc::wrong_state, "QEMU refused " + std::string(command) + ": " + reply.text,
                 "Look at the machine with `banger vm show`.");
}

Result<QmpMessage> Qmp::read_reply(std::stop_token stop) {
    for (int events = 0; events < max_events; ++events) {
        const std::string line = BANGER_TRY(read_line(stop));
        QmpMessage message = BANGER_TRY(parse_qmp(line));
        if (message.kind == QmpMessage::Kind::greeting) return not_qmp("a second greeting");
        if (message.kind != QmpMessage::Kind::event) return message;
    }
    return not_qmp("events without end");
}

Result<std::string> Qmp::read_line(std::stop_token stop) {
    const auto end = std::chrono::steady_clock::now() + deadline_;
    for (;;) {
        const std::size_t newline = buffered_.find('\n');
        if (newline != buffered_.npos) {
            std::string line = buffered_.substr(0, newline);
            buffered_.erase(0, newline + 1);
            return line;
        }
        if (buffered_.size() > max_qmp_line) return not_qmp("a line over 64 KiB");
        const auto left = std::max(
            std::chrono::milliseconds(0),
            std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()));
        if (BANGER_TRY(poll_fd(socket_.get(), POLLIN, left, stop)) == 0)
            return Error(Errc::timed_out, "QEMU did not answer on its control socket",
                         "Kill the machine with `banger vm kill`.");
        char buffer[4096];
        const ssize_t count = ::recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (count <= 0)
            return Error(Errc::unreachable, "QEMU closed its control socket",
                         "Look at its last words with `banger vm logs`.");
        buffered_.append(buffer, static_cast<std::size_t>(count));
    }
}

Result<bool> Qmp::wait_for_close(std::stop_token stop) {
    for (int events = 0; events < max_events; ++events) {
        const Result<std::string> line = read_line(stop);
        if (line) continue;
        if (line.error().code == Errc::unreachable) return true;
        if (line.error().code == Errc::timed_out) return false;
        return line.error();
    }
    return false;
}

Result<bool> is_guest_running(std::string_view status_answer) {
    const json value = parsed(status_answer);
    if (!value.is_object()) return not_qmp("a status that is no object");
    const auto running = value.find("running");
    if (running == value.end() || !running->is_boolean()) return not_qmp("a status without state");
    return running->get<bool>();
}

Result<bool> is_chardev_connected(std::string_view chardev_answer, std::string_view label) {
    const json value = parsed(chardev_answer);
    if (!value.is_array()) return not_qmp("character devices that are no list");
    for (const json& device : value) {
        if (!device.is_object() || text_at(device, "label") != label) continue;
        // "disconnected:unix:PATH,server=on" while nobody is.
        return !text_at(device, "filename").starts_with("disconnected:");
    }
    return not_qmp("no character device " + std::string(label));
}

Result<UniqueFd> connect_unix(const std::string& path) {
    const sockaddr_un address = BANGER_TRY(address_of(path));
    UniqueFd fd = BANGER_TRY(unix_socket());
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        return fd;
    const int error_number = errno;
    if (error_number == ENOENT || error_number == ECONNREFUSED)
        return Error(Errc::not_found, "nobody listens on " + path);
    return Error::from_errno(error_number, "connect to " + path);
}

Result<UniqueFd> listen_unix(const std::string& path) {
    const sockaddr_un address = BANGER_TRY(address_of(path));
    BANGER_TRY(remove_file(path));
    UniqueFd fd = BANGER_TRY(unix_socket());
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return Error::from_errno(errno, "bind " + path);
    if (::listen(fd.get(), 4) != 0) return Error::from_errno(errno, "listen on " + path);
    return fd;
}

}  // namespace banger::qemu

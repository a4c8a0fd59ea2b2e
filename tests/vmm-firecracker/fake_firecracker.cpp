// Plays Firecracker: takes the command line that banger gives it, reads the configuration file,
// serves the API and the vsock socket, and ends with a sentence on standard error when anything is
// not as Firecracker's swagger file and documents say. Written from these; no code of it.
//
// It is not chrooted: absolute paths are taken from the working folder. A folder named in
// BANGER_STAND_IN holds what it is to do, one empty file a deed:
//
//   refuse      ends with a sentence in its log before it serves anything   (taken away when seen)
//   die         serves its API, and ends with the first request             (taken away when seen)
//   half        answers the first request with half an answer, and closes   (taken away when seen)
//   gibberish   answers the first request with something else than HTTP     (taken away when seen)
//   hang        writes a line to the fifo `hanging` and serves nothing      (taken away when seen)
//   deaf        closes each vsock connection, as long as the file is there
//   stubborn    refuses each PATCH and PUT, as long as the file is there
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/base/file.hpp"

namespace {

using banger::UniqueFd;
using Json = nlohmann::json;

[[noreturn]] void wrong(const std::string& what) {
    static_cast<void>(std::fprintf(stderr, "stand-in: %s\n", what.c_str()));
    std::_Exit(2);
}

std::string deeds() {
    const char* folder = std::getenv("BANGER_STAND_IN");
    return folder ? folder : "/nonexistent";
}
bool has_deed(const std::string& name) {
    return ::access((deeds() + "/" + name).c_str(), F_OK) == 0;
}
bool take_deed(const std::string& name) { return ::unlink((deeds() + "/" + name).c_str()) == 0; }

/// "/run/api.sock" → "./run/api.sock"
std::string inside(const std::string& path) {
    if (!path.starts_with('/')) wrong("a path is not absolute: " + path);
    return "." + path;
}

enum class State { not_started, running, paused };
State state = State::running;
std::string config_text;
UniqueFd guests;  // of no use before the machine is built

// ---- the configuration file ----

void expect_keys(const Json& object, const std::string& name, const std::set<std::string>& needed,
                 const std::set<std::string>& optional = {}) {
    if (!object.is_object()) wrong(name + " is no object");
    for (const auto& [key, value] : object.items())
        if (!needed.contains(key) && !optional.contains(key)) wrong(name + " has the field " + key);
    for (const std::string& key : needed)
        if (!object.contains(key)) wrong(name + " has no " + key);
}

void expect_readable(const Json& path, const std::string& name) {
    if (!path.is_string()) wrong(name + " is no text");
    if (!banger::open_read(inside(path.get<std::string>()))) wrong(name + " cannot be opened");
}

void check_limiter(const Json& limiter, const std::string& name) {
    expect_keys(limiter, name, {"bandwidth"});
    expect_keys(limiter["bandwidth"], name, {"size", "refill_time"}, {"one_time_burst"});
    if (!limiter["bandwidth"]["size"].is_number_unsigned()) wrong(name + " has no size");
}

void check_drives(const Json& drives) {
    if (!drives.is_array()) wrong("drives are no list");
    std::set<std::string> ids;
    for (const Json& drive : drives) {
        expect_keys(drive, "a drive",
                    {"drive_id", "path_on_host", "is_root_device", "is_read_only"},
                    {"cache_type", "io_engine", "rate_limiter", "partuuid"});
        if (!drive["is_root_device"].is_boolean() || !drive["is_read_only"].is_boolean())
            wrong("a drive's truth is none");
        if (!ids.insert(drive["drive_id"].get<std::string>()).second) wrong("a drive comes twice");
        if (drive.contains("cache_type") && drive["cache_type"] != "Unsafe" &&
            drive["cache_type"] != "Writeback")
            wrong("a drive has no such cache");
        if (drive.contains("rate_limiter")) check_limiter(drive["rate_limiter"], "a drive's limit");
        expect_readable(drive["path_on_host"], "a drive");
    }
}

/// The path of the vsock socket.
std::string check_config(const std::string& path) {
    const banger::Result<std::string> text =
        banger::read_file(inside(path), banger::ByteCount::mib(1));
    if (!text) wrong("the configuration cannot be read: " + text.error().message);
    config_text = *text;
    const Json config = Json::parse(*text, nullptr, false);
    expect_keys(config, "the configuration",
                {"boot-source", "drives", "machine-config", "network-interfaces", "vsock"},
                {"entropy", "balloon", "logger", "metrics", "mmds-config", "cpu-config"});
    const Json& boot = config["boot-source"];
    expect_keys(boot, "the boot source", {"kernel_image_path"}, {"initrd_path", "boot_args"});
    if (state == State::running) {
        expect_readable(boot["kernel_image_path"], "the kernel");
        expect_readable(boot["initrd_path"], "the initramfs");
    }
    check_drives(config["drives"]);
    const Json& machine = config["machine-config"];
    expect_keys(machine, "the machine", {"vcpu_count", "mem_size_mib"},
                {"smt", "track_dirty_pages", "cpu_template", "huge_pages"});
    const auto vcpus = machine["vcpu_count"].get<std::int64_t>();
    if (vcpus < 1 || vcpus > 32) wrong("there are no such vCPU");
    if (machine["mem_size_mib"].get<std::int64_t>() <= 0) wrong("there is no memory");
    for (const Json& interface : config["network-interfaces"]) {
        expect_keys(interface, "an interface", {"iface_id", "host_dev_name"},
                    {"guest_mac", "rx_rate_limiter", "tx_rate_limiter", "mtu"});
        for (const char* limiter : {"rx_rate_limiter", "tx_rate_limiter"})
            if (interface.contains(limiter)) check_limiter(interface[limiter], limiter);
    }
    const Json& vsock = config["vsock"];
    expect_keys(vsock, "vsock", {"guest_cid", "uds_path"});
    if (vsock["guest_cid"].get<std::int64_t>() < 3) wrong("vsock has no such number");
    if (config.contains("entropy")) expect_keys(config["entropy"], "entropy", {}, {"rate_limiter"});
    return vsock["uds_path"].get<std::string>();
}

// ---- sockets ----

UniqueFd listen_at(const std::string& path) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string place = inside(path);
    if (place.size() >= sizeof address.sun_path) wrong("a socket's path is too long");
    std::memcpy(address.sun_path, place.c_str(), place.size());
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(socket.get(), 16) != 0)
        wrong("cannot listen at " + place);
    return socket;
}

void send_text(int socket, const std::string& text) {
    static_cast<void>(::send(socket, text.data(), text.size(), MSG_NOSIGNAL));
}

std::string answer(int status, const std::string& words, const std::string& body) {
    std::string text = "HTTP/1.1 " + std::to_string(status) + " " + words +
                       " \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n";
    if (!body.empty())
        text += "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
                "\r\n";
    return text + "\r\n" + body;
}

// ---- the API ----

/// The state is the configuration here; memory is a hole.
std::string create_snapshot(const Json& json) {
    expect_keys(json, "PUT /snapshot/create", {"mem_file_path", "snapshot_path"},
                {"snapshot_type"});
    if (json.value("snapshot_type", "Full") != "Full") wrong("that is no full snapshot");
    if (state != State::paused) wrong("a machine that runs is to be saved");
    if (has_deed("stubborn"))
        return answer(400, "Bad Request", Json{{"fault_message", "not\nnow"}}.dump());
    const auto size = Json::parse(config_text)["machine-config"]["mem_size_mib"].get<off_t>();
    const auto make = [](const std::string& path) {
        UniqueFd file(::open(inside(path).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        if (!file) wrong("cannot make " + path);
        return file;
    };
    if (!banger::write_all(make(json["snapshot_path"]).get(), config_text) ||
        ::ftruncate(make(json["mem_file_path"]).get(), size << 20) != 0)
        wrong("cannot save");
    return answer(204, "No Content", "");
}

std::string load_snapshot(const Json& json) {
    expect_keys(json, "PUT /snapshot/load", {"snapshot_path", "mem_backend"},
                {"resume_vm", "track_dirty_pages", "enable_diff_snapshots", "network_overrides"});
    expect_keys(json["mem_backend"], "the memory", {"backend_type", "backend_path"});
    if (json["mem_backend"]["backend_type"] != "File") wrong("memory is no file");
    if (state != State::not_started) wrong("a snapshot is to be loaded over a machine");
    expect_readable(json["mem_backend"]["backend_path"], "the memory");
    if (has_deed("stubborn"))
        return answer(400, "Bad Request", Json{{"fault_message", "not\nnow"}}.dump());
    guests = listen_at(check_config(json["snapshot_path"]));
    state = json.value("resume_vm", false) ? State::running : State::paused;
    return answer(204, "No Content", "");
}

std::string answer_to(const std::string& method, const std::string& target,
                      const std::string& body) {
    if (method == "GET" && target == "/" && body.empty())
        return answer(200, "OK",
                      Json{{"id", "x"},
                           {"state", state == State::paused    ? "Paused"
                                     : state == State::running ? "Running"
                                                               : "Not started"},
                           {"vmm_version", "1.12.0"},
                           {"app_name", "Firecracker"}}
                          .dump());
    const Json json = Json::parse(body, nullptr, false);
    if (method == "PUT" && target == "/snapshot/create") return create_snapshot(json);
    if (method == "PUT" && target == "/snapshot/load") return load_snapshot(json);
    if (method != "PATCH" || target != "/vm") wrong("unexpected request " + method + " " + target);
    if (state == State::not_started) wrong("asked a machine that was not built");
    const bool is_paused = state == State::paused;
    expect_keys(json, "PATCH /vm", {"state"});
    const bool wanted = json["state"] == "Paused";
    if (!wanted && json["state"] != "Resumed") wrong("PATCH /vm has no such state");
    if (has_deed("stubborn"))
        return answer(400, "Bad Request", Json{{"fault_message", "not\nnow"}}.dump());
    if (wanted == is_paused) wrong("asked for what is so already");
    state = wanted ? State::paused : State::running;
    return answer(204, "No Content", "");
}

/// True when the connection is to be closed.
bool serve_request(int socket, std::string& received) {
    const std::size_t end = received.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    const std::string head = received.substr(0, end + 2);
    std::size_t length = 0;
    if (const std::size_t at = head.find("\r\nContent-Length: "); at != std::string::npos)
        length = std::strtoul(head.c_str() + at + 18, nullptr, 10);
    if (received.size() < end + 4 + length) return false;
    if (head.find("\r\nHost: ") == std::string::npos) wrong("a request has no Host");
    const std::string line = head.substr(0, head.find("\r\n"));
    const std::size_t first = line.find(' ');
    const std::size_t second = line.find(' ', first + 1);
    if (line.substr(second + 1) != "HTTP/1.1") wrong("a request is no HTTP/1.1");
    const std::string body = received.substr(end + 4, length);
    if (received.size() != end + 4 + length) wrong("a request has more than it announced");
    received.clear();
    if (take_deed("die")) {
        static_cast<void>(std::fputs("Error: the guest's memory cannot be made\n", stderr));
        std::_Exit(1);
    }
    if (take_deed("half")) {
        send_text(socket, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"state\":");
        return true;
    }
    if (take_deed("gibberish")) {
        send_text(socket, "SSH-2.0-OpenSSH\r\n\r\n");
        return true;
    }
    send_text(socket,
              answer_to(line.substr(0, first), line.substr(first + 1, second - first - 1), body));
    return false;
}

// ---- vsock ----

/// True when the connection is to be closed.
bool serve_guest(int socket, std::string& received) {
    if (received.find('\n') == std::string::npos) return false;
    if (received != "CONNECT 1024\n") wrong("vsock was asked for " + received);
    if (has_deed("deaf")) return true;
    send_text(socket, "OK 1073741824\nhello");
    received.clear();
    return false;
}

struct Connection {
    UniqueFd socket;
    bool is_api = false;
    std::string received;
};

bool read_and_serve(Connection& connection) {
    char buffer[4096];
    const ssize_t count = ::recv(connection.socket.get(), buffer, sizeof buffer, 0);
    if (count <= 0) return true;
    connection.received.append(buffer, static_cast<std::size_t>(count));
    return connection.is_api ? serve_request(connection.socket.get(), connection.received)
                             : serve_guest(connection.socket.get(), connection.received);
}

[[noreturn]] void serve(const UniqueFd& api) {
    std::list<Connection> connections;
    for (;;) {
        std::vector<pollfd> all{{api.get(), POLLIN, 0}, {guests.get(), POLLIN, 0}};
        for (const Connection& connection : connections)
            all.push_back({connection.socket.get(), POLLIN, 0});
        if (::poll(all.data(), all.size(), -1) < 0) continue;
        std::size_t at = 2;
        for (auto it = connections.begin(); it != connections.end(); ++at)
            it =
                all[at].revents != 0 && read_and_serve(*it) ? connections.erase(it) : std::next(it);
        for (const std::size_t i : {0, 1})
            if (all[i].revents != 0)
                connections.push_back(
                    {UniqueFd(::accept4(all[i].fd, nullptr, nullptr, SOCK_CLOEXEC)), i == 0, {}});
    }
}

}  // namespace

int main(int count, char** arguments) {
    const std::vector<std::string> given(arguments + 1, arguments + count);
    if (given == std::vector<std::string>{"--version"}) {
        std::puts("Firecracker v1.12.0\n");
        return 0;
    }
    const bool is_built = given.size() == 8;
    const std::size_t log_at = is_built ? 4 : 2;
    if (given.size() != log_at + 4 || given[0] != "--api-sock" ||
        (is_built && given[2] != "--config-file") || given[log_at] != "--log-path" ||
        given[log_at + 2] != "--level" || given[log_at + 3] != "Warning")
        wrong("the command line is not one that is known");
    if (::environ[0] == nullptr || ::environ[1] != nullptr) wrong("there is an environment");
    const UniqueFd log(::open(inside(given[log_at + 1]).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    if (!log) wrong("the log cannot be opened");
    if (take_deed("refuse")) {
        static_cast<void>(banger::write_all(log.get(), "the kernel cannot be loaded\n"));
        return 1;
    }
    if (take_deed("hang")) {
        UniqueFd fifo(::open((deeds() + "/hanging").c_str(), O_WRONLY | O_CLOEXEC));
        static_cast<void>(banger::write_all(fifo.get(), "hanging\n"));
        fifo.reset();  // who waits for it reads to the end
        for (;;)
            ::pause();
    }
    const UniqueFd api = listen_at(given[1]);
    if (is_built) {
        guests = listen_at(check_config(given[3]));
        std::puts("a guest's first words");
        static_cast<void>(std::fflush(stdout));
    } else {
        state = State::not_started;
    }
    serve(api);
}

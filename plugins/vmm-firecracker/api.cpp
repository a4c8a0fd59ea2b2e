#include "plugins/vmm-firecracker/api.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "core/base/process.hpp"

namespace banger::firecracker {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr int max_depth = 8;

Error corrupt() {
    return {Errc::corrupt, "Firecracker's API answered with something else than it documents",
            "End the machine with `banger vm kill`."};
}

/// Discarded when it is no JSON, or too deep to be an answer.
Json parse(std::string_view text) {
    bool is_too_deep = false;
    Json json = Json::parse(
        text,
        [&](int level, Json::parse_event_t, Json&) {
            is_too_deep = is_too_deep || level > max_depth;
            return !is_too_deep;
        },
        false);
    return is_too_deep ? Json(Json::value_t::discarded) : json;
}

Result<void> wait(const UniqueFd& connection, short events, Clock::time_point deadline,
                  const std::stop_token& stop) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    const int ready = BANGER_TRY(
        poll_fd(connection.get(), events, std::max(left, std::chrono::milliseconds(0)), stop));
    if (ready > 0) return ok();
    return Error(Errc::timed_out, "Firecracker's API does not answer",
                 "End the machine with `banger vm kill`.");
}

Result<void> send_all(const UniqueFd& connection, std::string_view bytes,
                      Clock::time_point deadline, const std::stop_token& stop) {
    while (!bytes.empty()) {
        const ssize_t count =
            ::send(connection.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        const int number = errno;
        if (count >= 0) {
            bytes.remove_prefix(static_cast<std::size_t>(count));
        } else if (number == EAGAIN || number == EINTR) {
            BANGER_TRY(wait(connection, POLLOUT, deadline, stop));
        } else {
            return Error(Errc::unreachable, "Firecracker closed its API");
        }
    }
    return ok();
}

}  // namespace

std::string format_request(std::string_view method, std::string_view target,
                           std::string_view body) {
    std::string text(method);
    text += " ";
    text += target;
    text += " HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n";
    if (!body.empty())
        text += "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
                "\r\n";
    text += "\r\n";
    text += body;
    return text;
}

Result<HttpReply> exchange(const UniqueFd& connection, std::string_view request,
                           std::chrono::milliseconds patience, std::stop_token stop) {
    const Clock::time_point deadline = Clock::now() + patience;
    BANGER_TRY(send_all(connection, request, deadline, stop));
    HttpReplyReader reader;
    char buffer[4096];
    for (;;) {
        const ssize_t count = ::recv(connection.get(), buffer, sizeof buffer, MSG_DONTWAIT);
        const int number = errno;
        if (count > 0) {
            if (BANGER_TRY(reader.feed({buffer, static_cast<std::size_t>(count)})))
                return reader.reply();
        } else if (count < 0 && (number == EAGAIN || number == EINTR)) {
            BANGER_TRY(wait(connection, POLLIN, deadline, stop));
        } else {
            return Error(Errc::unreachable, "Firecracker closed its API before it answered");
        }
    }
}

Result<InstanceInfo> parse_instance_info(std::string_view body) {
    const Json json = parse(body);
    if (!json.is_object()) return corrupt();
    const auto state = json.find("state");
    if (state == json.end() || !state->is_string()) return corrupt();
    InstanceInfo info;
    const auto version = json.find("vmm_version");
    if (version != json.end() && version->is_string()) info.version = version->get<std::string>();
    if (info.version.size() > 64 ||
        !std::ranges::all_of(info.version, [](char c) { return c > ' ' && c <= '~'; }))
        return corrupt();
    const std::string& word = state->get_ref<const std::string&>();
    if (word == "Not started")
        info.state = InstanceState::not_started;
    else if (word == "Running")
        info.state = InstanceState::running;
    else if (word == "Paused")
        info.state = InstanceState::paused;
    else
        return corrupt();
    return info;
}

std::string fault_message(std::string_view body) {
    constexpr std::size_t most = 500;
    const Json json = parse(body);
    std::string words;
    if (json.is_object()) {
        const auto said = json.find("fault_message");
        if (said != json.end() && said->is_string()) words = said->get<std::string>();
    }
    if (words.empty()) return "it gave no reason";
    words.resize(std::min(words.size(), most));
    for (char& c : words)
        if (c < ' ' || c > '~') c = ' ';
    return words;
}

namespace {

/// A request that changes something and is answered by nothing.
Result<void> order(const UniqueFd& connection, std::string_view method, std::string_view target,
                   std::string_view body, std::chrono::milliseconds deadline,
                   std::stop_token stop) {
    const HttpReply reply = BANGER_TRY(
        exchange(connection, format_request(method, target, body), deadline, std::move(stop)));
    if (reply.status == 204) return ok();
    if (reply.status < 400) return corrupt();
    return Error(Errc::wrong_state, "Firecracker refused: " + fault_message(reply.body),
                 "Look at `banger vm show`.");
}

}  // namespace

Result<InstanceInfo> instance_info(const UniqueFd& connection, std::chrono::milliseconds deadline,
                                   std::stop_token stop) {
    const HttpReply reply =
        BANGER_TRY(exchange(connection, format_request("GET", "/", ""), deadline, std::move(stop)));
    if (reply.status != 200) return corrupt();
    return parse_instance_info(reply.body);
}

Result<void> set_paused(const UniqueFd& connection, bool is_paused,
                        std::chrono::milliseconds deadline, std::stop_token stop) {
    return order(connection, "PATCH", "/vm",
                 is_paused ? R"({"state":"Paused"})" : R"({"state":"Resumed"})", deadline,
                 std::move(stop));
}

Result<void> create_snapshot(const UniqueFd& connection, std::string_view state_path,
                             std::string_view memory_path, std::chrono::milliseconds deadline,
                             std::stop_token stop) {
    const Json body = {
        {"snapshot_type", "Full"}, {"snapshot_path", state_path}, {"mem_file_path", memory_path}};
    return order(connection, "PUT", "/snapshot/create", body.dump(), deadline, std::move(stop));
}

Result<void> load_snapshot(const UniqueFd& connection, std::string_view state_path,
                           std::string_view memory_path, std::chrono::milliseconds deadline,
                           std::stop_token stop) {
    const Json body = {{"snapshot_path", state_path},
                       {"mem_backend", {{"backend_type", "File"}, {"backend_path", memory_path}}},
                       {"resume_vm", false}};
    return order(connection, "PUT", "/snapshot/load", body.dump(), deadline, std::move(stop));
}

}  // namespace banger::firecracker

#include "daemons/plugin-host/plugin_host.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <mutex>
#include <string>

#include "core/base/file.hpp"
#include "core/base/log_line.hpp"
#include "core/plugins/library.hpp"
#include "core/remote/connect.hpp"
#include "core/remote/description.hpp"
#include "core/remote/server.hpp"
#include "core/remote/web.hpp"
#include "core/rpc/message.hpp"
#include "daemons/plugin-host/confine.hpp"

namespace banger::plugin_host {

namespace {

using Clock = std::chrono::steady_clock;
using rpc::PacketChannel;

constexpr Clock::time_point never = Clock::time_point::max();
constexpr std::chrono::seconds patience{10};

/// Connections to core, which a call half-closes when it is stopped: so each is made when needed.
class ToCore {
public:
    explicit ToCore(PacketChannel channel) : channel_(std::move(channel)) {}
    Result<PacketChannel> connect() {
        auto ends = BANGER_TRY(PacketChannel::pair());
        const std::lock_guard lock(mutex_);
        BANGER_TRY(remote::give_connection(channel_, ends.second, Clock::now() + patience));
        return std::move(ends.first);
    }

private:
    std::mutex mutex_;
    PacketChannel channel_;
};

/// What the plugin sees of the world: here, what came with the start.
class HostedHost final : public Host, public Web {
public:
    HostedHost(const Start& start, PacketChannel core)
        : start_(start),
          core_(std::move(core)),
          web_(remote::Client::make([this] { return core_.connect(); }, {.connections = 4},
                                    {.name = "bangerd", .remedy = "Try again."}, {}),
               std::string(core_name)) {}
    void log(LogLevel level, std::string_view message) override { write_log_line(level, message); }
    [[nodiscard]] const Settings& settings() const override { return start_.settings; }
    [[nodiscard]] const std::string& state_folder() const override { return start_.state_folder; }
    [[nodiscard]] const std::string& cache_folder() const override { return start_.cache_folder; }
    [[nodiscard]] const std::string& run_folder() const override { return start_.run_folder; }
    Result<HttpResponse> http_get(const HttpRequest& request, Call& call) override {
        return BANGER_TRY(web_.web_get(request, call));
    }
    Result<HttpResponse> http_download(const HttpRequest& request, int sink, Call& call) override {
        return BANGER_TRY(web_.web_download(request, sink, call));
    }
    Result<WebResponse> web_get(const WebRequest& request, Call& call) override {
        return web_.web_get(request, call);
    }
    Result<WebResponse> web_download(const WebRequest& request, int sink, Call& call) override {
        return web_.web_download(request, sink, call);
    }

private:
    const Start& start_;
    ToCore core_;
    remote::RemoteWeb web_;
};

Result<void> answer(PacketChannel& channel, rpc::Json parameters) {
    const std::string text =
        BANGER_TRY(rpc::write_message(rpc::ReplyMessage{std::move(parameters), false, {}}));
    return channel.send(text, {}, Clock::now() + patience);
}

Result<void> answer_started(PacketChannel& channel, const Started& started) {
    rpc::Json::Object object;
    object.push_back({"result", rpc::encode(started)});
    return answer(channel, rpc::Json(std::move(object)));
}

template <class T>
Result<T> parameters_of(const rpc::Packet& packet, std::string_view method) {
    const rpc::CallMessage call = BANGER_TRY(rpc::read_call(packet.text));
    if (call.method != method)
        return Error(Errc::corrupt, "a plugin host was asked for " + call.method);
    return rpc::decode<T>(call.parameters, "parameters");
}

Error error_of(const Refusal& refusal) {
    return {Errc::unavailable, refusal.reason, refusal.remedy};
}

/// Becomes the program. Returns only when that fails.
Error become(const Confine& confine, int file) {
    // The program finds its channels there and nowhere else. The interpreter of a script opens the
    // script by its descriptor, which must be left to it.
    for (const int fd : {calls_fd, core_fd, file})
        ::fcntl(fd, F_SETFD, 0);
    std::string name = confine.name.str();
    char* const arguments[] = {name.data(), nullptr};
    char* const environment[] = {nullptr};
    ::execveat(file, "", arguments, environment, AT_EMPTY_PATH);
    const int number = errno;
    Error error = Error::from_errno(number, "it cannot be run");
    error.remedy = number == ENOEXEC
                       ? "A script begins with #! and its interpreter; a program is for x86_64."
                       : "Its interpreter must be in /usr.";
    return error;
}

/// The connections that bangerd makes, until it closes this one.
Result<void> serve(PacketChannel& calls, remote::Server& server) {
    while (true) {
        Result<rpc::Packet> packet = calls.receive(never, {});
        if (!packet) return ok();
        const Result<rpc::CallMessage> call = rpc::read_call(packet->text);
        if (!call || call->method != remote::connect_method || packet->descriptors.size() != 1)
            return Error(Errc::corrupt, "bangerd said what it does not say here");
        server.add(PacketChannel(std::move(packet->descriptors.front())));
        BANGER_TRY(answer(calls, rpc::Json(rpc::Json::Object{})));
    }
}

/// The roles that an optional half makes differ.
Started describe(const Roles& roles) {
    Started said{filled(roles), {}, {}};
    if (roles.network != nullptr) said.addressing = roles.network->addressing();
    if (roles.storage != nullptr) said.cloning = roles.storage->cloning() != nullptr;
    return said;
}

}  // namespace

Result<void> run_plugin(PacketChannel& calls, PacketChannel core) {
    rpc::Packet first = BANGER_TRY(calls.receive(Clock::now() + patience, {}));
    const Confine wanted = BANGER_TRY(parameters_of<Confine>(first, confine_method));
    if (first.descriptors.size() != 1)
        return Error(Errc::corrupt, "a plugin host was given no plugin");
    const UniqueFd file = std::move(first.descriptors.front());
    BANGER_TRY(confine(wanted, file.get()));
    if (wanted.is_executable) return become(wanted, file.get());

    const rpc::Packet second = BANGER_TRY(calls.receive(Clock::now() + patience, {}));
    const Start start = BANGER_TRY(parameters_of<Start>(second, start_method));
    Admission<Library> library = Library::open(wanted.name, wanted.file, file);
    if (!library) return error_of(library.refusal());
    if (wanted.is_probe) return answer_started(calls, {});
    HostedHost host(start, std::move(core));
    Admission<LoadedPlugin> plugin = LoadedPlugin::create(wanted.name, wanted.file, *library, host);
    if (!plugin) return error_of(plugin.refusal());
    remote::Server server({{start.name, plugin->roles(), {}, nullptr}}, {}, write_log_line);
    BANGER_TRY(answer_started(calls, describe(plugin->roles())));
    const Result<void> served = serve(calls, server);
    // Nobody waits for what it still does: it keeps what matters in files.
    ::_exit(served ? 0 : 1);
}

}  // namespace banger::plugin_host

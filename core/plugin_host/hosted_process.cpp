#include "core/plugin_host/hosted_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "core/base/process.hpp"
#include "core/remote/methods.hpp"
#include "core/rpc/message.hpp"

namespace banger::plugin_host {

namespace {

using Clock = std::chrono::steady_clock;
using rpc::PacketChannel;

constexpr std::chrono::milliseconds a_moment{1'000};
constexpr std::size_t longest_line = 2'000;
/// More than that in one window is dropped, and counted.
constexpr std::size_t most_lines = 200;
constexpr std::chrono::seconds window{10};

/// What a process writes, as lines for the log: bounded in length and number, without control
/// characters, the level told by a first "<N>" (sd-daemon(3)).
class Lines {
public:
    explicit Lines(const std::function<void(LogLevel, std::string_view)>& log) : log_(log) {}
    ~Lines() {
        end_line();
        tell_dropped();
    }
    void add(std::string_view bytes) {
        for (const char c : bytes) {
            if (c == '\n')
                end_line();
            else if (line_.size() < longest_line)
                line_ += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
        }
    }
    /// Whoever writes too much may wait.
    [[nodiscard]] bool is_over_limit() const { return count_ > most_lines; }

private:
    void end_line() {
        if (line_.empty()) return;
        std::string line;
        line.swap(line_);
        const Clock::time_point now = Clock::now();
        if (now - begin_ > window) {
            tell_dropped();
            begin_ = now;
            count_ = 0;
        }
        if (++count_ > most_lines) {
            ++dropped_;
            return;
        }
        LogLevel level = LogLevel::info;
        std::string_view text = line;
        if (text.size() > 3 && text[0] == '<' && text[2] == '>' && text[1] >= '0' &&
            text[1] <= '7') {
            level = text[1] <= '3'   ? LogLevel::error
                    : text[1] == '4' ? LogLevel::warning
                    : text[1] == '7' ? LogLevel::debug
                                     : LogLevel::info;
            text.remove_prefix(3);
        }
        if (log_) log_(level, text);
    }
    void tell_dropped() {
        if (dropped_ > 0 && log_)
            log_(LogLevel::warning, std::to_string(dropped_) + " lines more were left out");
        dropped_ = 0;
    }
    const std::function<void(LogLevel, std::string_view)>& log_;
    std::string line_;
    Clock::time_point begin_ = Clock::now();
    std::size_t count_ = 0;
    std::size_t dropped_ = 0;
};

template <class T>
std::string call_text(std::string_view method, const T& parameters) {
    return rpc::write_message(rpc::CallMessage{std::string(method), rpc::encode(parameters)})
        .value_or("");
}

Error unavailable(std::string message, std::string remedy) {
    return {Errc::unavailable, std::move(message), std::move(remedy)};
}

}  // namespace

Result<Started> read_started(std::string_view text) {
    const auto corrupt = [](const Error& error) { return Error(Errc::corrupt, error.message); };
    const Result<rpc::ReplyMessage> reply = rpc::read_reply(text);
    if (!reply) return corrupt(reply.error());
    if (!reply->error.empty()) {
        const Error refused = rpc::error_of(*reply);
        return unavailable(refused.message, refused.remedy);
    }
    const rpc::Json* result = reply->parameters.find("result");
    if (result == nullptr) return Error(Errc::corrupt, "there is no result");
    Result<Started> started = rpc::decode<Started>(*result, "result", rpc::Unknown::ignored);
    if (!started) return corrupt(started.error());
    return started;
}

/// The ends of the process, and ours of what it writes.
struct HostedProcess::Ends {
    PacketChannel calls;                 ///< its descriptor 3
    PacketChannel core;                  ///< its descriptor 4
    std::optional<PacketChannel> asked;  ///< our end of that; served elsewhere for an executable
};

Result<std::shared_ptr<HostedProcess>> HostedProcess::start(const Recipe& recipe,
                                                            remote::Server& core, OnEnd on_end) {
    std::shared_ptr<HostedProcess> process(new HostedProcess(core, std::move(on_end)));
    BANGER_TRY(process->begin(recipe));
    BANGER_TRY(process->shake_hands(recipe));
    return process;
}

HostedProcess::~HostedProcess() { kill({}); }

Result<void> HostedProcess::begin(const Recipe& recipe) {
    auto calls = BANGER_TRY(PacketChannel::pair());
    auto core = BANGER_TRY(PacketChannel::pair());
    channel_.emplace(std::move(calls.first));
    socket_ = channel_->socket().get();
    Ends ends{std::move(calls.second), std::move(core.second), {}};
    // An executable calls on it; a library's host has connections made by it, one a call at once.
    if (recipe.confine.is_executable)
        core_.add(std::move(core.first));
    else
        ends.asked.emplace(std::move(core.first));
    keeper_ = std::jthread([this, recipe, moved = std::make_shared<Ends>(std::move(ends))] {
        keep(recipe, std::move(*moved));
    });
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return spawned_.has_value(); });
    return *spawned_;
}

/// The thread of the process.
void HostedProcess::keep(const Recipe& recipe, Ends ends) {
    const auto answer = [this](Result<void> result) {
        const std::lock_guard lock(mutex_);
        spawned_ = std::move(result);
        changed_.notify_all();
    };
    int output[2] = {-1, -1};
    if (::pipe2(output, O_CLOEXEC) != 0)
        return answer(Error::from_errno(errno, "making a pipe for a plugin's output"));
    UniqueFd read_end(output[0]);
    UniqueFd write_end(output[1]);
    Command command;
    command.program = recipe.program;
    command.arguments = {std::to_string(ends.calls.socket().get()),
                         std::to_string(ends.core.socket().get())};
    command.standard_output = write_end.get();
    command.standard_error = write_end.get();
    command.inherited = {ends.calls.socket().get(), ends.core.socket().get()};
    command.dies_with_parent = true;
    Result<Child> child = spawn(command);
    if (!child) return answer(std::move(child).error());
    write_end.reset();
    std::optional<PacketChannel> asked = std::move(ends.asked);
    { const Ends closed = std::move(ends); }
    {
        const std::lock_guard lock(mutex_);
        pid_ = child->id().pid;
        pidfd_ = child->pidfd().duplicate();
        if (was_killed_) static_cast<void>(send_signal(pidfd_, SIGKILL));
    }
    if (recipe.contain) recipe.contain(child->id());
    answer(ok());
    watch(recipe, *child, std::move(read_end), asked ? &*asked : nullptr);
    const Result<ExitStatus> ended = child->wait({});
    bool was_killed = false;
    std::string blame;
    {
        const std::lock_guard lock(mutex_);
        status_ = ended.value_or(ExitStatus{});
        was_killed = was_killed_;
        blame = blame_;
        changed_.notify_all();
    }
    on_end_(*status_, was_killed, blame);
}

/// Until it has ended: hands its lines on, and makes the connections it asks for.
void HostedProcess::watch(const Recipe& recipe, Child& child, UniqueFd output,
                          PacketChannel* asked) {
    ::fcntl(output.get(), F_SETFL, O_NONBLOCK);
    Lines lines(recipe.log);
    std::vector<char> buffer(16'384);
    const auto drain = [&] {
        const ssize_t got = ::read(output.get(), buffer.data(), buffer.size());
        if (got > 0) lines.add({buffer.data(), static_cast<std::size_t>(got)});
        return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
    };
    bool has_output = true;
    while (true) {
        pollfd all[] = {{child.pidfd().get(), POLLIN, 0},
                        {has_output && !lines.is_over_limit() ? output.get() : -1, POLLIN, 0},
                        {asked != nullptr ? asked->socket().get() : -1, POLLIN, 0}};
        // While it writes too much, its pipe is emptied ten times a second.
        if (::poll(all, std::size(all), lines.is_over_limit() ? 100 : -1) < 0) continue;
        if (all[0].revents != 0) break;
        if (has_output && (all[1].revents != 0 || lines.is_over_limit())) has_output = drain();
        if (all[2].revents != 0 && !connect_to_core(*asked)) asked = nullptr;
    }
    // What it said last says most.
    for (int i = 0; has_output && i < 8; ++i)
        has_output = drain();
}

/// False when it asks no more.
bool HostedProcess::connect_to_core(PacketChannel& asked) {
    Result<rpc::Packet> packet = asked.receive(Clock::now() + a_moment, {});
    if (!packet && packet.error().code == Errc::unavailable) return false;
    const Result<rpc::CallMessage> call =
        packet ? rpc::read_call(packet->text) : Result<rpc::CallMessage>(packet.error());
    if (!call || call->method != remote::connect_method || packet->descriptors.size() != 1) {
        kill("it asked core for what core does not do");
        return false;
    }
    core_.add(PacketChannel(std::move(packet->descriptors.front())));
    const rpc::ReplyMessage done{rpc::Json(rpc::Json::Object{}), false, {}};
    return asked.send(rpc::write_message(done).value(), {}, Clock::now() + a_moment).has_value();
}

Error HostedProcess::ended_early() const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, a_moment, [&] { return status_.has_value(); });
    return unavailable(
        "it ended while it was started" + (status_ ? ": " + status_->text() : std::string()),
        "See what it wrote in the log of bangerd, or choose another plugin.");
}

Result<void> HostedProcess::shake_hands(const Recipe& recipe) {
    const Clock::time_point deadline = Clock::now() + recipe.patience;
    const int file[] = {recipe.file};
    Result<void> sent = channel_->send(call_text(confine_method, recipe.confine), file, deadline);
    if (sent) sent = channel_->send(call_text(start_method, recipe.start), {}, deadline);
    if (!sent && sent.error().code == Errc::unavailable) return ended_early();
    BANGER_TRY(std::move(sent));
    const Result<rpc::Packet> packet = channel_->receive(deadline, {});
    if (!packet && packet.error().code == Errc::unavailable) return ended_early();
    if (!packet && packet.error().code == Errc::timed_out) {
        const std::string late =
            "it did not start within " +
            std::to_string(
                std::chrono::duration_cast<std::chrono::seconds>(recipe.patience).count()) +
            " s";
        kill(late);
        return unavailable(late, "Choose another plugin, or tell its author.");
    }
    const auto misfit = [&](const Error& error) {
        kill("its first answer is none: " + error.message);
        return unavailable("its first answer is none: " + error.message,
                           "Tell its author; docs/PLUGIN-WIRE.md has what it should say.");
    };
    if (!packet) return misfit(packet.error());
    Result<Started> started = read_started(packet->text);
    if (!started && started.error().code != Errc::unavailable) return misfit(started.error());
    started_ = BANGER_TRY(std::move(started));
    return ok();
}

void HostedProcess::kill(const std::string& blame) {
    const std::lock_guard lock(mutex_);
    if (status_) return;
    if (!was_killed_) blame_ = blame;
    was_killed_ = true;
    if (pidfd_) static_cast<void>(send_signal(pidfd_, SIGKILL));
}

void HostedProcess::expect_end() {
    {
        std::unique_lock lock(mutex_);
        if (changed_.wait_for(lock, a_moment, [&] { return status_.has_value(); })) return;
    }
    kill("it closed its channel and went on");
}

bool HostedProcess::has_ended() const {
    const std::lock_guard lock(mutex_);
    return status_.has_value();
}

}  // namespace banger::plugin_host

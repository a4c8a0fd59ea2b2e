#include "core/guest/agent_client.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace banger::guest {

namespace {

/// How much may come in that means nothing to us before the stream is given up: several answers to
/// predecessors, not a flood.
constexpr std::uint64_t max_noise = 1U << 20;
/// Input of sessions goes to the guest while no more than this waits for it.
constexpr std::size_t input_room = std::size_t{128} << 10;
/// A guest that reads nothing must not let requests grow.
constexpr std::size_t max_unsent = std::size_t{512} << 10;

/// Answers to a predecessor on the same serial stream must not look like answers to us.
std::uint64_t random_first_id() {
    std::uint64_t id = 0;
    if (getrandom(&id, sizeof id, 0) != sizeof id) std::abort();
    return id >> 1;
}

Error gone() {
    return {Errc::unavailable, "the guest agent closed the connection",
            "Look at the machine's console with 'banger vm logs'."};
}

void set_nonblocking(int fd) {
    const int flags = fcntl(fd, F_GETFL);
    if (flags >= 0) fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/// Sends what goes without waiting; false when nobody is there any more.
bool send_some(int fd, std::string& bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno == EAGAIN;
        bytes.erase(0, static_cast<std::size_t>(count));
    }
    return true;
}

}  // namespace

AgentClient::AgentClient(UniqueFd stream)
    : stream_(std::move(stream)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      next_id_(random_first_id()),
      first_id_(next_id_),
      out_(1, '\0') {
    set_nonblocking(stream_.get());
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

AgentClient::~AgentClient() {
    thread_.request_stop();
    wake();
    thread_.join();
    break_off(gone(), {Errc::unavailable, "bangerd let go of the machine while the command ran",
                       "See what became of it: banger vm list"});
    for (auto& [id, session] : sessions_)
        if (session.client) send_some(session.client.get(), session.to_client);
}

bool AgentClient::is_broken() const {
    const Lock lock(mutex_);
    return broken_.has_value();
}

std::size_t AgentClient::sessions() const {
    const Lock lock(mutex_);
    return sessions_.size();
}

void AgentClient::wake() const { eventfd_write(wake_.get(), 1); }

std::uint64_t AgentClient::next_id() {
    const Lock lock(mutex_);
    return next_id_++;
}

// ---- calls -------------------------------------------------------------------------------------

Result<std::string> AgentClient::call(std::uint64_t id, Result<std::string> frame,
                                      Deadline deadline, const std::stop_token& stop) {
    if (!frame) return frame;
    Lock lock(mutex_);
    if (broken_) return *broken_;
    if (out_.size() > max_unsent) return gone();
    out_ += *frame;
    std::optional<Result<std::string>>& slot = calls_[id];
    wake();
    const bool is_answered =
        changed_.wait_until(lock, stop, deadline, [&] { return slot.has_value(); });
    Result<std::string> result =
        is_answered             ? *std::move(slot)
        : stop.stop_requested() ? Error(Errc::cancelled, "cancelled")
                                : Error(Errc::timed_out, "the guest agent did not answer in time",
                                        "Look at the machine's console with 'banger vm logs'.");
    calls_.erase(id);
    return result;
}

Result<std::string> AgentClient::call(std::string_view method, Readiness wait, Deadline deadline,
                                      const std::stop_token& stop) {
    const std::uint64_t id = next_id();
    return call(id, encode_request(id, method, wait), deadline, stop);
}

Result<GuestHealth> AgentClient::health(Readiness wait, Deadline deadline, std::stop_token stop) {
    return decode_health(BANGER_TRY(call("Health", wait, deadline, stop)));
}

Result<std::vector<GuestPort>> AgentClient::ports(Deadline deadline, std::stop_token stop) {
    return decode_ports(BANGER_TRY(call("Ports", Readiness::none, deadline, stop)));
}

Result<GuestStats> AgentClient::stats(Deadline deadline, std::stop_token stop) {
    return decode_stats(BANGER_TRY(call("Stats", Readiness::none, deadline, stop)));
}

Result<void> AgentClient::sync(Deadline deadline, std::stop_token stop) {
    BANGER_TRY(call("Sync", Readiness::none, deadline, stop));
    return {};
}

Result<void> AgentClient::shutdown(Deadline deadline, std::stop_token stop) {
    Result<std::string> answer = call("Shutdown", Readiness::none, deadline, stop);
    if (!answer && answer.error().code != Errc::unavailable) return answer.error();
    return {};
}

// ---- sessions ----------------------------------------------------------------------------------

Result<AgentClient::Started> AgentClient::exec(ExecRequest request, Deadline deadline,
                                               std::stop_token stop) {
    const std::uint64_t id = next_id();
    request.stream = first_id_;
    Result<std::string> frame = encode_exec(id, request);
    if (!frame) return frame.error();
    {
        // Before the request goes out: what the command says may come right behind the answer.
        const Lock lock(mutex_);
        if (sessions_.size() >= max_sessions)
            return Error(Errc::busy, "too many commands run through the guest agent at once",
                         "Wait until one has ended.");
        sessions_[id];
    }
    const Result<std::string> answer = call(id, *std::move(frame), deadline, stop);
    const Result<std::uint32_t> window =
        answer ? decode_started(*answer) : Result<std::uint32_t>(answer.error());
    if (window) {
        const Lock lock(mutex_);
        const std::uint32_t left = std::min(*window, exec_window);
        sessions_[id].input_left = left;
        return Started{id, left};
    }
    hang_up(id);
    return window.error();
}

void AgentClient::attach(std::uint64_t id, UniqueFd client) {
    set_nonblocking(client.get());
    const Lock lock(mutex_);
    const Sessions::iterator found = sessions_.find(id);
    if (found == sessions_.end()) return;
    found->second.client = std::move(client);
    found->second.is_attached = true;
    wake();
}

void AgentClient::hang_up(std::uint64_t id) {
    const Lock lock(mutex_);
    const Sessions::iterator found = sessions_.find(id);
    if (found != sessions_.end()) tell_hang_up(id, found->second);
    wake();
}

void AgentClient::tell_hang_up(std::uint64_t id, Session& session) {
    session.client.reset();
    session.to_client.clear();
    session.input.clear();
    session.is_attached = true;
    if (!std::exchange(session.is_hung_up, true) && !session.is_over) say(id, ExecKind::hang_up);
}

void AgentClient::end(Session& session, const Error& why) {
    if (std::exchange(session.is_over, true)) return;
    session.input.clear();
    session.to_client += framed_exec(ExecKind::failed, failure_data(why));
}

void AgentClient::say(std::uint64_t session, ExecKind kind, std::string_view data) {
    if (!broken_) out_ += encode_session_frame(session, kind, data);
}

void AgentClient::break_off(const Error& why, const Error& for_sessions) {
    if (broken_) return;
    broken_ = why;
    out_.clear();
    for (auto& [id, slot] : calls_)
        if (!slot) slot = why;
    for (auto& [id, session] : sessions_)
        end(session, for_sessions);
    changed_.notify_all();
}

void AgentClient::break_off() {
    break_off(gone(), {Errc::unavailable, "the machine went away while the command ran",
                       "See what became of it: banger vm list"});
}

// ---- the thread --------------------------------------------------------------------------------

void AgentClient::run(const std::stop_token& stop) {
    std::vector<pollfd> waits;
    while (!stop.stop_requested()) {
        {
            const Lock lock(mutex_);
            waits.assign({{wake_.get(), POLLIN, 0}, {-1, 0, 0}});
            if (!broken_)
                waits[1] = {stream_.get(),
                            static_cast<short>(POLLIN | (out_.empty() ? 0 : POLLOUT)), 0};
            for (const auto& [id, session] : sessions_)
                if (session.client)
                    waits.push_back(
                        {session.client.get(),
                         static_cast<short>(POLLIN | (session.to_client.empty() ? 0 : POLLOUT)),
                         0});
        }
        if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return;
        eventfd_t ignored = 0;
        eventfd_read(wake_.get(), &ignored);
        const Lock lock(mutex_);
        if (!broken_ && (waits[1].revents & ~POLLOUT) != 0) read_stream();
        for (Sessions::iterator session = sessions_.begin(); session != sessions_.end();)
            pump(session++);
        if (!broken_) write_stream();
    }
}

void AgentClient::read_stream() {
    std::array<char, std::size_t{64} << 10> buffer{};
    const ssize_t count = read(stream_.get(), buffer.data(), buffer.size());
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count < 0 && errno != ECONNRESET) {
        const Error why = Error::from_errno(errno, "reading from the guest agent");
        return break_off(why, why);
    }
    if (count <= 0) return break_off();
    noise_ += static_cast<std::uint64_t>(count);
    reader_.append({buffer.data(), static_cast<std::size_t>(count)});
    while (std::optional<std::string> frame = reader_.next())
        take_frame(*frame);
    if (noise_ <= max_noise) return;
    const Error why(Errc::corrupt, "the guest agent sends bytes that are no answer",
                    "Restart the machine.");
    break_off(why, why);
}

void AgentClient::write_stream() {
    if (!send_some(stream_.get(), out_)) break_off();
}

void AgentClient::take_frame(const std::string& text) {
    if (is_session_frame(text)) {
        const Result<SessionFrame> frame = decode_session_frame(text);
        if (frame) take_session_frame(*frame);
        return;
    }
    Result<AgentReply> reply = decode_reply(text);
    if (!reply) return;
    // A command that was not started has no session, whoever still waits for it.
    if (const Sessions::iterator session = sessions_.find(reply->id);
        reply->error && session != sessions_.end()) {
        session->second.is_over = true;
        noise_ = 0;
    }
    const auto waiting = calls_.find(reply->id);
    if (waiting == calls_.end() || waiting->second) return;
    noise_ = 0;
    if (reply->error)
        waiting->second = Result<std::string>(*std::move(reply->error));
    else
        waiting->second = Result<std::string>(std::move(reply->parameters));
    changed_.notify_all();
}

void AgentClient::take_session_frame(const SessionFrame& said) {
    const Sessions::iterator found = sessions_.find(said.session);
    if (found == sessions_.end()) {
        // A predecessor's: that nobody listens ends it.
        if (said.frame.kind != ExecKind::exit && out_.size() < input_room)
            say(said.session, ExecKind::hang_up);
        return;
    }
    Session& session = found->second;
    const ExecFrame& frame = said.frame;
    noise_ = 0;
    switch (frame.kind) {
        case ExecKind::output:
        case ExecKind::error_output:
            if (session.is_over) return;
            if (frame.data.size() > session.output_left) {
                // It was told how much it may send.
                say(said.session, ExecKind::hang_up);
                return end(session, {Errc::corrupt, "the guest agent sends more than it may",
                                     "Restart the machine."});
            }
            session.output_left -= frame.data.size();
            session.unacknowledged += frame.data.size();
            if (!session.is_hung_up) session.to_client += framed_exec(frame.kind, frame.data);
            return;
        case ExecKind::credit: {
            if (session.is_hung_up || session.is_over) return;
            const std::uint64_t left = session.input_left + credit_of(frame);
            const auto granted = static_cast<std::uint32_t>(
                std::min<std::uint64_t>(left, exec_window) -
                std::min<std::uint64_t>(session.input_left, exec_window));
            session.input_left += granted;
            if (granted > 0)
                session.to_client += framed_exec(ExecKind::credit, credit_data(granted));
            return;
        }
        case ExecKind::exit:
            if (!std::exchange(session.is_over, true))
                session.to_client += framed_exec(ExecKind::exit, frame.data);
            return;
        default:
            return;
    }
}

void AgentClient::pump(Sessions::iterator found) {
    auto& [id, session] = *found;
    if (session.client) read_client(id, session);
    while (!session.input.empty() && out_.size() < input_room) {
        say(id, ExecKind::input, std::string_view(session.input).substr(0, max_exec_data));
        session.input.erase(0, max_exec_data);
    }
    if (session.input.empty() && session.has_input_ended) {
        session.has_input_ended = false;
        say(id, ExecKind::input_end);
    }
    if (session.client) write_client(id, session);
    // What the client has not read yet is not the guest's to replace.
    const std::uint64_t passed_on =
        session.unacknowledged -
        std::min<std::uint64_t>(session.unacknowledged, session.to_client.size());
    if (passed_on >= exec_window / 4 && session.is_attached && !session.is_over) {
        session.unacknowledged -= passed_on;
        session.output_left += passed_on;
        say(id, ExecKind::credit, credit_data(static_cast<std::uint32_t>(passed_on)));
    }
    const bool is_told = session.is_attached && (!session.client || session.to_client.empty());
    if (session.is_over && is_told && calls_.find(id) == calls_.end()) sessions_.erase(found);
}

void AgentClient::read_client(std::uint64_t id, Session& session) {
    std::array<char, std::size_t{32} << 10> buffer;  // NOLINT: filled by read
    const ssize_t count = read(session.client.get(), buffer.data(), buffer.size());
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) return tell_hang_up(id, session);
    session.reader.append({buffer.data(), static_cast<std::size_t>(count)});
    while (true) {
        const Result<std::optional<ExecFrame>> frame = session.reader.next();
        if (!frame) return tell_hang_up(id, session);
        if (!*frame) return;
        take_client_frame(id, session, **frame);
    }
}

void AgentClient::take_client_frame(std::uint64_t id, Session& session, const ExecFrame& frame) {
    if (session.is_over || session.is_hung_up) return;
    switch (frame.kind) {
        case ExecKind::input:
            if (frame.data.size() > session.input_left) return tell_hang_up(id, session);
            session.input_left -= frame.data.size();
            session.input += frame.data;
            return;
        case ExecKind::input_end:
            session.has_input_ended = true;
            return;
        case ExecKind::signal:
        case ExecKind::window:
            if (out_.size() < max_unsent) say(id, frame.kind, frame.data);
            return;
        default:
            return tell_hang_up(id, session);
    }
}

void AgentClient::write_client(std::uint64_t id, Session& session) {
    if (!send_some(session.client.get(), session.to_client)) return tell_hang_up(id, session);
    // The end is said: whoever reads it needs nothing more.
    if (session.is_over && session.to_client.empty()) session.client.reset();
}

}  // namespace banger::guest

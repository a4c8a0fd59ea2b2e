#include "core/guest/agent_client.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <thread>

namespace banger::guest {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

/// The agent's end of the stream, in hands that may do anything.
class Guest {
public:
    explicit Guest(int fd) : fd_(fd) {}
    /// The next request; nothing when the host went away.
    std::optional<AgentRequest> request() {
        std::array<char, 4096> buffer{};
        while (true) {
            if (const std::optional<std::string> frame = reader_.next()) {
                if (is_session_frame(*frame)) continue;
                Result<AgentRequest> request = decode_request(*frame);
                EXPECT_TRUE(request) << *frame;
                return std::move(request).value();
            }
            const ssize_t count = read(fd_.get(), buffer.data(), buffer.size());
            if (count <= 0) return std::nullopt;
            reader_.append({buffer.data(), static_cast<std::size_t>(count)});
        }
    }
    void say(std::string_view bytes) {
        while (!bytes.empty()) {
            const ssize_t count = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (count <= 0) return;
            bytes.remove_prefix(static_cast<std::size_t>(count));
        }
    }
    void hang_up() { fd_.reset(); }
    /// The next frame that is of a session.
    SessionFrame session_frame() {
        std::array<char, 4096> buffer{};
        while (true) {
            if (const std::optional<std::string> frame = reader_.next()) {
                if (is_session_frame(*frame)) return decode_session_frame(*frame).value();
                continue;
            }
            const ssize_t count = read(fd_.get(), buffer.data(), buffer.size());
            if (count <= 0) return {};
            reader_.append({buffer.data(), static_cast<std::size_t>(count)});
        }
    }

private:
    UniqueFd fd_;
    FrameReader reader_;
};

class AgentClientTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::array<int, 2> ends{};
        ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        client_.emplace(UniqueFd(ends[0]));
        guest_.emplace(ends[1]);
    }
    void TearDown() override {
        client_.reset();  // ends a guest that still reads
    }
    std::jthread guest_does(std::function<void(Guest&)> what) {
        return std::jthread([this, what = std::move(what)] { what(*guest_); });
    }
    static AgentClient::Deadline soon() { return std::chrono::steady_clock::now() + 50ms; }
    static AgentClient::Deadline late() { return std::chrono::steady_clock::now() + 30s; }

    std::optional<AgentClient> client_;
    std::optional<Guest> guest_;
};

GuestHealth ready_health() {
    GuestHealth health;
    health.booted = health.ready = true;
    health.boot_id = "id";
    return health;
}

GuestStats three_cpus() {
    GuestStats stats;
    stats.cpus = 3;
    return stats;
}

TEST_F(AgentClientTest, AsksAndIsAnswered) {
    const std::jthread guest = guest_does([](Guest& g) {
        const std::optional<AgentRequest> health = g.request();
        EXPECT_EQ(health->method, "Health");
        EXPECT_EQ(health->wait, Readiness::ready);
        g.say(encode_reply(health->id, ready_health()));
        g.say(encode_reply(g.request()->id,
                           std::vector<GuestPort>{{PortProtocol::tcp, "::", 1, "p", 2}}));
        g.say(encode_reply(g.request()->id, three_cpus()));
        g.say(encode_reply(g.request()->id));
        g.say(encode_reply(g.request()->id));
    });
    EXPECT_EQ(*client_->health(Readiness::ready, late(), {}), ready_health());
    EXPECT_EQ(client_->ports(late(), {})->at(0).process, "p");
    EXPECT_EQ(client_->stats(late(), {})->cpus, 3U);
    EXPECT_TRUE(client_->sync(late(), {}));
    EXPECT_TRUE(client_->shutdown(late(), {}));
}

TEST_F(AgentClientTest, SkipsWhatAPredecessorLeft) {
    const std::jthread guest = guest_does([](Guest& g) {
        const std::uint64_t id = g.request()->id;
        g.say(std::string_view("alf an answer\"}}\0\0", 18));
        g.say(encode_reply(id + 1, ready_health()));
        g.say(encode_error(id - 1, {Errc::internal, "not for you"}));
        g.say(std::string(3 * max_frame, 'x') + '\0');
        g.say(encode_reply(id));
    });
    EXPECT_TRUE(client_->sync(late(), {}));
}

TEST_F(AgentClientTest, TwoClientsDoNotShareIds) {
    std::array<int, 2> ends{};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    AgentClient other{UniqueFd(ends[0])};
    Guest other_guest(ends[1]);
    EXPECT_FALSE(client_->sync(soon(), {}));
    EXPECT_FALSE(other.sync(soon(), {}));
    EXPECT_NE(guest_->request()->id, other_guest.request()->id);
}

TEST_F(AgentClientTest, SilenceEndsAtTheDeadlineAndTheClientStaysUsable) {
    const Result<void> silent = client_->sync(soon(), {});
    ASSERT_FALSE(silent);
    EXPECT_EQ(silent.error().code, Errc::timed_out);
    const std::jthread guest = guest_does([](Guest& g) {
        const std::uint64_t late_id = g.request()->id;
        const std::uint64_t id = g.request()->id;
        g.say(encode_error(late_id, {Errc::internal, "late"}));
        g.say(encode_reply(id));
    });
    EXPECT_TRUE(client_->sync(late(), {}));
}

TEST_F(AgentClientTest, HalfAFrameIsSilence) {
    const std::jthread guest = guest_does([](Guest& g) {
        std::string whole = encode_reply(g.request()->id);
        whole.pop_back();
        g.say(whole);
    });
    const Result<void> half = client_->sync(soon(), {});
    ASSERT_FALSE(half);
    EXPECT_EQ(half.error().code, Errc::timed_out);
}

TEST_F(AgentClientTest, AStopEndsTheWait) {
    std::stop_source stop;
    const std::jthread guest = guest_does([&](Guest& g) {
        g.request();
        stop.request_stop();
    });
    const Result<GuestHealth> stopped = client_->health(Readiness::ready, late(), stop.get_token());
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().code, Errc::cancelled);
}

TEST_F(AgentClientTest, AFloodOfNoiseIsGivenUp) {
    const std::jthread guest = guest_does([](Guest& g) {
        g.request();
        for (int chunk = 0; chunk < 64; ++chunk)
            g.say(std::string(max_frame, chunk % 2 ? 'x' : '\0'));
    });
    const Result<void> flooded = client_->sync(late(), {});
    ASSERT_FALSE(flooded);
    EXPECT_EQ(flooded.error().code, Errc::corrupt);
    client_.reset();  // lets the guest's send() fail
}

TEST_F(AgentClientTest, AnAnswerOfTheWrongShapeIsCorrupt) {
    const std::jthread guest = guest_does([](Guest& g) {
        const std::string id = std::to_string(g.request()->id);
        g.say("{\"id\":" + id + ",\"parameters\":{\"booted\":\"yes\"}}" + '\0');
    });
    const Result<GuestHealth> odd = client_->health(Readiness::none, late(), {});
    ASSERT_FALSE(odd);
    EXPECT_EQ(odd.error().code, Errc::corrupt);
}

TEST_F(AgentClientTest, AGuestThatGoesAwayIsUnavailableButFineForAShutdown) {
    const std::jthread guest = guest_does([](Guest& g) {
        g.request();
        g.hang_up();
    });
    EXPECT_TRUE(client_->shutdown(late(), {}));
    const Result<void> gone = client_->sync(late(), {});
    ASSERT_FALSE(gone);
    EXPECT_EQ(gone.error().code, Errc::unavailable);
}

TEST_F(AgentClientTest, AGuestThatDoesNotReadCannotBlockUs) {
    Result<void> last = ok();
    for (int call = 0; call < 20'000 && (last || last.error().code == Errc::timed_out); ++call)
        last = client_->sync(std::chrono::steady_clock::now(), {});
    ASSERT_FALSE(last);
    EXPECT_EQ(last.error().code, Errc::unavailable);
}

// ---- sessions ----

/// A guest that is asked for a command: its request's id.
std::uint64_t start_for(Guest& g, std::uint32_t window = exec_window) {
    const std::uint64_t id = g.request()->id;
    g.say(encode_started(id, window));
    return id;
}

ExecRequest any_command() {
    ExecRequest request;
    request.words = {"any"};
    return request;
}

class SessionTest : public AgentClientTest {
protected:
    /// A started command whose guest is `guest_`, with our end of its client.
    UniqueFd started(std::uint32_t window = exec_window) {
        const std::jthread guest = guest_does([&](Guest& g) { session_ = start_for(g, window); });
        const Result<AgentClient::Started> started = client_->exec(any_command(), late(), {});
        EXPECT_TRUE(started);
        std::array<int, 2> ends{};
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        client_->attach(started->session, UniqueFd(ends[1]));
        return UniqueFd(ends[0]);
    }
    /// The next frame of a client; nothing at its end.
    static std::optional<ExecFrame> next(const UniqueFd& client, ExecFrameReader& reader) {
        while (true) {
            if (std::optional<ExecFrame> frame = reader.next().value()) return frame;
            std::array<char, 4096> buffer{};
            const ssize_t count = read(client.get(), buffer.data(), buffer.size());
            if (count <= 0) return std::nullopt;
            reader.append({buffer.data(), static_cast<std::size_t>(count)});
        }
    }
    static void say(const UniqueFd& client, ExecKind kind, std::string_view data = {}) {
        const std::string bytes = framed_exec(kind, data);
        ASSERT_EQ(send(client.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(bytes.size()));
    }
    std::uint64_t session_ = 0;
};

TEST_F(SessionTest, AGuestThatSendsMoreThanItMayLosesTheSessionAlone) {
    const UniqueFd client = started();
    // The client reads nothing meanwhile: that is no reason to take more.
    for (std::size_t sent = 0; sent <= 4 * exec_window; sent += max_exec_data)
        guest_->say(
            encode_session_frame(session_, ExecKind::output, std::string(max_exec_data, 'x')));
    SessionFrame said;
    while (said.frame.kind != ExecKind::hang_up)
        said = guest_->session_frame();
    const std::jthread guest = guest_does([&](Guest& g) { g.say(encode_reply(g.request()->id)); });
    EXPECT_TRUE(client_->sync(late(), {})) << "others go on";
    ExecFrameReader reader;
    std::size_t bytes = 0;
    std::optional<ExecFrame> last;
    while (const std::optional<ExecFrame> frame = next(client, reader)) {
        last = frame;
        if (frame->kind == ExecKind::output) bytes += frame->data.size();
    }
    ASSERT_TRUE(last);
    EXPECT_EQ(last->kind, ExecKind::failed);
    EXPECT_EQ(failure_of(*last).code, Errc::corrupt);
    EXPECT_LE(bytes, std::size_t{2} * exec_window);
}

TEST_F(SessionTest, AClientThatSendsMoreThanItMayIsHungUp) {
    const UniqueFd client = started(100);
    say(client, ExecKind::input, std::string(100, 'x'));
    say(client, ExecKind::input, "y");
    SessionFrame said;
    while (said.frame.kind != ExecKind::hang_up) {
        said = guest_->session_frame();
        EXPECT_NE(said.frame.data, "y");
    }
    ExecFrameReader reader;
    EXPECT_FALSE(next(client, reader));
}

TEST_F(SessionTest, CreditIsHandedOnAndBounded) {
    const UniqueFd client = started(100);
    ExecFrameReader reader;
    guest_->say(encode_session_frame(session_, ExecKind::credit, credit_data(50)));
    EXPECT_EQ(credit_of(*next(client, reader)), 50U);
    guest_->say(encode_session_frame(session_, ExecKind::credit, credit_data(0xffffffff)));
    EXPECT_EQ(credit_of(*next(client, reader)), exec_window - 150);
    guest_->say(encode_session_frame(session_, ExecKind::credit, credit_data(1)));
    guest_->say(encode_session_frame(session_, ExecKind::exit, "\x07"));
    EXPECT_EQ(*next(client, reader), (ExecFrame{ExecKind::exit, "\x07"}));
    EXPECT_FALSE(next(client, reader)) << "nothing follows an exit";
}

TEST_F(SessionTest, ASessionOfAPredecessorIsHungUp) {
    guest_->say(encode_session_frame(12345, ExecKind::output, "who is there?"));
    const SessionFrame said = guest_->session_frame();
    EXPECT_EQ(said, (SessionFrame{12345, {ExecKind::hang_up, ""}}));
}

TEST_F(SessionTest, NonsenseFromAGuestEndsNothingAndCostsNothing) {
    const UniqueFd client = started();
    for (const ExecKind kind : {ExecKind::input, ExecKind::hang_up, ExecKind::failed})
        guest_->say(encode_session_frame(session_, kind));
    guest_->say(std::string("\1\1\1\0\1\xff\0\1\0", 9));
    guest_->say(encode_session_frame(session_, ExecKind::exit, "\x01"));
    guest_->say(encode_session_frame(session_, ExecKind::exit, "\x02"));
    guest_->say(encode_session_frame(session_, ExecKind::output, "after the end"));
    ExecFrameReader reader;
    EXPECT_EQ(*next(client, reader), (ExecFrame{ExecKind::exit, "\x01"}));
    EXPECT_FALSE(next(client, reader));
}

TEST_F(SessionTest, ARefusedCommandLeavesNothing) {
    for (std::size_t time = 0; time < 2 * max_sessions; ++time) {
        const std::jthread guest = guest_does([](Guest& g) {
            g.say(encode_error(g.request()->id, {Errc::not_found, "no such user"}));
        });
        ASSERT_EQ(client_->exec(any_command(), late(), {}).error().code, Errc::not_found);
    }
}

TEST_F(SessionTest, AMachineThatGoesIsToldToEveryClient) {
    const UniqueFd client = started();
    guest_->hang_up();
    ExecFrameReader reader;
    const std::optional<ExecFrame> last = next(client, reader);
    ASSERT_TRUE(last);
    EXPECT_EQ(failure_of(*last).code, Errc::unavailable);
    EXPECT_THAT(failure_of(*last).message, HasSubstr("machine went away"));
    EXPECT_TRUE(client_->is_broken());
}

TEST_F(SessionTest, ADaemonThatLeavesSaysSo) {
    const UniqueFd client = started();
    client_.reset();
    ExecFrameReader reader;
    EXPECT_THAT(failure_of(*next(client, reader)).message, HasSubstr("bangerd"));
}

}  // namespace
}  // namespace banger::guest

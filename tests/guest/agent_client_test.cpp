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

}  // namespace
}  // namespace banger::guest

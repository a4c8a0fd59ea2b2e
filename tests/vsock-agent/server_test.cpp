#include "daemons/vsock-agent/server.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/guest/agent_client.hpp"
#include "daemons/vsock-agent/boot_state.hpp"

namespace banger::agent {
namespace {

using namespace std::chrono_literals;
using guest::AgentClient;
using guest::GuestHealth;
using guest::Readiness;

/// Stands in for powering this machine off.
void note_shutdown(const BootState& state) { const_cast<BootState&>(state).set_has_sshd(); }

/// The real server in a process of its own, as init leaves it behind, on one stream.
class Server : public ::testing::Test {
protected:
    void SetUp() override {
        state_ = BootState::make();
        ASSERT_NE(state_, nullptr);
        std::array<int, 2> ends{};
        ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        host_end_ = UniqueFd(ends[0]);
        UniqueFd guest_end(ends[1]);
        pid_ = fork();
        ASSERT_GE(pid_, 0);
        if (pid_ == 0) {
            host_end_.reset();
            AgentServer({{}, std::move(guest_end)}, *state_, note_shutdown).run();
            _exit(1);
        }
    }
    void TearDown() override {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    AgentClient client() { return AgentClient(host_end_.duplicate()); }
    static AgentClient::Deadline late() { return std::chrono::steady_clock::now() + 30s; }
    static AgentClient::Deadline now() { return std::chrono::steady_clock::now(); }

    BootState* state_ = nullptr;
    UniqueFd host_end_;
    pid_t pid_ = -1;
};

TEST_F(Server, SaysHowFarTheMachineIs) {
    state_->expect(BootState::root_mounted);
    state_->expect(BootState::network_up);
    state_->reach(BootState::root_mounted);
    state_->set_trouble(BootState::network_up, "no such interface");
    const Result<GuestHealth> health = client().health(Readiness::none, late(), {});
    ASSERT_TRUE(health);
    EXPECT_FALSE(health->booted);
    EXPECT_EQ(health->agent_version, "test");
    EXPECT_EQ(health->boot_id.size(), 36U);
    EXPECT_THAT(health->probes,
                ::testing::ElementsAre(guest::Probe{"root-mounted", true, ""},
                                       guest::Probe{"network", false, "no such interface"}));
}

TEST_F(Server, AnswersAWaitWhenTheMomentComes) {
    state_->expect(BootState::handed_over);
    AgentClient host = client();
    EXPECT_FALSE(host.health(Readiness::ready, now() + 20ms, {})) << "too early";
    state_->reach(BootState::handed_over);
    const Result<GuestHealth> health = host.health(Readiness::ready, late(), {});
    ASSERT_TRUE(health);
    EXPECT_TRUE(health->ready);
}

TEST_F(Server, AFailureAnswersEveryWait) {
    state_->expect(BootState::root_mounted);
    state_->fail("no disk has the serial \"root\"");
    AgentClient host = client();
    const Result<GuestHealth> health = host.health(Readiness::ready, late(), {});
    ASSERT_TRUE(health);
    EXPECT_FALSE(health->booted);
    EXPECT_TRUE(host.health(Readiness::ready, late(), {})) << "the round after the first answer";
    EXPECT_EQ(health->failure, "no disk has the serial \"root\"");
    EXPECT_TRUE(state_->is_failure_told());
}

TEST_F(Server, TellsPortsAndStatistics) {
    AgentClient host = client();
    EXPECT_TRUE(host.ports(late(), {}));
    const Result<guest::GuestStats> stats = host.stats(late(), {});
    ASSERT_TRUE(stats);
    EXPECT_GT(stats->cpus, 0U);
    EXPECT_TRUE(host.sync(late(), {}));
}

TEST_F(Server, RubbishAndHalfFramesDoNotDisturbTheNextHost) {
    const std::string rubbish = std::string("\xff\0{\"id\":1}\0{}\0[[[[[[[[[[[[[[[[\0", 30) +
                                std::string(200'000, 'x') + R"(,"method":"Shutdown")";
    ASSERT_EQ(send(host_end_.get(), rubbish.data(), rubbish.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(rubbish.size()));
    EXPECT_TRUE(client().sync(late(), {}));
    EXPECT_TRUE(client().sync(late(), {}));
    EXPECT_FALSE(state_->has_sshd()) << "was shut down";
}

TEST_F(Server, UnknownMethodsAndTooManyWaitsAreRefused) {
    state_->expect(BootState::root_mounted);
    std::string requests(1, '\0');
    requests += guest::encode_request(1, "Format");
    for (std::uint64_t id = 2; id < 40; ++id)
        requests += guest::encode_request(id, "Health", Readiness::ready);
    ASSERT_EQ(send(host_end_.get(), requests.data(), requests.size(), 0),
              static_cast<ssize_t>(requests.size()));
    guest::FrameReader reader;
    std::vector<guest::AgentReply> replies;
    while (replies.size() < 1 + 38 - 16) {
        std::array<char, 4096> buffer{};
        const ssize_t count = read(host_end_.get(), buffer.data(), buffer.size());
        ASSERT_GT(count, 0);
        reader.append({buffer.data(), static_cast<std::size_t>(count)});
        while (const std::optional<std::string> frame = reader.next())
            replies.push_back(guest::decode_reply(*frame).value());
    }
    EXPECT_EQ(replies[0].error->code, Errc::unsupported);
    EXPECT_EQ(replies[1].error->code, Errc::busy);
}

TEST_F(Server, AnswersAShutdownBeforeItHappens) {
    EXPECT_TRUE(client().shutdown(late(), {}));
    // The stand-in marks the state, which a wait then shows.
    AgentClient host = client();
    Result<GuestHealth> health = host.health(Readiness::none, late(), {});
    ASSERT_TRUE(health);
    EXPECT_TRUE(state_->has_sshd());
}

}  // namespace
}  // namespace banger::agent

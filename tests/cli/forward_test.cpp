#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <csignal>

#include "cli_fixture.hpp"

namespace banger::cli {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

class ForwardTest : public CliTest {
protected:
    void SetUp() override { daemon().add(sample_vm("sandbox")); }

    /// One that nobody has; taken as long as the socket is open.
    static std::uint16_t take_port(UniqueFd& socket) {
        socket.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address;
        auto* const generic = reinterpret_cast<sockaddr*>(&address);
        EXPECT_EQ(::bind(socket.get(), generic, sizeof address), 0);
        EXPECT_EQ(::listen(socket.get(), 1), 0);
        EXPECT_EQ(::getsockname(socket.get(), generic, &length), 0);
        return ntohs(address.sin_port);
    }
};

TEST_F(ForwardTest, StaysUntilItIsInterrupted) {
    UniqueFd socket;
    const std::string port = std::to_string(take_port(socket));
    socket.reset();
    set_ssh_mode("hang");
    Running forward = start({"vm", "forward", "sandbox", port + ":3000"});
    wait_for_ssh();
    forward.signal(SIGINT);
    const Outcome outcome = forward.wait();
    EXPECT_EQ(outcome.status, 130);
    EXPECT_EQ(outcome.out, "127.0.0.1:" + port + " -> sandbox:3000\n");
    EXPECT_EQ(outcome.err, "Until Ctrl-C.\n");
    const std::vector<std::string> words = ssh_words();
    EXPECT_THAT(words, Contains("-N"));
    EXPECT_THAT(words, Contains("127.0.0.1:" + port + ":localhost:3000"));
    EXPECT_THAT(words, Contains("ExitOnForwardFailure=yes"));
    EXPECT_THAT(words, Not(Contains(HasSubstr("ControlMaster"))))
        << "a kept connection would keep the port";
    EXPECT_EQ(words.back(), "127.0.0.1") << "no command";
}

TEST_F(ForwardTest, APortThatIsTakenIsSaidWithTheWayOut) {
    UniqueFd socket;
    const std::string port = std::to_string(take_port(socket));
    const Outcome outcome = run({"vm", "forward", "sandbox", port});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr("port " + port + " of this host is taken"));
    EXPECT_THAT(outcome.err, HasSubstr(":" + port + "\n")) << "the guest's stays as asked for";
}

TEST_F(ForwardTest, AConnectionThatEndsIsAFailure) {
    UniqueFd socket;
    const std::string port = std::to_string(take_port(socket));
    socket.reset();
    set_ssh_mode("lost");
    const Outcome outcome = run({"vm", "forward", "sandbox", port, "-q"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.out, "127.0.0.1:" + port + " -> sandbox:" + port + "\n");
    EXPECT_THAT(outcome.err, HasSubstr("the connection to sandbox has ended: client_loop"));
}

TEST_F(ForwardTest, WhatIsNoPortIsWrongUsage) {
    for (const char* word : {"", "0", "x", "65536", "80:", ":80", "1:2:3", "-1", "80 "}) {
        const Outcome outcome = run({"vm", "forward", "sandbox", word});
        EXPECT_EQ(outcome.status, 2) << word;
    }
    EXPECT_EQ(run({"vm", "forward", "sandbox"}).status, 2);
    EXPECT_THAT(run({"vm", "forward", "sandbox", "80", "80:81"}).err,
                HasSubstr("port 80 of this host is given twice"));
    EXPECT_EQ(run({"vm", "forward", "nobody", "80"}).status, 1);
}

}  // namespace
}  // namespace banger::cli

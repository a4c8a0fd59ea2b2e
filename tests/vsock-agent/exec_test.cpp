#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "core/guest/agent_client.hpp"
#include "daemons/vsock-agent/boot_state.hpp"
#include "daemons/vsock-agent/server.hpp"

namespace banger::agent {
namespace {

using namespace std::chrono_literals;
using guest::AgentClient;
using guest::ExecRequest;

/// What a command said, and how it ended.
struct End {
    std::string output;
    std::string errors;
    std::optional<int> status;
    std::optional<Error> failure;
};

/// A client of a session, as banger is one: sends within its credit, reads everything.
class Client {
public:
    Client(AgentClient& agent, const AgentClient::Started& started) : left_(started.window) {
        std::array<int, 2> ends{};
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        fd_ = UniqueFd(ends[0]);
        agent.attach(started.session, UniqueFd(ends[1]));
    }
    void say(ExecKind kind, std::string_view data = {}) {
        const std::string bytes = framed_exec(kind, data);
        const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        // A session that is over already takes nothing more.
        EXPECT_TRUE(sent == static_cast<ssize_t>(bytes.size()) || errno == EPIPE);
    }
    /// Sends `input` and its end, reads until the session is over.
    End finish(std::string_view input = {}, bool ends_input = true) {
        bool is_said = !ends_input;
        End end;
        while (true) {
            while (!input.empty() && left_ > 0) {
                const std::string_view part =
                    input.substr(0, std::min<std::size_t>(left_, max_exec_data));
                say(ExecKind::input, part);
                left_ -= part.size();
                input.remove_prefix(part.size());
            }
            if (input.empty() && !std::exchange(is_said, true)) say(ExecKind::input_end);
            if (!read_one(end)) return end;
        }
    }
    /// Reads until `seen` is in the output.
    void wait_for(std::string_view seen) {
        while (so_far_.output.find(seen) == std::string::npos)
            ASSERT_TRUE(read_one(so_far_)) << so_far_.output;
    }
    void close() { fd_.reset(); }

private:
    bool read_one(End& end) {
        while (true) {
            const std::optional<ExecFrame> frame = reader_.next().value();
            if (frame) {
                if (frame->kind == ExecKind::output) end.output += frame->data;
                if (frame->kind == ExecKind::error_output) end.errors += frame->data;
                if (frame->kind == ExecKind::credit) left_ += credit_of(*frame);
                if (frame->kind == ExecKind::exit)
                    end.status = static_cast<unsigned char>(frame->data[0]);
                if (frame->kind == ExecKind::failed) end.failure = failure_of(*frame);
                return true;
            }
            std::array<char, 65536> buffer{};
            const ssize_t count = read(fd_.get(), buffer.data(), buffer.size());
            if (count <= 0) return false;
            reader_.append({buffer.data(), static_cast<std::size_t>(count)});
        }
    }
    UniqueFd fd_;
    ExecFrameReader reader_;
    std::size_t left_;
    End so_far_;
};

/// The real server in a process of its own; commands run in this machine.
class Exec : public ::testing::Test {
protected:
    void SetUp() override {
        state_ = BootState::make();
        ASSERT_NE(state_, nullptr);
        std::array<int, 2> ends{};
        ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        UniqueFd host_end(ends[0]);
        UniqueFd guest_end(ends[1]);
        pid_ = fork();
        ASSERT_GE(pid_, 0);
        if (pid_ == 0) {
            host_end.reset();
            AgentServer(
                {{}, std::move(guest_end)}, *state_, [](const BootState&) {}, "/")
                .run();
            _exit(1);
        }
        state_->reach(BootState::handed_over);
        agent_.emplace(std::move(host_end));
    }
    void TearDown() override {
        agent_.reset();
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    static AgentClient::Deadline late() { return std::chrono::steady_clock::now() + 60s; }
    static ExecRequest request(std::vector<std::string> words) {
        ExecRequest request;
        request.words = std::move(words);
        request.user = std::to_string(geteuid()) + ":" + std::to_string(getegid());
        request.folder = "/";
        return request;
    }
    static ExecRequest script(const std::string& text) { return request({"sh", "-c", text}); }
    Client start(const ExecRequest& request) {
        const Result<AgentClient::Started> started = agent_->exec(request, late(), {});
        EXPECT_TRUE(started) << (started ? "" : started.error().text());
        return Client(*agent_, started.value_or({}));
    }
    End run(const ExecRequest& request, std::string_view input = {}) {
        return start(request).finish(input);
    }

    BootState* state_ = nullptr;
    pid_t pid_ = -1;
    std::optional<AgentClient> agent_;
};

TEST_F(Exec, StreamsAndStatusComeThroughApart) {
    const End end = run(script("cat; echo err >&2; exit 42"), "in\n");
    EXPECT_EQ(end.output, "in\n");
    EXPECT_EQ(end.errors, "err\n");
    EXPECT_EQ(end.status, 42);
}

TEST_F(Exec, MegabytesOfAnyBytesComeBackWhole) {
    std::string bytes(5 << 20, '\0');
    std::uint32_t state = 1;
    for (char& c : bytes)
        c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    const End end = run(request({"cat"}), bytes);
    EXPECT_TRUE(end.output == bytes) << end.output.size();
    EXPECT_EQ(end.status, 0);
}

TEST_F(Exec, FailuresAreThoseOfAShell) {
    End end = run(request({"no-such-command-at-all"}));
    EXPECT_EQ(end.status, 127);
    EXPECT_THAT(end.errors, ::testing::HasSubstr("no-such-command-at-all"));
    EXPECT_EQ(run(request({"/etc"})).status, 126);
    EXPECT_EQ(run(script("kill -9 $$")).status, 137);
    EXPECT_EQ(run(script("kill -SEGV $$")).status, 139);
    ExecRequest nowhere = request({"true"});
    nowhere.folder = "/no/such/folder";
    end = run(nowhere);
    EXPECT_EQ(end.status, 125);
    EXPECT_THAT(end.errors, ::testing::HasSubstr("/no/such/folder"));
    ExecRequest nobody = request({"true"});
    nobody.user = "no-such-user-at-all";
    EXPECT_EQ(agent_->exec(nobody, late(), {}).error().code, Errc::not_found);
}

TEST_F(Exec, EnvironmentAndFolderAreThoseAskedFor) {
    ExecRequest wanted = script("echo $A,$B,$HOME; pwd; env | grep -c ^B=");
    wanted.environment = {"A=first", "B=1", "HOME=/tmp", "B=two words"};
    wanted.folder = "/usr";
    EXPECT_EQ(run(wanted).output, "first,two words,/tmp\n/usr\n1\n");
    EXPECT_THAT(run(request({"env"})).output, ::testing::HasSubstr("PATH=/usr/local/sbin:"));
}

TEST_F(Exec, SignalsGoToTheWholeGroupAndArriveUnblocked) {
    Client client = start(script("trap 'echo got; exit 3' INT; echo up; sleep 60 & wait"));
    client.wait_for("up\n");
    client.say(ExecKind::signal, "\x02");
    const End end = client.finish({}, false);
    EXPECT_EQ(end.output, "got\n");
    EXPECT_EQ(end.status, 3);
}

TEST_F(Exec, ATerminalHasItsSizeAndSeesItChange) {
    ExecRequest wanted = script(
        "test -t 0 -a -t 1 -a -t 2 && stty size; trap 'stty size; exit 0' WINCH; echo ready;"
        " while :; do sleep 0.05; done");
    wanted.terminal = TerminalSize{33, 111};
    Client client = start(wanted);
    client.wait_for("ready");
    client.say(ExecKind::window, window_data({44, 99}));
    const End end = client.finish({}, false);
    EXPECT_THAT(end.output, ::testing::HasSubstr("44 99"));
    EXPECT_EQ(end.status, 0);
}

TEST_F(Exec, CtrlCIsTheTerminalsAndItsLastWordsArrive) {
    // No program after the "up": while dash starts one (by vfork) it forgets an interrupt.
    ExecRequest wanted = request({"sh", "-c", "echo up; read line; echo never"});
    wanted.terminal = TerminalSize{};
    Client client = start(wanted);
    client.wait_for("up");
    client.say(ExecKind::input, "\x03");
    EXPECT_EQ(client.finish({}, false).status, 130);

    wanted.words = {"sh", "-c", "seq 20000"};
    const End end = start(wanted).finish({}, false);
    EXPECT_TRUE(end.output.ends_with("20000\r\n")) << end.output.size();
}

TEST_F(Exec, WhoDoesNotReadStopsNobodyElse) {
    Client stuck = start(request({"yes"}));
    Client full = start(request({"sleep", "60"}));
    full.say(ExecKind::input, std::string(max_exec_data, 'x'));
    for (int time = 0; time < 20; ++time)
        EXPECT_EQ(run(script("cat"), "hello").output, "hello");
    EXPECT_TRUE(agent_->stats(late(), {}));
    stuck.close();
    full.close();
}

TEST_F(Exec, AClientThatGoesEndsItsCommand) {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe(ends.data()), 0);
    const std::string place =
        "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(ends[1]);
    Client client = start(script("exec 9>" + place + "; trap '' HUP; echo up; sleep 600"));
    const UniqueFd held(ends[0]);
    client.wait_for("up\n");
    close(ends[1]);
    client.close();
    // Readable at its end: nobody holds the other one any more, though HUP was ignored.
    pollfd gone{held.get(), POLLIN, 0};
    EXPECT_EQ(poll(&gone, 1, 60'000), 1);
    EXPECT_EQ(run(script("echo fine")).output, "fine\n");
}

TEST_F(Exec, WhatStaysBehindDoesNotHoldTheSession) {
    const End end = run(script("sleep 600 & echo started"));
    EXPECT_EQ(end.output, "started\n");
    EXPECT_EQ(end.status, 0);
}

TEST_F(Exec, OnlySoManyAtOnceAndAPlaceComesFree) {
    std::vector<Client> clients;
    for (std::size_t i = 0; i < guest::max_sessions; ++i)
        clients.push_back(start(request({"sleep", "600"})));
    EXPECT_EQ(agent_->exec(request({"true"}), late(), {}).error().code, Errc::busy);
    clients.front().close();
    Result<AgentClient::Started> again = agent_->exec(request({"true"}), late(), {});
    while (!again && again.error().code == Errc::busy)
        again = agent_->exec(request({"true"}), late(), {});
    EXPECT_TRUE(again);
}

TEST_F(Exec, NothingStartsBeforeTheHandOver) {
    // A second server, of a machine that still boots.
    BootState* const booting = BootState::make();
    std::array<int, 2> ends{};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    UniqueFd host_end(ends[0]);
    UniqueFd guest_end(ends[1]);
    const pid_t pid = fork();
    if (pid == 0) {
        host_end.reset();
        AgentServer(
            {{}, std::move(guest_end)}, *booting, [](const BootState&) {}, "/")
            .run();
        _exit(1);
    }
    guest_end.reset();
    AgentClient agent(std::move(host_end));
    EXPECT_EQ(agent.exec(request({"true"}), late(), {}).error().code, Errc::wrong_state);
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
}

TEST_F(Exec, AnAgentThatDiesIsToldToTheClient) {
    Client client = start(request({"sleep", "600"}));
    kill(pid_, SIGKILL);
    const End end = client.finish({}, false);
    ASSERT_TRUE(end.failure);
    EXPECT_EQ(end.failure->code, Errc::unavailable);
    EXPECT_FALSE(end.status);
    EXPECT_TRUE(agent_->is_broken());
}

}  // namespace
}  // namespace banger::agent

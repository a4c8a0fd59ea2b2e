#include <gmock/gmock.h>

#include <csignal>

#include "cli_fixture.hpp"
#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "tests/support/terminal_run.hpp"

namespace banger::cli {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::Optional;

/// Machines without sshd: every session goes through bangerd and the real agent.
class AgentRunTest : public CliTest {
protected:
    void SetUp() override {
        set_ssh_mode("never");  // whoever asks it all the same fails
        daemon().take_sshd_away();
    }
};

TEST_F(AgentRunTest, RunGivesOutputAndStatusAndRmDeletes) {
    const Outcome outcome =
        run({"vm", "run", "--rm", "--", "sh", "-c", "echo out; echo err >&2; exit 42"});
    EXPECT_EQ(outcome.status, 42) << outcome.err;
    EXPECT_EQ(outcome.out, "out\n");
    EXPECT_THAT(outcome.err, HasSubstr("err\n"));
    EXPECT_THAT(daemon().names(), IsEmpty());
    EXPECT_TRUE(daemon().last_exec().is_run);
    EXPECT_FALSE(daemon().last_exec().terminal);
}

TEST_F(AgentRunTest, StatusesAreThoseOfAShell) {
    daemon().add(sample_vm("sandbox"));
    const auto status_of = [&](std::vector<std::string> command) {
        const std::vector<std::string> ssh = {"vm", "ssh", "sandbox", "--"};
        command.insert(command.begin(), ssh.begin(), ssh.end());
        return run(command).status;
    };
    EXPECT_EQ(status_of({"true"}), 0);
    EXPECT_EQ(status_of({"sh", "-c", "exit 255"}), 255);
    EXPECT_EQ(status_of({"/no/such/program"}), 127);
    EXPECT_EQ(status_of({"/etc/passwd"}), 126);
    EXPECT_EQ(status_of({"sh", "-c", "kill -9 $$"}), 137);
    EXPECT_EQ(run({"vm", "exec", "sandbox", "--", "sh", "-c", "exit 3"}).status, 3);
}

TEST_F(AgentRunTest, EveryWordAndByteArrives) {
    daemon().add(sample_vm("sandbox"));
    const std::vector<std::string> hostile = {"",     "two words", "it's", "$HOME", "*",
                                              "`id`", "--",        "\x01", "a\nb",  "ü"};
    std::vector<std::string> words = {"vm", "ssh", "sandbox", "--", "printf", "<%s>"};
    words.insert(words.end(), hostile.begin(), hostile.end());
    std::string expected;
    for (const std::string& word : hostile)
        expected += "<" + word + ">";
    EXPECT_EQ(run(words).out, expected);
    EXPECT_EQ(run({"vm", "ssh", "sandbox"}, "echo from a shell\nexit 3\n").status, 3);

    std::string bytes(3 << 20, '\0');
    std::uint32_t state = 1;
    for (char& c : bytes)
        c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    const Outcome copied = run({"vm", "ssh", "sandbox", "--", "cat"}, bytes);
    EXPECT_EQ(copied.status, 0) << copied.err;
    EXPECT_TRUE(copied.out == bytes) << copied.out.size();
}

TEST_F(AgentRunTest, InputThatNobodyTakesStaysHere) {
    daemon().add(sample_vm("sandbox"));
    const Outcome outcome =
        run({"vm", "ssh", "sandbox", "--", "head", "-c", "5"}, std::string(8 << 20, 'x'));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "xxxxx");
}

TEST_F(AgentRunTest, FlagsReachTheDaemon) {
    daemon();
    ASSERT_EQ(run({"vm", "run", "--name", "sandbox", "--user", "web:web", "--entrypoint", "", "--",
                   "true"})
                  .status,
              0);
    EXPECT_THAT(daemon().last_exec().user, Optional(std::string("web:web")));
    EXPECT_THAT(daemon().last_exec().entrypoint, Optional(IsEmpty()));
    ASSERT_EQ(run({"vm", "exec", "sandbox", "--", "true"}).status, 0);
    EXPECT_FALSE(daemon().last_exec().is_run);
    EXPECT_FALSE(daemon().last_exec().user);
    EXPECT_FALSE(daemon().last_exec().folder);
}

TEST_F(AgentRunTest, AnImageWithoutAShellIsAClearError) {
    daemon().take_sshd_away(false);
    const Outcome outcome = run({"vm", "run", "--name", "bare"});
    EXPECT_EQ(outcome.status, 125);
    EXPECT_THAT(outcome.err, HasSubstr("the image has no shell"));
    EXPECT_THAT(outcome.err, HasSubstr("Say what to run."));
}

TEST_F(AgentRunTest, ASignalReachesTheCommandAndRmStillDeletes) {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        Running command =
            start({"vm", "run", "--rm", "--name", "n" + std::to_string(signal), "--", "sh", "-c",
                   "echo up >" + folder_ / "ssh.up" + "; exec sleep 600"});
        wait_for_ssh();
        command.signal(signal);
        EXPECT_EQ(command.wait().status, 128 + signal);
        EXPECT_THAT(daemon().names(), IsEmpty());
    }
}

TEST_F(AgentRunTest, AGuestThatDiesIsSaid) {
    daemon().add(sample_vm("sandbox"));
    Running command = start({"vm", "ssh", "sandbox", "--", "sh", "-c",
                             "echo up >" + folder_ / "ssh.up" + "; exec sleep 600"});
    wait_for_ssh();
    daemon().kill_guest();
    const Outcome outcome = command.wait();
    EXPECT_EQ(outcome.status, 125);
    EXPECT_THAT(outcome.err, HasSubstr("the machine went away while the command ran"));
}

TEST_F(AgentRunTest, ATerminalIsRawMeanwhileAndSeesItsSizeChange) {
    daemon().add(sample_vm("sandbox"));
    environment_["TERM"] = "xterm-256color";
    TerminalRun session(program_, {"vm", "ssh", "sandbox"}, environment_);
    session.type("test -t 0 && stty size; echo term=$TERM\n");
    session.wait_for("40 120");
    session.wait_for("term=xterm-256color");
    EXPECT_TRUE(session.is_raw());
    session.resize(50, 99);
    session.type("stty size\n");
    session.wait_for("50 99");
    // No program: while dash starts one (by vfork) it forgets an interrupt. And nothing more before
    // it has taken this one: it throws away what it has read by then.
    session.type("PS1='ready> '; echo reading-$((1+2)); read line\n");
    session.wait_for("reading-3");
    session.type("\x03");
    session.wait_for("^C");
    session.wait_for("ready> ");
    session.type("echo after-$((1+1))\n");
    session.wait_for("after-2");
    session.type("exit 7\n");
    EXPECT_EQ(session.wait(), 7);
    EXPECT_FALSE(session.is_raw());
}

TEST_F(AgentRunTest, TheTerminalIsPutBackOnEveryWayOut) {
    daemon().add(sample_vm("sandbox"));
    {
        TerminalRun session(program_, {"vm", "ssh", "sandbox"}, environment_);
        session.type("echo up-$((1+1))\n");
        session.wait_for("up-2");
        session.signal(SIGTERM);
        EXPECT_EQ(session.wait(), 128 + SIGTERM);
        EXPECT_FALSE(session.is_raw());
    }
    TerminalRun session(program_, {"vm", "ssh", "sandbox"}, environment_);
    session.type("echo up-$((1+1))\n");
    session.wait_for("up-2");
    daemon().kill_guest();
    session.wait_for("the machine went away");
    EXPECT_EQ(session.wait(), 125);
    EXPECT_FALSE(session.is_raw());
}

}  // namespace
}  // namespace banger::cli

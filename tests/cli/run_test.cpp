#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>

#include "cli_fixture.hpp"
#include "core/base/file.hpp"

namespace banger::cli {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class RunTest : public CliTest {};

TEST_F(RunTest, GivesTheCommandsOutputAndNothingElseOnStandardOutput) {
    daemon();
    const Outcome outcome = run({"vm", "run", "--name", "sandbox", "--", "echo", "hello"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "hello\n");
    EXPECT_THAT(outcome.err, testing::StartsWith(
                                 "spec: 2 vCPU (default), 2 GiB RAM (host), 8 GiB disk (default)\n"
                                 "note: no KVM here: the machine is emulated, which is slower\n"
                                 "making disks\n"));
    EXPECT_THAT(outcome.err, EndsWith("sandbox is still running. Back into it: banger vm ssh "
                                      "sandbox; remove it: banger vm delete sandbox\n"));
    EXPECT_THAT(daemon().names(), ElementsAre("sandbox"));
}

TEST_F(RunTest, PassesExitStatusesOn) {
    daemon().add(sample_vm("sandbox"));
    const std::vector<std::string> ssh = {"vm", "ssh", "sandbox", "--"};
    const auto status_of = [&](std::vector<std::string> command) {
        command.insert(command.begin(), ssh.begin(), ssh.end());
        return run(command).status;
    };
    EXPECT_EQ(status_of({"true"}), 0);
    EXPECT_EQ(status_of({"sh", "-c", "exit 42"}), 42);
    EXPECT_EQ(status_of({"sh", "-c", "exit 125"}), 125);
    EXPECT_EQ(status_of({"sh", "-c", "exit 255"}), 255);
    EXPECT_EQ(status_of({"/no/such/program"}), 127);
    EXPECT_EQ(status_of({"/etc/passwd"}), 126);
}

TEST_F(RunTest, EveryWordArrivesAsItWasWritten) {
    daemon().add(sample_vm("sandbox"));
    const std::vector<std::string> hostile = {
        "",   "two words", "it's", "\"$HOME\"", "*",   "a;b", "`id`", "$(id)", "\\", "~",
        "--", "-x",        "\x01", "tab\there", "#no", "ü",   "a\nb", "100%",  "!x", "{a,b}"};
    std::vector<std::string> words = {"vm", "ssh", "sandbox", "--", "printf", "<%s>"};
    words.insert(words.end(), hostile.begin(), hostile.end());
    std::string expected;
    for (const std::string& word : hostile)
        expected += "<" + word + ">";
    EXPECT_EQ(run(words).out, expected);
}

TEST_F(RunTest, AFirstWordIsAProgramNotShellSyntax) {
    daemon().add(sample_vm("sandbox"));
    EXPECT_EQ(run({"vm", "ssh", "sandbox", "--", "A=b", "env"}).status, 127);
    EXPECT_EQ(run({"vm", "ssh", "sandbox", "--", "if"}).status, 127);
}

TEST_F(RunTest, StandardInputReachesTheCommand) {
    daemon().add(sample_vm("sandbox"));
    EXPECT_EQ(run({"vm", "ssh", "sandbox", "--", "cat"}, "one\0two\n").out, "one");
    EXPECT_EQ(run({"vm", "ssh", "sandbox"}, "echo from a shell\nexit 3\n").out, "from a shell\n");
    EXPECT_EQ(run({"vm", "ssh", "sandbox"}, "exit 3\n").status, 3);
    EXPECT_THAT(ssh_words(), Contains("-T"));
}

TEST_F(RunTest, SshLooksAtNothingOfTheUsers) {
    daemon();
    ASSERT_EQ(run({"vm", "run", "--name", "sandbox", "--", "true"}).status, 0);
    const std::vector<std::string> words = ssh_words();
    EXPECT_THAT(words, Contains("none"));
    EXPECT_EQ(words[0], "-F");
    for (const std::string& option :
         {std::string("StrictHostKeyChecking=yes"), std::string("IdentitiesOnly=yes"),
          std::string("IdentityAgent=none"), std::string("BatchMode=yes"),
          std::string("GlobalKnownHostsFile=none"),
          "UserKnownHostsFile=\"" + folder_ / "state/banger/ssh/known_hosts" + "\"",
          "HostKeyAlias=" + sample_vm("sandbox").id})
        EXPECT_THAT(words, Contains(option));
    EXPECT_FALSE(path_exists(folder_ / "home/.ssh"));
}

TEST_F(RunTest, HostKeysAreKeptByIdAndForgottenOnDelete) {
    daemon().add(sample_vm("keeper"));
    daemon();
    ASSERT_EQ(run({"vm", "ssh", "keeper", "--", "true"}).status, 0);
    ASSERT_EQ(run({"vm", "run", "--name", "sandbox", "--", "true"}).status, 0);
    const std::string keeper = sample_vm("keeper").id + " ssh-ed25519 AAAAC3Nza\n";
    const std::string sandbox = sample_vm("sandbox").id + " ssh-ed25519 AAAAC3Nza\n";
    EXPECT_EQ(read("state/banger/ssh/known_hosts"), keeper + sandbox);
    ASSERT_EQ(run({"vm", "delete", "sandbox"}).status, 0);
    EXPECT_EQ(read("state/banger/ssh/known_hosts"), keeper);
}

TEST_F(RunTest, TwoFirstCommandsMakeOneKey) {
    daemon();
    std::vector<Running> commands;
    for (int i = 0; i < 8; ++i)
        commands.push_back(
            start({"vm", "create", "--no-start", "--name", "m" + std::to_string(i)}));
    for (Running& command : commands)
        EXPECT_EQ(command.wait().status, 0);
    const std::string key = folder_ / "state/banger/ssh/id_ed25519";
    struct stat status {};
    ASSERT_EQ(::stat(key.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
    ASSERT_EQ(::stat(parent_path(key).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0700u);
    EXPECT_FALSE(path_exists(key + ".new"));
}

TEST_F(RunTest, AMissingKeyOfTheUsersIsAnErrorAndNotMade) {
    daemon();
    ASSERT_TRUE(ensure_folder(folder_ / "config/banger", 0700));
    ASSERT_TRUE(write_file_atomic(folder_ / "config/banger/config.toml",
                                  "ssh_key_path = \"~/my_key\"\n", 0600));
    const Outcome outcome = run({"vm", "run", "--", "true"});
    EXPECT_EQ(outcome.status, 125);
    EXPECT_THAT(outcome.err, HasSubstr("there is no ssh key at " + folder_ / "home/my_key"));
    EXPECT_FALSE(path_exists(folder_ / "home/my_key"));
}

TEST_F(RunTest, RmDeletesAfterwardsAndKeepsTheStatus) {
    daemon();
    const Outcome outcome = run({"vm", "run", "--rm", "--", "sh", "-c", "exit 7"});
    EXPECT_EQ(outcome.status, 7);
    EXPECT_THAT(daemon().names(), IsEmpty());
    EXPECT_THAT(outcome.err, Not(HasSubstr("still running")));
    EXPECT_EQ(read("state/banger/ssh/known_hosts"), "");
}

TEST_F(RunTest, AFailingDeleteOfRmIsSaidAndIsNoSuccess) {
    daemon().fail("Delete", sample_vm("sandbox").id, Error(Errc::busy, "its disk is busy"));
    const Outcome outcome = run({"vm", "run", "--rm", "--name", "sandbox", "--", "true"});
    EXPECT_EQ(outcome.status, 125);
    EXPECT_THAT(outcome.err, HasSubstr("while deleting sandbox: its disk is busy"));
    EXPECT_THAT(outcome.err, HasSubstr("banger vm delete --force sandbox"));
}

TEST_F(RunTest, CtrlCWhileCreatingCancelsAndLeavesNothing) {
    int cancelled = 0;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        const std::string name = "n" + std::to_string(signal) + "x";
        daemon().hold("Create");
        Running command = start({"vm", "run", "--rm", "--name", name});
        daemon().wait_for_call("Create " + name);
        command.signal(signal);
        const Outcome outcome = command.wait();
        EXPECT_EQ(outcome.status, 128 + signal);
        EXPECT_THAT(outcome.err, HasSubstr("banger: cancelled, nothing is left\n"));
        daemon().wait_for_cancelled(++cancelled);
        daemon().release();
        EXPECT_THAT(daemon().names(), IsEmpty());
    }
}

TEST_F(RunTest, CtrlCThatComesTooLateToCancelDeletesWhatWasMade) {
    daemon().ignore_cancellation();
    daemon().hold("Create");
    for (const char* verb : {"run", "create"}) {
        Running command = start({"vm", verb, "--name", verb});
        daemon().wait_for_call(std::string("Create ") + verb);
        command.signal(SIGINT);
        const Outcome outcome = command.wait();
        EXPECT_EQ(outcome.status, 130);
        EXPECT_EQ(outcome.out, "");
        EXPECT_THAT(outcome.err, HasSubstr("banger: cancelled, nothing is left\n"));
        EXPECT_THAT(daemon().names(), IsEmpty());
    }
}

TEST_F(RunTest, ASignalDuringTheCommandEndsItAndRmStillDeletes) {
    set_ssh_mode("hang");
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        const std::string name = "n" + std::to_string(signal);
        daemon();
        Running command = start({"vm", "run", "--rm", "--name", name, "--", "sleep", "600"});
        wait_for_ssh();
        command.signal(signal);
        EXPECT_EQ(command.wait().status, 128 + signal);
        EXPECT_THAT(daemon().names(), IsEmpty());
        EXPECT_THAT(daemon().calls(), Contains("Delete " + sample_vm(name).id + " force"));
    }
}

TEST_F(RunTest, ASignalDuringTheDeleteOfRmDoesNotLeaveItHalfDone) {
    daemon().hold("Delete");
    Running command = start({"vm", "run", "--rm", "--", "sh", "-c", "exit 7"});
    daemon().wait_for_call("Delete");
    command.signal(SIGINT);
    command.signal(SIGTERM);
    daemon().release();
    EXPECT_EQ(command.wait().status, 7);
    EXPECT_THAT(daemon().names(), IsEmpty());
    EXPECT_EQ(daemon().cancelled(), 0);
}

TEST_F(RunTest, StopsAndGoesOnWithItsSsh) {
    daemon();
    set_ssh_mode("suspend");
    Running running = start({"vm", "run", "--", "sh", "-c", "exit 3"});
    running.wait_until_stopped();
    running.signal(SIGCONT);
    EXPECT_EQ(running.wait().status, 3);
}

TEST_F(RunTest, ASignalWithoutRmKeepsTheMachine) {
    set_ssh_mode("hang");
    daemon();
    Running command = start({"vm", "run", "--name", "sandbox", "--", "sleep", "600"});
    wait_for_ssh();
    command.signal(SIGINT);
    const Outcome outcome = command.wait();
    EXPECT_EQ(outcome.status, 130);
    EXPECT_THAT(daemon().names(), ElementsAre("sandbox"));
    EXPECT_THAT(outcome.err, HasSubstr("sandbox is still running"));
}

TEST_F(RunTest, SshThatNeverComesUpKeepsTheMachineEvenWithRm) {
    set_ssh_mode("never");
    environment_["BANGER_SSH_WAIT"] = "1";
    daemon();
    const Outcome outcome = run({"vm", "run", "--rm", "--name", "sandbox", "--", "true"});
    EXPECT_EQ(outcome.status, 125);
    EXPECT_THAT(outcome.err, HasSubstr("ssh did not come up within 1 s"));
    EXPECT_THAT(outcome.err, HasSubstr("Connection refused"));
    EXPECT_THAT(outcome.err, HasSubstr("probe sshd-listening: not listening"));
    EXPECT_THAT(outcome.err, HasSubstr("login:"));
    EXPECT_THAT(outcome.err, HasSubstr("banger vm logs sandbox"));
    EXPECT_THAT(daemon().names(), ElementsAre("sandbox"));
}

TEST_F(RunTest, CtrlCWhileSshIsNotUpYetDeletesWithRm) {
    set_ssh_mode("never-told");
    daemon();
    Running command = start({"vm", "run", "--rm", "--name", "sandbox", "--", "true"});
    wait_for_ssh();
    command.signal(SIGINT);
    EXPECT_EQ(command.wait().status, 130);
    EXPECT_THAT(daemon().names(), IsEmpty());
}

TEST_F(RunTest, ARefusedKeyFailsAtOnce) {
    set_ssh_mode("refuse");
    daemon();
    const Outcome outcome = run({"vm", "run", "--name", "sandbox", "--", "true"});
    EXPECT_EQ(outcome.status, 125);
    EXPECT_THAT(outcome.err, HasSubstr("Permission denied (publickey)"));
}

TEST_F(RunTest, AConnectionThatBreaksIsNotTheCommands255) {
    set_ssh_mode("lost");
    daemon();
    const Outcome outcome = run({"vm", "run", "--name", "sandbox", "--", "true"});
    EXPECT_EQ(outcome.status, 125);
    EXPECT_THAT(outcome.err, HasSubstr("the connection to sandbox was lost: client_loop: send "
                                       "disconnect: Broken pipe"));
}

TEST_F(RunTest, DetachedPrintsTheNameAlone) {
    daemon();
    EXPECT_EQ(run({"vm", "run", "-d", "--name", "sandbox"}).out, "sandbox\n");
    EXPECT_EQ(run({"vm", "run", "-dq", "--name", "other"}).out, sample_vm("other").id + "\n");
    EXPECT_EQ(run({"vm", "run", "-dq", "--name", "third"}).err, "");
    EXPECT_EQ(read("ssh.words"), "(missing)");
}

TEST_F(RunTest, TimingsAccountForTheWhole) {
    daemon();
    const Outcome outcome = run({"vm", "run", "--rm", "--timings", "--", "true"});
    for (const char* stage : {"ssh key", "bangerd", "plan", "disks", "boot", "ssh", "command",
                              "delete", "other", "total"})
        EXPECT_THAT(outcome.err, HasSubstr("\n  " + std::string(stage) + " "));
    EXPECT_EQ(outcome.out, "");
}

TEST_F(RunTest, WhatCannotBeIsRefusedBeforeAnythingIsMade) {
    daemon();
    const std::vector<std::pair<std::vector<std::string>, std::string>> calls = {
        {{"--name", "Not_a_name"}, "Not_a_name"},
        {{"--vcpu", "0"}, "--vcpu cannot be \"0\""},
        {{"--vcpu", "-1"}, "--vcpu cannot be \"-1\""},
        {{"--vcpu", "1000"}, "--vcpu cannot be \"1000\""},
        {{"--vcpu", "2x"}, "--vcpu cannot be \"2x\""},
        {{"--memory", "0"}, "--memory"},
        {{"--memory", "-5"}, "--memory"},
        {{"--disk-size", "99999999999999999999G"}, "--disk-size"},
        {{"--detach", "--rm"}, "contradict"},
        {{"-d", "--", "true"}, "--detach takes no command"},
        {{"--"}, "nothing follows"},
        {{"true"}, "Put `--` before a command"},
        {{"--memroy", "1G"}, "Did you mean `--memory`?"},
        {{"--name"}, "--name"},
        {{"--name", "a", "--name", "b"}, "--name"},
    };
    for (auto [words, expected] : calls) {
        words.insert(words.begin(), {"vm", "run"});
        const Outcome outcome = run(words);
        EXPECT_EQ(outcome.status, 2) << testing::PrintToString(words);
        EXPECT_THAT(outcome.err, HasSubstr(expected));
    }
    EXPECT_THAT(daemon().calls(), IsEmpty());
}

TEST_F(RunTest, CreateFailsWithOneAndRunWith125) {
    daemon().fail("Create", "sandbox", Error(Errc::already_exists, "the name is taken", "Choose"));
    EXPECT_EQ(run({"vm", "create", "--name", "sandbox"}).status, 1);
    const Outcome outcome = run({"vm", "run", "--name", "sandbox"});
    EXPECT_EQ(outcome.status, 125);
    EXPECT_THAT(outcome.err, EndsWith("banger: the name is taken\n  Choose\n"));
}

TEST_F(RunTest, SshIntoAStoppedMachineSaysHowToStartIt) {
    protocol::Vm vm = sample_vm("sandbox");
    vm.state = "stopped";
    vm.ssh.reset();
    daemon().add(vm);
    const Outcome outcome = run({"vm", "ssh", "sandbox"});
    EXPECT_EQ(outcome.status, 125);
    EXPECT_THAT(outcome.err, HasSubstr("Start it: banger vm start sandbox"));
}

}  // namespace
}  // namespace banger::cli

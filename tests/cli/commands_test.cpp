#include <gmock/gmock.h>

#include "cli_fixture.hpp"
#include "core/base/file.hpp"
#include "tests/support/golden.hpp"

namespace banger::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

protocol::Vm stopped(const std::string& name) {
    protocol::Vm vm = sample_vm(name);
    vm.state = "stopped";
    vm.ssh.reset();
    vm.pid.reset();
    vm.address.reset();
    return vm;
}

class CommandsTest : public CliTest {
protected:
    void SetUp() override {
        daemon().add(sample_vm("sandbox"));
        daemon().add(stopped("web"));
        protocol::Vm broken = stopped("broken");
        broken.state = "error";
        broken.reason = "QEMU ended: \x1b[31mno memory\n";
        daemon().add(broken);
    }
};

/// Everything that is printed for people or scripts, as it is. A word a line of the command.
class GoldenTest : public CommandsTest,
                   public testing::WithParamInterface<std::vector<std::string>> {};

TEST_P(GoldenTest, PrintsWhatItAlwaysDid) {
    // What help shows as resolved must not depend on this host.
    ASSERT_TRUE(ensure_folder(folder_ / "config/banger", 0700));
    ASSERT_TRUE(write_file_atomic(folder_ / "config/banger/config.toml",
                                  "default_image_name = \"debian-bookworm\"\n"
                                  "ssh_key_path = \"/keys/banger\"\n[vm_defaults]\n"
                                  "vcpu = 2\nmemory_mib = 2048\ndisk_size = \"8GiB\"\n",
                                  0600));
    const Outcome outcome = run(GetParam());
    std::string text = outcome.out;
    for (std::size_t at = 0; (at = text.find(folder_.path())) != text.npos;)
        text.replace(at, folder_.path().size(), "FOLDER");
    if (!outcome.err.empty()) text += "--- standard error\n" + outcome.err;
    text += "--- exit status " + std::to_string(outcome.status) + "\n";
    std::string name = "banger";
    for (const std::string& word : GetParam())
        name += "_" + word;
    expect_golden(name + ".txt", text);
}

const std::vector<std::vector<std::string>> calls = {
    std::vector<std::string>{},
    {"vm"},
    {"image"},
    {"kernel"},
    {"plugin"},
    {"vm", "run", "--help"},
    {"vm", "create", "--help"},
    {"vm", "ssh", "--help"},
    {"vm", "exec", "--help"},
    {"vm", "workspace"},
    {"vm", "workspace", "prepare", "--help"},
    {"vm", "workspace", "export", "--help"},
    {"vm", "list", "--help"},
    {"vm", "show", "--help"},
    {"vm", "start", "--help"},
    {"vm", "stop", "--help"},
    {"vm", "restart", "--help"},
    {"vm", "prune", "--help"},
    {"vm", "kill", "--help"},
    {"vm", "delete", "--help"},
    {"vm", "logs", "--help"},
    {"vm", "cp", "--help"},
    {"vm", "cp", "a", "b"},
    {"vm", "cp", "sandbox:a", "web:b"},
    {"vm", "cp", "web:a", "."},
    {"vm", "cp", "sandbox:a", "sandbox:b", "-"},
    {"vm", "set", "--help"},
    {"vm", "stats", "--help"},
    {"vm", "ports", "--help"},
    {"vm", "forward", "--help"},
    {"vm", "health", "--help"},
    {"vm", "set", "sandbox", "--vcpu", "4", "--memory", "4G", "--nat"},
    {"vm", "set", "web", "sandbox", "--disk-size", "20G", "--no-nat"},
    {"vm", "set", "web"},
    {"vm", "set", "web", "--nat", "--no-nat"},
    {"vm", "set", "web", "--vcpu", "0"},
    {"vm", "set", "web", "--memory", "-1"},
    {"vm", "stats", "sandbox", "web"},
    {"vm", "stats", "--format", "json"},
    {"vm", "stats", "sandbox", "nobody"},
    {"vm", "ports"},
    {"vm", "ports", "web", "sandbox"},
    {"vm", "ports", "--format", "json"},
    {"vm", "health", "sandbox", "nobody"},
    {"vm", "health", "--format", "json"},
    {"vm", "kill", "--signal", "TERM", "sandbox"},
    {"vm", "kill", "--signal", "9", "sandbox"},
    {"vm", "kill", "--signal", "SIGKILL", "sandbox"},
    {"vm", "prune", "--dry-run"},
    {"image", "list", "--help"},
    {"image", "pull", "--help"},
    {"image", "show", "--help"},
    {"image", "delete", "--help"},
    {"image", "register", "--help"},
    {"image", "promote", "--help"},
    {"image", "set", "--help"},
    {"image", "cache"},
    {"image", "cache", "prune", "--help"},
    {"image", "cache", "prune"},
    {"image", "cache", "prune", "--dry-run", "--format", "json"},
    {"image", "show", "mine"},
    {"image", "register", "mine"},
    {"image", "register", "mine", "--rootfs", "r", "--initrd", "i"},
    {"image", "register", "mine", "--rootfs", "r", "--kernel", "k", "--kernel-ref", "x"},
    {"image", "pull", "x", "--size", "0"},
    {"image", "set", "debian-bookworm"},
    {"image", "set", "debian-bookworm", "--kernel", "mine"},
    {"kernel", "import", "--help"},
    {"kernel", "import", "mine"},
    {"system", "df", "--help"},
    {"system", "df"},
    {"system", "df", "-v"},
    {"system", "df", "--format", "json"},
    {"kernel", "pull", "--help"},
    {"plugin", "verify", "--help"},
    {"plugin", "trust", "--help"},
    {"plugin", "trust", "Net"},
    {"plugin", "distrust", "--help"},
    {"plugin", "new", "--help"},
    {"plugin", "new", "mine"},
    {"plugin", "new", "Mine", "--role", "dns"},
    {"plugin", "new", "mine", "--role", "cpu"},
    {"plugin", "use", "--help"},
    {"plugin", "use", "cpu", "mine"},
    {"plugin", "use", "dns", "nothing"},
    {"plugin", "enable", "nothing"},
    {"plugin", "disable", "nothing"},
    std::vector<std::string>{"doctor", "--help"},
    {"config"},
    {"config", "show", "--help"},
    {"config", "show"},
    {"config", "show", "--format", "json"},
    {"config", "path"},
    {"config", "path", "--format", "json"},
    {"ssh-config", "--help"},
    {"completion", "--help"},
    {"completion"},
    {"completion", "tcsh"},
    {"system"},
    std::vector<std::string>{"version", "--help"},
    std::vector<std::string>{"vm", "list"},
    {"ps"},
    {"vm", "list", "-q"},
    {"vm", "list", "--format", "json"},
    {"vm", "show", "sandbox"},
    {"vm", "show", "broken"},
    {"vm", "show", "sandbox", "--format", "json"},
    {"vm", "show", "web", "--format=json"},
    std::vector<std::string>{"image", "list"},
    {"image", "list", "--format", "json"},
    {"image", "list", "--available"},
    {"image", "list", "--available", "--format", "json"},
    {"image", "show", "debian-bookworm"},
    {"image", "show", "debian-bookworm", "--format", "json"},
    std::vector<std::string>{"kernel", "list"},
    {"kernel", "list", "--format", "json"},
    {"kernel", "list", "--available"},
    {"kernel", "show", "debian-cloud"},
    {"kernel", "show", "debian-cloud", "--format", "json"},
    {"kernel", "delete", "debian-cloud"},
    std::vector<std::string>{"plugin", "list"},
    {"plugin", "list", "--format", "json"},
    {"plugin", "info", "vmm-qemu"},
    {"plugin", "info", "vmm-qemu", "--format", "json"},
    {"plugin", "info", "image-mine"},
    std::vector<std::string>{"plugin", "verify"},
    {"plugin", "info", "nothing"},
    std::vector<std::string>{"vm", "lisst"},
    {"vn"},
    {"run"},
    {"--verison"},
    {"vm", "list", "--fromat", "json"},
    {"vm", "list", "--format", "yaml"},
    std::vector<std::string>{"vm", "show"},
    {"vm", "show", "--", "x"},
    {"vm", "logs", "a", "b"},
};
INSTANTIATE_TEST_SUITE_P(Output, GoldenTest, testing::ValuesIn(calls));

TEST_F(CommandsTest, SeveralMachinesAreReportedInTheOrderGivenAndAFailureStopsNone) {
    daemon().fail("Stop", "web", Error(Errc::busy, "web is being started", "Try again"));
    daemon().add(sample_vm("stubborn"));
    const Outcome outcome = run({"vm", "stop", "stubborn", "web", "nobody", "sandbox"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.out,
              "stopped stubborn (forced: the guest did not power off)\nstopped sandbox\n");
    EXPECT_EQ(outcome.err,
              "banger: web is being started\n  Try again\n"
              "banger: there is no machine \"nobody\"\n  See: banger vm list\n");
}

TEST_F(CommandsTest, SeveralMachinesAreWorkedOnAtOnce) {
    daemon().hold("Start");
    Running command = start({"vm", "start", "sandbox", "web", "broken"});
    // None of them is answered before all of them were asked for.
    for (const char* name : {"sandbox", "web", "broken"})
        daemon().wait_for_call(std::string("Start ") + name);
    daemon().release();
    const Outcome outcome = command.wait();
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.out, "started sandbox\nstarted web\nstarted broken\n");
}

TEST_F(CommandsTest, DeleteRemovesAndForceIsPassedOn) {
    EXPECT_EQ(run({"vm", "delete", "web", "broken"}).out, "deleted web\ndeleted broken\n");
    const Outcome forced = run({"vm", "rm", "-f", "sandbox"});
    EXPECT_EQ(forced.out, "deleted sandbox\n");
    EXPECT_EQ(forced.err, "asking sandbox to power off\n") << "what takes its time is said";
    EXPECT_THAT(daemon().names(), IsEmpty());
    EXPECT_THAT(daemon().calls(), testing::Contains("Delete sandbox force"));
    const Outcome again = run({"vm", "delete", "sandbox"});
    EXPECT_EQ(again.status, 1);
    EXPECT_EQ(run({"vm", "list"}).out, "");
    EXPECT_THAT(run({"vm", "list"}).err, HasSubstr("banger vm run"));
    EXPECT_EQ(run({"vm", "list", "--format", "json"}).out, "[]\n");
}

TEST_F(CommandsTest, KillEndsOne) {
    EXPECT_EQ(run({"vm", "kill", "sandbox"}).out, "killed sandbox\n");
    EXPECT_THAT(daemon().calls(), ElementsAre("Kill sandbox"));
}

TEST_F(CommandsTest, RestartStopsAndStartsAndAFailedStopStartsNothing) {
    daemon().add(sample_vm("stubborn"));
    daemon().fail("Stop", "web", Error(Errc::busy, "web is being started", "Try again"));
    const Outcome outcome = run({"vm", "restart", "sandbox", "web", "stubborn"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.out,
              "restarted sandbox\nrestarted stubborn (forced: the guest did not power off)\n");
    EXPECT_EQ(outcome.err, "banger: web is being started\n  Try again\n");
    EXPECT_THAT(daemon().calls(), testing::Not(testing::Contains("Start web")));
}

TEST_F(CommandsTest, StatsAreAskedOfAllAtOnceAndOneThatHangsDelaysNobody) {
    daemon().add(sample_vm("other"));
    daemon().hold("Stats");
    Running command = start({"vm", "stats", "sandbox", "other"});
    for (const char* name : {"sandbox", "other"})
        daemon().wait_for_call(std::string("Stats ") + name);
    daemon().release();
    EXPECT_EQ(command.wait().status, 0);
}

TEST_F(CommandsTest, WatchGoesOnUntilCtrlCWhichIsNoFailure) {
    ASSERT_TRUE(ensure_folder(folder_ / "config/banger", 0700));
    ASSERT_TRUE(write_file_atomic(folder_ / "config/banger/config.toml",
                                  "stats_poll_interval = \"1s\"\n", 0600));
    Running command = start({"vm", "stats", "--watch", "--format", "json"});
    daemon().wait_for_calls("Stats sandbox", 3);
    command.signal(2);
    const Outcome outcome = command.wait();
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.err, "");
    EXPECT_THAT(outcome.out, HasSubstr("\"cpu_percent\":50"));
}

TEST_F(CommandsTest, WatchStopsAtOnceAlsoWhileAGuestHangs) {
    daemon().hold("Stats");
    Running command = start({"vm", "stats", "sandbox", "--watch"});
    daemon().wait_for_call("Stats sandbox");
    command.signal(15);
    EXPECT_EQ(command.wait().status, 0);
    daemon().wait_for_cancelled(1);
}

TEST_F(CommandsTest, WhereNothingRunsThereIsNothingToSee) {
    EXPECT_EQ(run({"vm", "stop", "sandbox"}).status, 0);
    for (const char* command : {"stats", "ports", "health"}) {
        EXPECT_THAT(run({"vm", command}).err, HasSubstr("No machine runs"));
        EXPECT_EQ(run({"vm", command, "--format", "json"}).out, "[]\n");
    }
}

TEST_F(CommandsTest, AStoppedMachineIsNotHealthy) {
    daemon().fail("Health", "web", Error(Errc::wrong_state, "web is not running", "Start it."));
    const Outcome outcome = run({"vm", "health", "web"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.out, HasSubstr("web is not running"));
    EXPECT_EQ(outcome.err, "");
}

TEST_F(CommandsTest, PruneWithoutATerminalNeedsForce) {
    const Outcome outcome = run({"vm", "prune"}, "y\n");
    EXPECT_EQ(outcome.status, 2);
    EXPECT_THAT(outcome.err, HasSubstr("add -f"));
    EXPECT_EQ(daemon().names().size(), 3U);
}

TEST_F(CommandsTest, PruneTakesWhateverDoesNotRun) {
    for (const char* state : {"created", "deleting", "starting", "paused"}) {
        protocol::Vm vm = stopped(state);
        vm.state = state;
        daemon().add(vm);
    }
    EXPECT_EQ(run({"vm", "prune", "-f"}).out,
              "deleted web\ndeleted broken\ndeleted created\ndeleted deleting\n");
    EXPECT_THAT(daemon().names(), ElementsAre("sandbox", "starting", "paused"));
}

TEST_F(CommandsTest, PruneAsksAndOnlyAYesDeletes) {
    for (const char* no : {"\4", "\n", "n\n", "yesterday\n"}) {
        const Outcome outcome = run_at_terminal({"vm", "prune"}, no);
        EXPECT_EQ(outcome.status, 1);
        EXPECT_EQ(outcome.err,
                  "These machines do not run:\n  web (stopped)\n  broken (error)\n"
                  "Delete them and their disks? [y/N] Nothing is deleted.\n");
    }
    EXPECT_EQ(daemon().names().size(), 3U);
    EXPECT_EQ(run_at_terminal({"vm", "prune"}, "y\n").out, "deleted web\ndeleted broken\n");
    EXPECT_THAT(daemon().names(), ElementsAre("sandbox"));
}

TEST_F(CommandsTest, PruneForcedAsksNothingAndLeavesWhatRuns) {
    daemon().fail("Delete", sample_vm("web").id,
                  Error(Errc::busy, "web is being started", "Try again"));
    const Outcome outcome = run({"vm", "prune", "-f"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.out, "deleted broken\n");
    EXPECT_EQ(outcome.err, "banger: web is being started\n  Try again\n");
    EXPECT_THAT(daemon().names(), testing::UnorderedElementsAre("sandbox", "web"));
    EXPECT_EQ(run({"vm", "delete", "-f", "sandbox"}).status, 0);
}

TEST_F(CommandsTest, LogsIntoAPipeAreEveryByteAsItCame) {
    std::string bytes = "\x1b[31mred\x1b[0m \r\n";
    bytes += std::string("\0\xff\x80", 3);
    daemon().set_console(bytes);
    const Outcome outcome = run({"vm", "logs", "sandbox"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.out, bytes);
}

TEST_F(CommandsTest, PullPrintsStagesAsideAndTheNameAsResult) {
    const Outcome outcome = run({"image", "pull", "debian-bookworm", "--refresh"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.out, "debian-bookworm\n");
    EXPECT_EQ(outcome.err, "downloading\n");
    EXPECT_THAT(daemon().calls(), ElementsAre("Pull debian-bookworm refresh"));
    EXPECT_EQ(run({"image", "pull", "debian-bookworm", "-q"}).err, "");
}

TEST_F(CommandsTest, CtrlCDuringAPullCancelsIt) {
    daemon().hold("Pull");
    Running command = start({"image", "pull", "debian-bookworm"});
    daemon().wait_for_call("Pull");
    command.signal(2);
    EXPECT_EQ(command.wait().status, 130);
    daemon().wait_for_cancelled(1);
}

TEST_F(CommandsTest, DoctorWithAWarningIsASuccess) {
    const Outcome outcome = run({"doctor"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_THAT(outcome.out, HasSubstr("WARN  kvm          the CPU shows neither vmx nor svm\n"
                                       "      → Machines are emulated"));
    EXPECT_THAT(outcome.out, HasSubstr("vm_defaults.vcpu  2      default\n"));
}

TEST_F(CommandsTest, VersionNamesBoth) {
    EXPECT_THAT(run({"version"}).out, testing::MatchesRegex("banger [^\n]*\nbangerd [^\n]*, "
                                                            "running in user mode\n"));
    EXPECT_EQ(run({"--version"}).out, run({"version"}).out);
    EXPECT_THAT(run({"version", "--format", "json"}).out, HasSubstr("\"mode\": \"user\""));
}

/// The command on a terminal of its own, as script(1) makes one.
TEST_F(CommandsTest, ColoursAreForATerminalAndOnlyWhereTheyAreWanted) {
    const auto shows_colours = [&](bool has_terminal,
                                   std::map<std::string, std::string> variables) {
        Command command;
        command.program = has_terminal ? "/usr/bin/script" : program_;
        command.arguments = {"vm", "list"};
        if (has_terminal) command.arguments = {"-qec", program_ + " vm list", "/dev/null"};
        command.environment = environment_;
        command.environment["TERM"] = "xterm";
        for (const auto& [name, value] : variables)
            command.environment[name] = value;
        const Result<CommandOutput> output =
            run_command(command, std::chrono::seconds(30), ByteCount::mib(1), {});
        EXPECT_TRUE(output && output->status.is_success());
        EXPECT_THAT(output->standard_output, HasSubstr("sandbox"));
        return output->standard_output.find("\x1b[") != std::string::npos;
    };
    EXPECT_TRUE(shows_colours(true, {}));
    EXPECT_TRUE(shows_colours(true, {{"NO_COLOR", ""}}));
    EXPECT_FALSE(shows_colours(true, {{"NO_COLOR", "1"}}));
    EXPECT_FALSE(shows_colours(true, {{"CLICOLOR", "0"}}));
    EXPECT_FALSE(shows_colours(true, {{"TERM", "dumb"}}));
    EXPECT_FALSE(shows_colours(false, {}));
    EXPECT_TRUE(shows_colours(false, {{"CLICOLOR_FORCE", "1"}}));
    EXPECT_FALSE(shows_colours(false, {{"CLICOLOR_FORCE", "1"}, {"NO_COLOR", "1"}}));
}

TEST_F(CommandsTest, AMistakeInTheConfigurationIsToldWithItsPlace) {
    ASSERT_TRUE(ensure_folder(folder_ / "config/banger", 0700));
    const std::string file = folder_ / "config/banger/config.toml";
    const auto said = [&](const std::string& text) {
        EXPECT_TRUE(write_file_atomic(file, text, 0600));
        const Outcome outcome = run({"config", "show"});
        EXPECT_EQ(outcome.status, 1) << text;
        EXPECT_EQ(outcome.out, "");
        return outcome.err;
    };
    EXPECT_EQ(
        said("\nlog_levl = \"info\"\n"),
        "banger: " + file + ":2: there is no key \"log_levl\"\n  Did you mean `log_level`?\n");
    EXPECT_THAT(said("dns_port = \"x\"\n"), HasSubstr(":1: `dns_port` is text and should be"));
    EXPECT_THAT(said("[vm_defaults]\nvcpu = 0\n"), HasSubstr(":2: `vm_defaults.vcpu` is 0"));
    EXPECT_THAT(said("log_level = info\n"), HasSubstr(file + ":1: not TOML"));
    EXPECT_THAT(said("[[file_sync]]\nhost = \"/etc/shadow\"\nguest = \"~/x\"\n"),
                HasSubstr("file_sync[0].host"));
}

TEST_F(CommandsTest, TheEnvironmentIsASource) {
    environment_["BANGER_LOG_LEVEL"] = "debug";
    EXPECT_THAT(run({"config", "show"}).out,
                testing::ContainsRegex("log_level +\"debug\" +BANGER_LOG_LEVEL\n"));
}

TEST_F(CommandsTest, HelpIsAlsoAWord) {
    EXPECT_EQ(run({"help", "vm", "list"}).out, run({"vm", "list", "--help"}).out);
    EXPECT_EQ(run({"help", "vm"}).out, run({"vm"}).out);
    EXPECT_EQ(run({"help"}).out, run({}).out);
    EXPECT_EQ(run({"help", "vn"}).status, 2);
}

TEST_F(CommandsTest, AFullDiskUnderStandardOutputIsAnError) {
    Command command;
    command.program = "/bin/sh";
    command.arguments = {"-c", "exec \"$0\" vm list >/dev/full", program_};
    command.environment = environment_;
    const Result<CommandOutput> output =
        run_command(command, std::chrono::seconds(30), ByteCount::mib(1), {});
    ASSERT_TRUE(output);
    EXPECT_EQ(output->status.code, 1);
    EXPECT_THAT(output->standard_error, HasSubstr("writing to standard output"));
}

TEST_F(CommandsTest, AMachineThatBangerStoppedByItselfShowsIt) {
    protocol::Vm unused = stopped("quiet");
    unused.reason = "nobody used it for 2h, so banger stopped it (auto_stop_stale_after)";
    daemon().add(unused);
    const std::string list = run({"vm", "list"}).out;
    EXPECT_THAT(list, testing::ContainsRegex("quiet +stopped \\(unused\\) "));
    EXPECT_THAT(list, testing::ContainsRegex("web +stopped +debian"));
    EXPECT_THAT(run({"vm", "show", "quiet"}).out, HasSubstr(*unused.reason));
    EXPECT_THAT(run({"vm", "show", "quiet", "--format", "json"}).out,
                HasSubstr("\"reason\": \"nobody used it for 2h"));
}

}  // namespace
}  // namespace banger::cli

// Images without systemd or sshd: commands through the agent, in real guests.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/boot/guest_command.hpp"
#include "tests/support/terminal_run.hpp"

namespace banger::boot {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

/// A program alone, as in an image made from nothing.
constexpr const char* lone_program = R"(
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int count, char** words) {
    char folder[4096];
    printf("uid %d gid %d in %s with %s\n", getuid(), getgid(), getcwd(folder, sizeof folder),
           getenv("GREETING"));
    for (int at = 1; at < count; ++at) printf("word %s\n", words[at]);
    fprintf(stderr, "home %s\n", getenv("HOME"));
    return count > 1 && strcmp(words[count - 1], "fail") == 0 ? 3 : 0;
}
)";

std::string sh(const std::string& script) {
    Command command;
    command.program = "/bin/sh";
    command.arguments = {"-c", "set -e; " + script};
    command.environment = minimal_environment();
    const Result<CommandOutput> output = run_command(command, 120s, ByteCount::mib(1), {});
    EXPECT_TRUE(output && output->status.is_success())
        << script << (output ? output->standard_error : output.error().text());
    return output ? output->standard_output : "";
}

/// One state of this program's own, so that its daemon knows the source of images that boot tests
/// make; the kernel is made once.
class AgentBoot : public ::testing::Test {
protected:
    static void SetUpTestSuite() {
        if (!reason().empty()) return;
        ASSERT_TRUE(ensure_folder(base() + "/config/banger", 0700));
        ASSERT_TRUE(write_file_atomic(
            base() + "/config/banger/config.toml",
            "[plugins]\nimage_sources = [\"catalog\", \"image-debian\", \"fake\"]\n", 0600));
        delete_what_is_left(command_of);
        const std::string work = base() + "/images";
        sh("rm -rf " + work + "; mkdir -p " + work);
        ASSERT_TRUE(write_file_atomic(work + "/lone.c", lone_program, 0600));
        sh("cd " + work +
           "; mkdir -p bb/bin bb/sbin bb/etc bb/root bb/home/app lone"
           "; cp $(command -v busybox) bb/bin/busybox"
           "; for tool in $(bb/bin/busybox --list); do [ $tool = busybox ] ||"
           "  ln -s /bin/busybox bb/bin/$tool; done; ln -s /bin/busybox bb/sbin/init"
           "; printf 'root:x:0:0:root:/root:/bin/sh\\napp:x:1000:1000::/home/app:/bin/sh\\n'"
           "  >bb/etc/passwd; printf 'root:x:0:\\napp:x:1000:\\nextra:x:77:app\\n' >bb/etc/group"
           "; tar --owner=0 --group=0 -C bb -cf bb.tar ."
           "; gcc -static -Os -o lone/serve lone.c; tar --owner=0 --group=0 -C lone -cf lone.tar "
           ".");
        ASSERT_TRUE(write_file_atomic(
            work + "/bb.tar.json",
            R"({"Env": ["PATH=/bin:/sbin", "COLOR=blue"], "WorkingDir": "/made/for/this"})", 0600));
        ASSERT_TRUE(write_file_atomic(
            work + "/lone.tar.json",
            R"({"Env": ["GREETING=hello"], "User": "65532:65532", "WorkingDir": "/data",
                "Entrypoint": ["/serve"], "Cmd": ["by", "default"]})",
            0600));
        for (const char* image : {"bb", "lone"}) {
            banger({"image", "delete", image});
            const CommandOutput pulled =
                banger({"image", "pull", "fake:tar=" + work + "/" + image + ".tar"});
            ASSERT_TRUE(pulled.status.is_success()) << pulled.standard_error;
        }
    }
    void SetUp() override {
        const char* required = std::getenv("BANGER_REQUIRE");
        if (reason().empty()) return;
        if (required && std::string(required).find("boot") != std::string::npos) FAIL() << reason();
        GTEST_SKIP() << reason();
    }
    void TearDown() override {
        if (!reason().empty()) return;
        for (const std::string& name : names_)
            banger({"vm", "delete", "--force", name});
        EXPECT_EQ(banger({"vm", "list", "--quiet"}).standard_output, "") << "a machine is left";
    }

    static std::string reason() {
        for (const char* program : {"busybox", "gcc", "tar"})
            if (!find_program(program)) return std::string(program) + " is not installed";
        return reason_to_skip();
    }
    static std::string base() { return cache_folder() + "/agent"; }
    static Command command_of(std::vector<std::string> words) {
        Command command = banger_command(std::move(words));
        for (const auto& [name, part] :
             std::map<std::string, std::string>{{"HOME", "/home"},
                                                {"XDG_STATE_HOME", "/state"},
                                                {"XDG_CACHE_HOME", "/cache"},
                                                {"XDG_CONFIG_HOME", "/config"},
                                                {"XDG_RUNTIME_DIR", "/run"}}) {
            EXPECT_TRUE(ensure_folder(base() + part, 0700));
            command.environment[name] = base() + part;
        }
        return command;
    }
    static CommandOutput banger(std::vector<std::string> words, const std::string& input = {}) {
        Command command = command_of(std::move(words));
        const TempFolder folder;
        EXPECT_TRUE(write_file_atomic(folder / "input", input, 0600));
        const UniqueFd in(::open((folder / "input").c_str(), O_RDONLY | O_CLOEXEC));
        command.standard_input = in.get();
        Result<CommandOutput> output = run_command(command, 20min, ByteCount::mib(16), {});
        if (output) return std::move(*output);
        ADD_FAILURE() << command.text() << ": " << output.error().text();
        return {{255, 0}, {}, {}};
    }
    std::string started(const std::string& name) {
        names_.push_back(name);
        const CommandOutput made =
            banger({"vm", "create", "--name", name, "--image", "bb", "--memory", "256M"});
        EXPECT_TRUE(made.status.is_success()) << made.standard_error;
        return name;
    }
    /// In the machine, by its busybox.
    static CommandOutput in_guest(const std::string& name, const std::string& script,
                                  const std::string& input = {}) {
        return banger({"vm", "ssh", name, "--", "sh", "-c", script}, input);
    }

    std::vector<std::string> names_;
};

TEST_F(AgentBoot, ARunInAnImageOfOneBusybox) {
    const CommandOutput run = banger({"vm", "run", "--rm", "--image", "bb", "--memory", "256M",
                                      "--", "sh", "-c", "echo out; echo err >&2; exit 42"});
    EXPECT_EQ(run.status.code, 42) << run.standard_error;
    EXPECT_EQ(run.standard_output, "out\n");
    EXPECT_THAT(run.standard_error, HasSubstr("err\n"));
}

TEST_F(AgentBoot, StreamsStatusesAndTheImagesWishes) {
    const std::string name = started("streams");
    std::string bytes(1 << 20, '\0');
    std::uint32_t state = 1;
    for (char& c : bytes)
        c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    const CommandOutput echoed = banger({"vm", "exec", name, "--", "cat"}, bytes);
    EXPECT_EQ(echoed.status.code, 0) << echoed.standard_error;
    EXPECT_TRUE(echoed.standard_output == bytes) << echoed.standard_output.size();
    EXPECT_EQ(in_guest(name, "kill -9 $$").status.code, 137);
    EXPECT_EQ(in_guest(name, "kill -TERM $$").status.code, 143);
    EXPECT_EQ(banger({"vm", "exec", name, "--", "no-such-command"}).status.code, 127);
    EXPECT_EQ(in_guest(name, "echo $COLOR; pwd; hostname; id -u").standard_output,
              "blue\n/made/for/this\nstreams\n0\n");
    const CommandOutput as_app =
        banger({"vm", "exec", "--user", "app", name, "--", "sh", "-c", "id; echo $HOME"});
    EXPECT_EQ(as_app.standard_output, "uid=1000(app) gid=1000(app) groups=77(extra)\n/home/app\n");
    const CommandOutput unknown = banger({"vm", "exec", "--user", "who", name, "--", "true"});
    EXPECT_EQ(unknown.status.code, 125);
    EXPECT_THAT(unknown.standard_error, HasSubstr("no user who in /etc/passwd"));
    // What a program may expect of a machine.
    const CommandOutput places = in_guest(
        name,
        "echo hi >/dev/fd/1; ls /dev/pts/ptmx; touch /dev/shm/a /tmp/a /run/a && echo writable;"
        " test -e /run/systemd/system || echo no-systemd; ping -c 1 -q 127.0.0.1 >/dev/null &&"
        " echo loopback; (sleep 0.1 &) ; sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status | wc "
        "-l");
    EXPECT_EQ(places.standard_output, "hi\n/dev/pts/ptmx\nwritable\nno-systemd\nloopback\n0\n")
        << places.standard_error;
}

TEST_F(AgentBoot, ATerminalWithItsSize) {
    const std::string name = started("screen");
    Command command = command_of({"vm", "ssh", name});
    command.environment["TERM"] = "xterm";
    TerminalRun session(command.program, command.arguments, command.environment);
    session.type("test -t 0 && stty size && tty\n");
    session.wait_for("40 120");
    session.wait_for("/dev/pts/0");
    session.resize(50, 99);
    session.type("PS1='ready> '; echo reading-$((1+2)); read line\n");
    session.wait_for("reading-3");
    session.type("\x03");
    session.wait_for("ready> ");
    session.type("stty size; echo $TERM-$((1+1))\n");
    session.wait_for("50 99");
    session.wait_for("xterm-2");
    session.type("exit 9\n");
    EXPECT_EQ(session.wait(), 9);
    EXPECT_FALSE(session.is_raw());
}

TEST_F(AgentBoot, AKilledDaemonLosesSessionsButNotTheMachine) {
    const std::string name = started("survivor");
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd says(ends[0]);
    UniqueFd writes(ends[1]);
    Command command = command_of({"vm", "exec", name, "--", "sh", "-c", "echo up; sleep 600"});
    command.standard_output = writes.get();
    const std::string complaint = base() + "/complaint";
    const UniqueFd complaints(
        ::open(complaint.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    command.standard_error = complaints.get();
    Result<Child> child = spawn(command);
    ASSERT_TRUE(child);
    writes.reset();
    char byte = 0;
    ASSERT_EQ(::read(says.get(), &byte, 1), 1);
    const std::string pid =
        json_value(banger({"version", "--format", "json"}).standard_output, "pid");
    ASSERT_TRUE(kill_and_wait(process_id_of(std::atoll(pid.c_str())).value()));
    const Result<ExitStatus> status = child->wait({});
    ASSERT_TRUE(status);
    EXPECT_EQ(status->code, 125);
    EXPECT_THAT(read_file(complaint, ByteCount::kib(64)).value_or(""),
                HasSubstr("bangerd went away while the command ran"));
    EXPECT_EQ(in_guest(name, "echo again").standard_output, "again\n");
    // The lost one got its hang-up.
    const CommandOutput gone = in_guest(
        name,
        "for i in 1 2 3 4 5 6 7 8 9 10; do ps | grep -q 'sleep 60[0]' || { echo gone; break;"
        " }; sleep 1; done");
    EXPECT_EQ(gone.standard_output, "gone\n") << gone.standard_error;
}

TEST_F(AgentBoot, StopIsCleanAndKeepsFiles) {
    const std::string name = started("keeper");
    const CommandOutput before =
        in_guest(name,
                 "mkdir -p /root/many /var/many; for i in $(seq 300); do echo $i >/root/many/$i;"
                 " echo $i >/var/many/$i; done; cat /root/many/* /var/many/* | sha256sum");
    const CommandOutput stopped = banger({"vm", "stop", name});
    EXPECT_TRUE(stopped.status.is_success()) << stopped.standard_error;
    EXPECT_THAT(stopped.standard_output + stopped.standard_error, Not(HasSubstr("forced")));
    ASSERT_TRUE(banger({"vm", "start", name}).status.is_success());
    EXPECT_EQ(in_guest(name, "cat /root/many/* /var/many/* | sha256sum").standard_output,
              before.standard_output);
    // As busybox asks its init.
    in_guest(name, "poweroff; sleep 60");
    for (int tries = 0; tries < 600; ++tries) {
        if (json_value(banger({"vm", "show", name, "--format", "json"}).standard_output, "state") ==
            "stopped")
            return;
        ::usleep(100'000);
    }
    ADD_FAILURE() << "poweroff in the guest did not stop it";
}

TEST_F(AgentBoot, CopiesAndWorkspacesGoThroughTheAgentToo) {
    const std::string name = started("copies");
    const TempFolder folder;
    ASSERT_TRUE(write_file_atomic(folder / "file", std::string(100'000, 'x'), 0640));
    const CommandOutput in = banger({"vm", "cp", folder / "file", name + ":/root/file"});
    EXPECT_TRUE(in.status.is_success()) << in.standard_error;
    EXPECT_EQ(in_guest(name, "wc -c </root/file").standard_output, "100000\n");
    const CommandOutput out = banger({"vm", "cp", name + ":/etc/passwd", folder / "passwd"});
    EXPECT_TRUE(out.status.is_success()) << out.standard_error;
    EXPECT_THAT(read_file(folder / "passwd", ByteCount::kib(4)).value_or(""), HasSubstr("app:x:"));
}

TEST_F(AgentBoot, AnImageOfOneProgramRunsIt) {
    const std::vector<std::string> run = {"vm",   "run",      "--rm", "--image",
                                          "lone", "--memory", "256M"};
    const auto with = [&](std::vector<std::string> more) {
        std::vector<std::string> words = run;
        words.insert(words.end(), more.begin(), more.end());
        return banger(words);
    };
    const CommandOutput plain = with({});
    EXPECT_EQ(plain.status.code, 0) << plain.standard_error;
    EXPECT_EQ(plain.standard_output,
              "uid 65532 gid 65532 in /data with hello\nword by\nword default\n");
    EXPECT_THAT(plain.standard_error, HasSubstr("home /\n"));
    const CommandOutput words = with({"--", "a b", "fail"});
    EXPECT_EQ(words.status.code, 3);
    EXPECT_THAT(words.standard_output, HasSubstr("word a b\nword fail\n"));
}

}  // namespace
}  // namespace banger::boot

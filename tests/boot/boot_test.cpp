#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/boot/guest_command.hpp"

namespace banger::boot {
namespace {

using namespace std::chrono_literals;

class Boot : public ::testing::Test {
protected:
    void SetUp() override {
        const std::string reason = reason_to_skip();
        const char* required = std::getenv("BANGER_REQUIRE");
        const bool is_required =
            required && std::string(required).find("boot") != std::string::npos;
        if (!reason.empty()) {
            if (is_required) FAIL() << reason;
            GTEST_SKIP() << reason;
        }
        delete_what_is_left(banger_command);
        image_ = slim_image();
    }
    void TearDown() override {
        if (image_.empty()) return;
        // A failed test must not leave a machine for the next one to trip over.
        for (const std::string& name : names_)
            run_banger({"vm", "delete", "--force", name});
        EXPECT_EQ(output_of({"vm", "list", "--quiet"}), "") << "a machine is left";
    }
    /// Will be deleted at the end, if it is still there.
    std::string named(const std::string& name) {
        names_.push_back(name);
        return name;
    }
    std::string started(const std::string& name) {
        output_of({"vm", "create", "--name", named(name), "--image", image_});
        return name;
    }
    static ProcessId vmm_of(const std::string& name) {
        const std::string pid =
            json_value(output_of({"vm", "show", name, "--format", "json"}), "pid");
        const Result<ProcessId> id = process_id_of(std::atoll(pid.c_str()));
        EXPECT_TRUE(id) << "no VMM with pid " << pid;
        return id.value_or({});
    }
    static std::string state_of(const std::string& name) {
        return json_value(output_of({"vm", "show", name, "--format", "json"}), "state");
    }
    static std::string in_guest(const std::string& name, const std::string& script) {
        return output_of({"vm", "ssh", name, "--", "sh", "-c", script});
    }
    static ProcessId daemon() {
        const std::string pid = json_value(output_of({"version", "--format", "json"}), "pid");
        return process_id_of(std::atoll(pid.c_str())).value_or({});
    }

    std::string image_;
    std::vector<std::string> names_;
};

TEST_F(Boot, RunPrintsTheGuestsLineAndLeavesNothing) {
    const CommandOutput run =
        run_banger({"vm", "run", "--rm", "--image", image_, "--", "uname", "-a"});
    EXPECT_TRUE(run.status.is_success()) << run.standard_error;
    EXPECT_TRUE(run.standard_output.starts_with("Linux ")) << run.standard_output;
    EXPECT_NE(run.standard_output.find("cloud-amd64"), std::string::npos) << run.standard_output;
    EXPECT_TRUE(run.standard_error.starts_with("spec: ")) << run.standard_error;
}

TEST_F(Boot, ExitStatusInputAndQuotingPassThrough) {
    const std::string name = started("passes");
    EXPECT_EQ(run_banger({"vm", "ssh", name, "--", "sh", "-c", "exit 42"}).status.code, 42);
    EXPECT_EQ(run_banger({"vm", "ssh", name, "--", "sh", "-c", "exit 255"}).status.code, 255);
    EXPECT_EQ(run_banger({"vm", "ssh", name, "--", "no-such-command"}).status.code, 127);
    EXPECT_EQ(
        output_of({"vm", "ssh", name, "--", "printf", "%s|", "a b", "it's", "", "$HOME", "*"}),
        "a b|it's||$HOME|*|");
    const CommandOutput split =
        run_banger({"vm", "ssh", name, "--", "sh", "-c", "echo out; echo err >&2"});
    EXPECT_EQ(split.standard_output, "out\n");
    EXPECT_EQ(split.standard_error, "err\n");

    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd input(ends[0]);
    UniqueFd feed(ends[1]);
    ASSERT_TRUE(write_all(feed.get(), "three\nlines\nhere\n"));
    feed.reset();
    Command count = banger_command({"vm", "ssh", name, "--", "wc", "-l"});
    count.standard_input = input.get();
    const Result<CommandOutput> counted = run_command(count, 60s, ByteCount::kib(4), {});
    ASSERT_TRUE(counted);
    EXPECT_EQ(counted->standard_output, "3\n");
}

TEST_F(Boot, ARepositoryGoesInAndAPatchComesOut) {
    const TempFolder folder;
    const auto here = [&](const std::string& script) {
        Command command;
        command.program = "/bin/sh";
        command.arguments = {"-c", "set -e; " + script};
        command.environment = minimal_environment();
        command.environment["HOME"] = folder.path();
        command.working_folder = folder.path();
        const Result<CommandOutput> output = run_command(command, 60s, ByteCount::mib(1), {});
        EXPECT_TRUE(output && output->status.is_success())
            << script << (output ? output->standard_error : "");
        return output ? output->standard_output : "";
    };
    here(
        "git init -q -b main repo; cd repo; git config user.name me; git config user.email m@e.x;"
        " seq 500 >numbers; echo one >a; printf '#!/bin/sh\\n' >run; chmod +x run; ln -s a link;"
        " git add .; git commit -qm one; echo edited >>a; rm run; echo u >untracked");
    const std::string name = named("holder");
    const CommandOutput run = run_banger({"vm", "run", folder / "repo", "--name", name, "--image",
                                          image_, "--", "git", "status", "--porcelain"});
    EXPECT_TRUE(run.status.is_success()) << run.standard_error;
    EXPECT_EQ(run.standard_output, " M a\n D run\n") << run.standard_error;
    EXPECT_EQ(output_of({"vm", "exec", name, "--", "pwd"}), "/root/repo");
    EXPECT_EQ(run_banger({"vm", "exec", name, "--", "sh", "-c", "kill -9 $$"}).status.code, 137);
    output_of(
        {"vm", "exec", name, "--", "sh", "-c",
         "echo 501 >>numbers; git mv link moved; git commit -qam two; printf '\\000' >binary"});
    output_of({"vm", "workspace", "export", name, "-o", folder / "patch"});
    EXPECT_EQ(here("git clone -q repo clean; cd clean; git apply ../patch; tail -1 numbers; cat a;"
                   " readlink moved; wc -c <binary; ls run link 2>/dev/null || true"),
              "501\none\nedited\na\n1\n");
}

TEST_F(Boot, StopLosesNothingAndStartIsANewBoot) {
    const std::string name = started("keeper");
    const std::string make =
        "mkdir -p /root/many /var/many && for i in $(seq 400); do echo $i > /root/many/$i; echo $i "
        "> /var/many/$i; done; "
        "cat /root/many/* /var/many/* | sha256sum; cat /proc/sys/kernel/random/boot_id";
    const std::string before = in_guest(name, make);
    output_of({"vm", "stop", name});
    EXPECT_EQ(state_of(name), "stopped");
    output_of({"vm", "start", name});
    const std::string after = in_guest(
        name, "cat /root/many/* /var/many/* | sha256sum; cat /proc/sys/kernel/random/boot_id");
    EXPECT_EQ(before.substr(0, 64), after.substr(0, 64));
    EXPECT_NE(before.substr(before.size() - 36), after.substr(after.size() - 36));
}

TEST_F(Boot, MachinesOutliveAKilledDaemon) {
    const std::string name = started("survivor");
    const ProcessId vmm = vmm_of(name);
    const std::string boot_id = in_guest(name, "cat /proc/sys/kernel/random/boot_id");
    ASSERT_TRUE(kill_and_wait(daemon()));
    EXPECT_EQ(in_guest(name, "cat /proc/sys/kernel/random/boot_id"), boot_id);
    EXPECT_EQ(vmm_of(name), vmm);
    output_of({"vm", "stop", name});
    EXPECT_FALSE(is_running(vmm));
}

TEST_F(Boot, AKilledVmmIsNoticedAndTheMachineStartsAgain) {
    const std::string name = started("phoenix");
    in_guest(name, "echo kept > /root/kept; sync");
    ASSERT_TRUE(kill_and_wait(vmm_of(name)));
    output_of({"vm", "start", name});
    EXPECT_EQ(in_guest(name, "cat /root/kept"), "kept");
    EXPECT_EQ(state_of(name), "running");
}

TEST_F(Boot, AnInterruptWhileCreatingLeavesNothing) {
    const Command command = banger_command(
        {"vm", "run", "--rm", "--name", named("never"), "--image", image_, "--", "true"});
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd says(ends[0]);
    UniqueFd writes(ends[1]);
    Command watched = command;
    watched.standard_error = writes.get();
    Result<Child> child = spawn(watched);
    ASSERT_TRUE(child);
    writes.reset();
    // The guest is about to boot when that stage is announced.
    std::string seen;
    char buffer[512];
    while (seen.find("booting") == seen.npos) {
        const ssize_t count = ::read(says.get(), buffer, sizeof buffer);
        ASSERT_GT(count, 0) << seen;
        seen.append(buffer, static_cast<std::size_t>(count));
    }
    ASSERT_TRUE(send_signal(child->pidfd(), SIGINT));
    const Result<ExitStatus> status = child->wait({});
    ASSERT_TRUE(status);
    EXPECT_EQ(status->code, 130) << status->text();
    EXPECT_EQ(output_of({"vm", "list", "--quiet"}), "");
}

TEST_F(Boot, TwoCreatesOfOneNameMakeOneMachine) {
    CommandOutput outputs[2];
    {
        std::vector<std::jthread> threads;
        for (CommandOutput& output : outputs)
            threads.emplace_back([&] {
                output =
                    run_banger({"vm", "create", "--no-start", "--name", "twin", "--image", image_});
            });
    }
    named("twin");
    const int successes = outputs[0].status.is_success() + outputs[1].status.is_success();
    EXPECT_EQ(successes, 1);
    const CommandOutput& loser = outputs[0].status.is_success() ? outputs[1] : outputs[0];
    EXPECT_NE(loser.standard_error.find("exists already"), std::string::npos)
        << loser.standard_error;
}

TEST_F(Boot, SshdIsAsTheSpecificationPinsIt) {
    const std::string name = started("pinned");
    const std::string effective = in_guest(name, "/usr/sbin/sshd -T");
    for (const char* line : {"permitrootlogin without-password", "pubkeyauthentication yes",
                             "passwordauthentication no", "kbdinteractiveauthentication no",
                             "authorizedkeysfile /root/.ssh/authorized_keys", "strictmodes yes"})
        EXPECT_NE(effective.find(line), std::string::npos) << line;
    EXPECT_EQ(
        in_guest(
            name,
            "stat -c %a /root /root/.ssh /root/.ssh/authorized_keys | tr '\\n' ' '; hostname; "
            "findmnt -no TARGET /root; test -d /lib/modules/$(uname -r)/kernel && echo modules"),
        "700 700 600 pinned\n/root\nmodules");
}

TEST_F(Boot, ALargerDiskIsLargerInTheGuest) {
    const std::string name = named("roomy");
    output_of({"vm", "create", "--name", name, "--image", image_, "--disk-size", "20G"});
    const std::string gib = in_guest(name, "df -B1G --output=size / /root | tail -n 2 | xargs");
    int root = 0;
    int work = 0;
    ASSERT_EQ(std::sscanf(gib.c_str(), "%d %d", &root, &work), 2) << gib;
    EXPECT_GE(root, 7) << "the image's file system fills the root disk";
    EXPECT_GE(work, 19) << "the file system of /root fills the disk that was asked for";
}

/// The VMM dies when the guest has begun to write its new work disk: the next boot begins again.
TEST_F(Boot, AFirstBootThatDiesIsDoneAgain) {
    const std::string name = named("again");
    output_of({"vm", "create", "--no-start", "--name", name, "--image", image_});
    const std::string id = output_of({"vm", "list", "--quiet"});
    const auto blocks = [&]() -> blkcnt_t {
        struct stat status {};
        for (const auto& entry : std::filesystem::recursive_directory_iterator(
                 cache_folder() + "/state/banger/plugins/storage-file"))
            if (entry.path().string().find("/" + id + "/work") != std::string::npos &&
                ::stat(entry.path().c_str(), &status) == 0)
                return status.st_blocks;
        return -1;
    };
    const blkcnt_t untouched = blocks();
    ASSERT_GE(untouched, 0) << "no work disk of " << id;
    Result<Child> start = spawn(banger_command({"vm", "start", name}));
    ASSERT_TRUE(start);
    while (blocks() == untouched)
        ASSERT_FALSE(*wait_for_exit(start->pidfd(), 10ms, {})) << "it was ready without a write";
    ASSERT_TRUE(kill_and_wait(vmm_of(name)));
    const Result<ExitStatus> status = start->wait({});
    ASSERT_TRUE(status);
    EXPECT_FALSE(status->is_success());
    output_of({"vm", "start", name});
    EXPECT_EQ(in_guest(name,
                       "mount --bind / /mnt && test -e /mnt/root/.bashrc && "
                       "diff -rq /mnt/root /root | grep -v '^Only in /root'; umount /mnt"),
              "");
}

TEST_F(Boot, TheConsoleIsShown) {
    const std::string name = started("loud");
    EXPECT_NE(output_of({"vm", "logs", name}), "");
}

}  // namespace
}  // namespace banger::boot

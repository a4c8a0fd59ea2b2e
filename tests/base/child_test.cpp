#include "core/base/child.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "core/base/process.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

using namespace std::chrono_literals;

Command shell(std::string script) {
    Command command;
    command.program = "/bin/sh";
    command.arguments = {"-c", std::move(script)};
    command.environment = minimal_environment();
    return command;
}

TEST(Child, OutputAndStatusComeBack) {
    const Result<CommandOutput> output =
        run_command(shell("echo out; echo err >&2; exit 3"), 30s, ByteCount::kib(4), {});
    ASSERT_TRUE(output);
    EXPECT_EQ(output->standard_output, "out\n");
    EXPECT_EQ(output->standard_error, "err\n");
    EXPECT_EQ(output->status, (ExitStatus{3, 0}));
}

TEST(Child, MoreThanTheLimitIsReadAndDropped) {
    const Result<CommandOutput> output =
        run_command(shell("head -c 300000 /dev/zero"), 30s, ByteCount::kib(1), {});
    ASSERT_TRUE(output);
    EXPECT_TRUE(output->status.is_success());
    EXPECT_EQ(output->standard_output.size(), 1024u);
}

TEST(Child, AMissingProgramIsNotFound) {
    Command command;
    command.program = "/nonexistent/program";
    EXPECT_EQ(spawn(command).error().code, Errc::not_found);
}

TEST(Child, InheritsNoDescriptorAndNoVariableThatWasNotNamed) {
    const UniqueFd leaky(::open("/dev/null", O_RDONLY));  // not close-on-exec on purpose
    ::setenv("BANGER_TEST_SECRET", "x", 1);
    const Result<CommandOutput> output =
        run_command(shell("ls /proc/self/fd | wc -l; echo ${BANGER_TEST_SECRET-none}"), 30s,
                    ByteCount::kib(4), {});
    ::unsetenv("BANGER_TEST_SECRET");
    ASSERT_TRUE(output);
    // 0, 1, 2 and the folder that ls itself has open.
    EXPECT_EQ(output->standard_output, "4\nnone\n");
}

TEST(Child, GetsTheDescriptorsThatWereNamed) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    Command command = shell("echo hello >&" + std::to_string(write_end.get()));
    command.inherited = {write_end.get()};
    Result<Child> child = spawn(command);
    ASSERT_TRUE(child);
    write_end.reset();
    EXPECT_EQ(*read_all(read_end.get(), ByteCount::kib(1)), "hello\n");
    EXPECT_TRUE(child->wait({})->is_success());
}

TEST(Child, CancelEndsTheWholeGroup) {
    const TempFolder folder;
    std::stop_source stop;
    Result<CommandOutput> output = Error(Errc::internal, "not run");
    std::jthread runner([&] {
        output = run_command(shell("sleep 1000 & echo $! > " + (folder / "pid") + "; touch " +
                                   (folder / "ready") + "; wait"),
                             1h, ByteCount::kib(1), stop.get_token());
    });
    while (!path_exists(folder / "ready"))
        std::this_thread::yield();
    const std::int64_t pid = std::stoll(*read_file(folder / "pid", ByteCount::kib(1)));
    const Result<ProcessId> grandchild = process_id_of(pid);
    ASSERT_TRUE(grandchild);
    const Result<UniqueFd> pidfd = open_pidfd(*grandchild);
    ASSERT_TRUE(pidfd);
    stop.request_stop();
    runner.join();
    ASSERT_FALSE(output);
    EXPECT_EQ(output.error().code, Errc::cancelled);
    // It was told to die before run_command() returned; when it is gone is up to the kernel.
    EXPECT_TRUE(wait_for_exit(*pidfd, 10s, {}).value_or(false));
}

TEST(Child, ADeadlineIsAnErrorOfItsOwn) {
    const Result<CommandOutput> output =
        run_command(shell("sleep 1000"), 50ms, ByteCount::kib(1), {});
    ASSERT_FALSE(output);
    EXPECT_EQ(output.error().code, Errc::timed_out);
}

TEST(Child, DestroyingARunningOneEndsIt) {
    ProcessId id;
    {
        Result<Child> child = spawn(shell("exec sleep 1000"));
        ASSERT_TRUE(child);
        id = child->id();
        EXPECT_TRUE(is_running(id));
    }
    EXPECT_FALSE(is_running(id));
}

TEST(Child, SignalIsToldFromExitStatus) {
    const Result<CommandOutput> output =
        run_command(shell("kill -9 $$"), 30s, ByteCount::kib(1), {});
    ASSERT_TRUE(output);
    EXPECT_EQ(output->status, (ExitStatus{0, SIGKILL}));
    EXPECT_EQ(output->status.text(), "killed by signal 9");
}

TEST(Command, TextIsQuotedForAShell) {
    Command command;
    command.program = "/bin/x";
    command.arguments = {"plain", "two words", "it's", ""};
    EXPECT_EQ(command.text(), "/bin/x plain 'two words' 'it'\\''s' ''");
}

TEST(FindProgram, FindsShAndNotNonsense) {
    EXPECT_TRUE(find_program("sh"));
    EXPECT_EQ(find_program("no-such-program-here").error().code, Errc::not_found);
}

TEST(Child, AFileCannotOutgrowItsLimitAndTheChildLives) {
    const TempFolder folder;
    Command command = shell("head -c 10000 /dev/zero >" + (folder / "file") + "; echo alive");
    command.file_size_limit = ByteCount::bytes(4096);
    const Result<CommandOutput> output = run_command(command, 30s, ByteCount::kib(4), {});
    ASSERT_TRUE(output);
    EXPECT_EQ(output->standard_output, "alive\n");
    const Result<std::string> content = read_file(folder / "file", ByteCount::kib(64));
    ASSERT_TRUE(content);
    EXPECT_EQ(content->size(), 4096u);
}

}  // namespace
}  // namespace banger

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "cli_fixture.hpp"
#include "core/base/daemon_mark.hpp"
#include "core/base/file.hpp"
#include "core/base/process.hpp"

namespace banger::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

/// banger installed beside a stub of bangerd.
class DaemonTest : public CliTest {
protected:
    DaemonTest() {
        program_ = folder_ / "bin/banger";
        install(BANGER_PROGRAM, program_);
        install(BANGER_STUB, folder_ / "bin/bangerd");
        environment_["BANGER_STUB_FOLDER"] = folder_.path();
        EXPECT_EQ(::mkfifo((folder_ / "lifeline").c_str(), 0600), 0);
        lifeline_.reset(::open((folder_ / "lifeline").c_str(), O_RDWR | O_CLOEXEC));
    }
    void plan(const std::string& word) {
        ASSERT_TRUE(write_file_atomic(folder_ / "plan", word, 0600));
    }
    [[nodiscard]] std::ptrdiff_t starts() const {
        const std::string text = read_file(folder_ / "starts", ByteCount::kib(64)).value_or("");
        return std::ranges::count(text, '\n');
    }

private:
    static void install(const std::string& from, const std::string& to) {
        const Result<std::string> bytes = read_file(from, ByteCount::gib(1));
        ASSERT_TRUE(bytes);
        ASSERT_TRUE(write_file_atomic(to, *bytes, 0700));
    }
    UniqueFd lifeline_;
};

TEST_F(DaemonTest, IsStartedByTheFirstCommandAndServesTheNext) {
    const Outcome first = run({"vm", "list", "-q"});
    EXPECT_EQ(first.status, 0) << first.err;
    EXPECT_EQ(first.out, sample_vm("sandbox").id + "\n");
    EXPECT_EQ(first.err, "");
    EXPECT_EQ(run({"vm", "list", "-q"}).status, 0);
    EXPECT_EQ(starts(), 1);
    EXPECT_EQ(read("state/banger/bangerd.log"), "");
}

TEST_F(DaemonTest, TenFirstCommandsAtOnceStartOne) {
    std::vector<Running> commands;
    for (int i = 0; i < 10; ++i)
        commands.push_back(start({"vm", "list", "-q"}));
    for (Running& command : commands) {
        const Outcome outcome = command.wait();
        EXPECT_EQ(outcome.status, 0) << outcome.err;
        EXPECT_EQ(outcome.out, sample_vm("sandbox").id + "\n");
    }
    EXPECT_EQ(starts(), 1);
}

TEST_F(DaemonTest, OneThatCannotStartSaysWhy) {
    plan("refuse");
    const Outcome outcome = run({"vm", "list"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.err, HasSubstr("bangerd did not start: the state folder is locked\n"));
}

TEST_F(DaemonTest, OneThatDiesAtStartShowsItsLog) {
    ASSERT_TRUE(ensure_folder(folder_ / "state/banger", 0700));
    ASSERT_TRUE(write_file_atomic(folder_ / "state/banger/bangerd.log", "of last week\n", 0600));
    plan("crash");
    const Outcome outcome = run({"vm", "list"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.err, HasSubstr("fatal: the disk is full"));
    EXPECT_THAT(outcome.err, Not(HasSubstr("of last week")));
    EXPECT_THAT(outcome.err, HasSubstr(folder_ / "state/banger/bangerd.log"));
}

TEST_F(DaemonTest, ACommandThatMeetsALeavingDaemonStartsTheNext) {
    plan("die-once");
    const Outcome outcome = run({"vm", "list", "-q"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out, sample_vm("sandbox").id + "\n");
    EXPECT_EQ(starts(), 2);
}

TEST_F(DaemonTest, ADaemonThatKeepsDyingIsReported) {
    plan("die");
    const Outcome outcome = run({"vm", "list"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.err, HasSubstr("bangerd went away during the call"));
    EXPECT_EQ(starts(), 2);
}

TEST_F(DaemonTest, AnIdleOneOfAnotherBuildIsReplaced) {
    plan("old");
    const Outcome outcome = run({"vm", "list", "-q"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    EXPECT_EQ(starts(), 2);
}

TEST_F(DaemonTest, ABusyOneOfAnotherBuildStaysAndIsMentioned) {
    daemon().set_version("0.0.1", "0000000");
    const Outcome outcome = run({"vm", "list"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_THAT(outcome.err, HasSubstr("note: bangerd is of another build (0.0.1, 0000000)"));
    EXPECT_EQ(starts(), 0);
}

TEST_F(DaemonTest, WithoutAProgramTheErrorSaysWhereItWasLookedFor) {
    ASSERT_TRUE(remove_file(folder_ / "bin/bangerd"));
    const Outcome outcome = run({"vm", "list"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.err, HasSubstr("bangerd is not beside banger"));
}

TEST_F(DaemonTest, VersionAndHelpStartNone) {
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{}, {"vm"}, {"vm", "run", "--help"}, {"version"}, {"--version"}})
        EXPECT_EQ(run(words).status, 0);
    EXPECT_EQ(starts(), 0);
    EXPECT_THAT(run({"version"}).out, HasSubstr("bangerd is not running\n"));
}

TEST_F(DaemonTest, DoctorStillExaminesWhenItCannotStart) {
    plan("refuse");
    const Outcome outcome = run({"doctor"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.out, HasSubstr("FAIL  bangerd"));
    EXPECT_THAT(outcome.out, HasSubstr("the state folder is locked"));
}

/// What makes a daemon ours is the state that it holds: a shell with another run folder has the
/// same.
TEST_F(DaemonTest, OneThatListensElsewhereIsFoundByItsState) {
    daemon().add(sample_vm("elsewhere"));
    ASSERT_TRUE(ensure_folder(folder_ / "other", 0700));
    environment_["XDG_RUNTIME_DIR"] = folder_ / "other";
    ASSERT_TRUE(ensure_folder(folder_ / "state/banger", 0700));
    const UniqueFd file(
        ::open((folder_ / "state/banger/bangerd.lock").c_str(), O_RDWR | O_CREAT, 0600));
    ASSERT_TRUE(write_daemon_mark(file.get(), {*process_id_of(::getpid()), socket_}));
    const Outcome outcome = run({"vm", "list", "-q"});
    EXPECT_EQ(outcome.out, sample_vm("elsewhere").id + "\n") << outcome.err;
    EXPECT_EQ(starts(), 0);
}

TEST_F(DaemonTest, OneThatHoldsTheStateButCannotBeReachedIsNamed) {
    ASSERT_TRUE(ensure_folder(folder_ / "state/banger", 0700));
    const UniqueFd file(
        ::open((folder_ / "state/banger/bangerd.lock").c_str(), O_RDWR | O_CREAT, 0600));
    const std::string pid = std::to_string(::getpid());
    ASSERT_TRUE(write_daemon_mark(file.get(), {*process_id_of(::getpid()), "/nowhere/x.sock"}));
    const Outcome outcome = run({"vm", "list", "-q"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.err,
                HasSubstr("bangerd (process " + pid + ") does not answer at /nowhere/x.sock"));
    EXPECT_THAT(outcome.err, HasSubstr("kill " + pid));
    // One that is gone is no obstacle.
    ASSERT_TRUE(write_daemon_mark(file.get(), {{::getpid(), 1}, "/nowhere/x.sock"}));
    EXPECT_EQ(run({"vm", "list", "-q"}).status, 0);
}

}  // namespace
}  // namespace banger::cli

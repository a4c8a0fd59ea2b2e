// Repositories through the real banger: a bangerd that is fake, and an ssh whose far side is a
// shell of this host, so that the guest is a folder.
#include <gmock/gmock.h>

#include "cli_fixture.hpp"
#include "core/base/file.hpp"

namespace banger::cli {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class WorkspaceCliTest : public CliTest {
protected:
    WorkspaceCliTest() {
        EXPECT_TRUE(ensure_folder(repository(), 0700));
        EXPECT_TRUE(write_file_atomic(folder_ / "home/.gitconfig",
                                      "[user]\n\tname = Ada\n\temail = ada@example.com\n", 0600));
        sh("git init -q -b main . && echo one >a && echo two >b && git add . && git commit -qm "
           "one");
    }
    [[nodiscard]] std::string repository() const { return folder_ / "repo"; }
    [[nodiscard]] std::string guest() const { return folder_ / "guest"; }
    std::string sh(const std::string& script, const std::string& where = {}) {
        Command command;
        command.program = "/bin/sh";
        command.arguments = {"-c", script};
        command.environment = environment_;
        command.working_folder = where.empty() ? repository() : where;
        const Result<CommandOutput> output =
            run_command(command, std::chrono::minutes(1), ByteCount::mib(1), {});
        EXPECT_TRUE(output && output->status.is_success()) << script;
        return output ? output->standard_output : "";
    }
    Outcome prepare(std::vector<std::string> more = {}) {
        std::vector<std::string> words = {"vm",         "workspace",    "prepare", "sandbox",
                                          repository(), "--guest-path", guest()};
        words.insert(words.end(), more.begin(), more.end());
        return run(words);
    }
};

TEST_F(WorkspaceCliTest, ADryRunListsFilesAndMakesNothing) {
    daemon();
    sh("echo u >untracked; rm b");
    const Outcome outcome = run({"vm", "run", repository(), "--dry-run"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.out, "a\n");
    EXPECT_THAT(outcome.err, HasSubstr("1 untracked file was left out"));
    EXPECT_EQ(run({"vm", "run", repository(), "--dry-run", "--include-untracked"}).out,
              "a\nuntracked\n");
    EXPECT_THAT(daemon().calls(), IsEmpty());
}

TEST_F(WorkspaceCliTest, WhatCannotBeCopiedIsRefusedBeforeAnythingIsMade) {
    daemon();
    struct Case {
        std::vector<std::string> words;
        int status;
        std::string expected;
    };
    for (const Case& each : std::vector<Case>{
             {{"--branch", "x"}, 2, "--branch needs PATH"},
             {{"--from", "HEAD"}, 2, "--from needs PATH"},
             {{"--include-untracked"}, 2, "--include-untracked needs PATH"},
             {{"--dry-run"}, 2, "--dry-run needs PATH"},
             {{repository(), "--from", "HEAD"}, 2, "--from needs --branch"},
             {{repository(), "--branch", "a..b"}, 2, "cannot be the name of a branch"},
             {{repository(), "--branch", "x", "--from", "nope"}, 125, "there is no commit"},
             {{folder_ / "home"}, 125, "is not in a git repository"},
             {{folder_ / "missing"}, 2, "there is no folder"}}) {
        std::vector<std::string> words = {"vm", "run"};
        words.insert(words.end(), each.words.begin(), each.words.end());
        const Outcome outcome = run(words);
        EXPECT_EQ(outcome.status, each.status) << testing::PrintToString(words);
        EXPECT_THAT(outcome.err, HasSubstr(each.expected));
    }
    EXPECT_THAT(daemon().calls(), IsEmpty());
}

TEST_F(WorkspaceCliTest, ToolsWithoutAWayOutAreRefused) {
    daemon();
    sh("echo 'go 1.22' >.tool-versions; git add .");
    const Outcome outcome = run({"vm", "run", repository(), "--", "true"});
    EXPECT_EQ(outcome.status, 125);
    EXPECT_THAT(outcome.err, HasSubstr("--nat"));
    EXPECT_THAT(outcome.err, HasSubstr("--no-bootstrap"));
    EXPECT_THAT(daemon().calls(), Not(Contains(HasSubstr("Create"))));
}

TEST_F(WorkspaceCliTest, InWorkedOnAndOutAgain) {
    daemon().add(sample_vm("sandbox"));
    ASSERT_EQ(prepare().status, 0);
    EXPECT_THAT(daemon().calls(), Contains("SetWorkspace " + sample_vm("sandbox").id));
    EXPECT_THAT(run({"vm", "list"}).out, HasSubstr(repository()));
    EXPECT_THAT(run({"vm", "show", "sandbox"}).out, HasSubstr(guest()));
    const Outcome where = run({"vm", "exec", "sandbox", "--", "sh", "-c", "pwd; echo three >>a"});
    EXPECT_EQ(where.out, guest() + "\n");
    EXPECT_EQ(where.err, "");

    const std::string patch = folder_ / "out.patch";
    const Outcome exported = run({"vm", "workspace", "export", "sandbox", "-o", patch});
    EXPECT_EQ(exported.status, 0) << exported.err;
    EXPECT_EQ(run({"vm", "workspace", "export", "sandbox"}).out, read("out.patch"));
    EXPECT_EQ(sh("git apply " + patch + " && cat a"), "one\nthree\n");
}

TEST_F(WorkspaceCliTest, ExecSaysWhenTheHostHasMovedOn) {
    daemon().add(sample_vm("sandbox"));
    ASSERT_EQ(prepare().status, 0);
    EXPECT_EQ(run({"vm", "exec", "sandbox", "--", "cat", "a"}).err, "");
    sh("echo edited >a");
    const Outcome edited = run({"vm", "exec", "sandbox", "--", "cat", "a"});
    EXPECT_EQ(edited.out, "one\n");
    EXPECT_THAT(edited.err, HasSubstr("have changed since it was copied"));
    EXPECT_EQ(run({"vm", "exec", "--auto-prepare", "sandbox", "--", "cat", "a"}).out, "edited\n");
    EXPECT_EQ(run({"vm", "exec", "sandbox", "--", "cat", "a"}).err, "");
    sh("git commit -qam two");
    EXPECT_THAT(run({"vm", "exec", "sandbox", "--", "true"}).err, HasSubstr("HEAD of"));
}

TEST_F(WorkspaceCliTest, WhatWasDoneInTheGuestIsKept) {
    daemon().add(sample_vm("sandbox"));
    ASSERT_EQ(prepare().status, 0);
    sh("echo mine >a", guest());
    sh("echo edited >a");
    const Outcome outcome = run({"vm", "exec", "--auto-prepare", "sandbox", "--", "cat", "a"});
    EXPECT_EQ(outcome.status, 125);
    EXPECT_THAT(outcome.err, HasSubstr("was changed in the guest"));
    EXPECT_EQ(prepare().status, 1);
    EXPECT_EQ(prepare({"--force"}).status, 0);
    EXPECT_EQ(sh("cat a", guest()), "edited\n");
}

TEST_F(WorkspaceCliTest, ExitStatusesAreTheCommands) {
    daemon().add(sample_vm("sandbox"));
    ASSERT_EQ(prepare().status, 0);
    const auto status = [&](const std::string& script) {
        return run({"vm", "exec", "sandbox", "--", "sh", "-c", script});
    };
    EXPECT_EQ(status("exit 42").status, 42);
    EXPECT_EQ(status("exit 255").status, 255);
    const Outcome killed = status("echo err >&2; kill -9 $$");
    EXPECT_EQ(killed.status, 137);
    EXPECT_EQ(killed.err, "err\n");
    EXPECT_EQ(run({"vm", "exec", "sandbox", "--", "no-such-command"}).status, 127);
    EXPECT_EQ(run({"vm", "exec", "sandbox"}).status, 2);
}

TEST_F(WorkspaceCliTest, ExportNeedsAWorkspaceAndLeavesNoHalfFile) {
    daemon().add(sample_vm("sandbox"));
    const std::string patch = folder_ / "out.patch";
    const Outcome none = run({"vm", "workspace", "export", "sandbox", "-o", patch});
    EXPECT_EQ(none.status, 1);
    EXPECT_THAT(none.err, HasSubstr("has no workspace"));
    ASSERT_EQ(prepare().status, 0);
    ASSERT_TRUE(remove_tree(guest()));
    const Outcome gone = run({"vm", "workspace", "export", "sandbox", "-o", patch});
    EXPECT_EQ(gone.status, 1);
    EXPECT_THAT(gone.err, HasSubstr("there is no " + guest()));
    for (const std::string& name : list_folder(folder_.path()).value())
        EXPECT_FALSE(name.starts_with("out.patch")) << name;
    EXPECT_EQ(run({"vm", "workspace", "export", "sandbox", "--base-commit", "$(x)"}).status, 2);
}

TEST_F(WorkspaceCliTest, AStoppedMachineIsStartedForAnExportWhenAskedTo) {
    daemon().add(sample_vm("sandbox"));
    ASSERT_EQ(prepare().status, 0);
    sh("echo three >>a", guest());
    ASSERT_EQ(run({"vm", "stop", "sandbox"}).status, 0);
    const Outcome refused = run({"vm", "workspace", "export", "sandbox"});
    EXPECT_EQ(refused.status, 1);
    EXPECT_THAT(refused.err, HasSubstr("sandbox is stopped\n"));
    EXPECT_THAT(refused.err, HasSubstr("banger vm workspace export sandbox --start"));

    const Outcome exported = run({"vm", "workspace", "export", "sandbox", "--start"});
    EXPECT_EQ(exported.status, 0) << exported.err;
    EXPECT_THAT(exported.out, HasSubstr("+three"));
    EXPECT_THAT(exported.err, HasSubstr("sandbox is stopped again\n"));
    EXPECT_THAT(run({"vm", "show", "sandbox"}).out, HasSubstr("stopped"));

    // Also when the export fails.
    ASSERT_TRUE(remove_tree(guest()));
    const Outcome failed = run({"vm", "workspace", "export", "sandbox", "--start", "-q"});
    EXPECT_EQ(failed.status, 1);
    EXPECT_THAT(failed.err, HasSubstr("there is no " + guest()));
    EXPECT_THAT(run({"vm", "show", "sandbox"}).out, HasSubstr("stopped"));

    // One that runs is left running.
    ASSERT_EQ(run({"vm", "start", "sandbox"}).status, 0);
    ASSERT_EQ(prepare().status, 0);
    EXPECT_EQ(run({"vm", "workspace", "export", "sandbox", "--start"}).err.find("again"),
              std::string::npos);
    EXPECT_THAT(run({"vm", "show", "sandbox"}).out, HasSubstr("running"));
}

TEST_F(WorkspaceCliTest, TheAgentIsLentOnRequestOnly) {
    daemon().add(sample_vm("sandbox"));
    environment_["SSH_AUTH_SOCK"] = folder_ / "agent";
    ASSERT_EQ(run({"vm", "ssh", "sandbox", "--", "true"}).status, 0);
    EXPECT_THAT(ssh_words(), Not(Contains("ForwardAgent=yes")));
    EXPECT_THAT(ssh_words(), Contains("ControlMaster=auto"));
    ASSERT_EQ(run({"vm", "ssh", "sandbox", "--forward-agent", "--", "true"}).status, 0);
    EXPECT_THAT(ssh_words(), Contains("ForwardAgent=yes"));
    // Not over a connection that others use.
    EXPECT_THAT(ssh_words(), Not(Contains("ControlMaster=auto")));
}

}  // namespace
}  // namespace banger::cli

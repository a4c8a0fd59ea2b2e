#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>
#include <vector>

#include "../base/temp_folder.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/workspace/copy_in.hpp"
#include "core/workspace/export_patch.hpp"

namespace banger::workspace {

/// A repository on the host, and a guest that is a folder: its shell is one of this host with a
/// HOME of its own.
class WorkspaceTest : public testing::Test {
protected:
    WorkspaceTest() {
        // As main() does: a guest that leaves is an error to see, not an end.
        std::signal(SIGPIPE, SIG_IGN);
        for (const char* name : {"home", "guest", "host", "scratch"})
            EXPECT_EQ(::mkdir((folder_ / name).c_str(), 0700), 0);
        EXPECT_EQ(::setenv("HOME", (folder_ / "home").c_str(), 1), 0);
        ::unsetenv("XDG_CONFIG_HOME");
        EXPECT_TRUE(write_file_atomic(folder_ / "home/.gitconfig",
                                      "[user]\n\tname = Ada\n\temail = ada@example.com\n", 0600));
        sh("git init -q -b main .");
        commit_all(
            "printf 'one\\n' >a; mkdir d; printf 'x\\n' >d/b; ln -s a link;"
            " printf '#!/bin/sh\\n' >run; chmod +x run; echo 'build/' >.gitignore");
    }

    /// A script in the host's repository; its output without the last newline.
    std::string sh(const std::string& script) { return run_in(folder_ / "host", script); }
    void commit_all(const std::string& script) {
        sh(script + "; git add -A; git commit -qm change");
    }
    /// The same in the guest's checkout.
    std::string guest_sh(const std::string& script) { return run_in(guest_path(), script, true); }
    [[nodiscard]] std::string guest_path() const { return folder_ / "guest/repo"; }

    [[nodiscard]] Command guest_command(const std::string& script) const {
        Command command;
        command.program = "/bin/sh";
        command.arguments = {"-c", script};
        command.environment = {{"HOME", folder_ / "guest"}, {"PATH", guest_programs_}};
        return command;
    }
    [[nodiscard]] GuestShell shell() const {
        return [this](const std::string& script) { return guest_command(script); };
    }
    /// A guest that runs this instead of what it is asked to.
    [[nodiscard]] GuestShell shell_that(const std::string& script) const {
        return [this, script](const std::string&) { return guest_command(script); };
    }

    [[nodiscard]] CopyRequest request() const {
        CopyRequest request;
        request.source = folder_ / "host";
        request.guest_path = guest_path();
        return request;
    }
    Result<CopyResult> copy(const CopyRequest& wanted) {
        Result<CopyPlan> plan = plan_copy(git_, wanted, {});
        if (!plan) return plan.error();
        plan_ = *plan;
        return copy_in(git_, *plan, shell(), folder_ / "scratch", {}, {});
    }
    void must_copy(const CopyRequest& wanted) {
        const Result<CopyResult> copied = copy(wanted);
        ASSERT_TRUE(copied) << copied.error().text();
    }
    Result<std::string> patch(const GuestShell& guest, ByteCount limit = ByteCount::mib(64)) {
        std::string text;
        const std::string base = plan_.base.empty() ? std::string(40, '0') : plan_.base;
        const Result<std::uint64_t> size = export_patch({guest_path(), base, limit}, guest,
                                                        [&](std::string_view part) {
                                                            text += part;
                                                            return ok();
                                                        },
                                                        {});
        if (!size) return size.error();
        EXPECT_EQ(*size, text.size());
        return text;
    }

    TempFolder folder_;
    HostGit git_ = HostGit::find().value();
    CopyPlan plan_;
    std::string guest_programs_ = "/usr/bin:/bin";

private:
    std::string run_in(const std::string& where, const std::string& script, bool is_guest = false) {
        Command command = guest_command(script);
        if (!is_guest) command.environment["HOME"] = folder_ / "home";
        command.working_folder = where;
        const Result<CommandOutput> output =
            run_command(command, std::chrono::minutes(2), ByteCount::mib(16), {});
        EXPECT_TRUE(output) << output.error().text();
        if (!output) return {};
        EXPECT_TRUE(output->status.is_success()) << script << "\n" << output->standard_error;
        std::string text = output->standard_output;
        if (text.ends_with('\n')) text.pop_back();
        return text;
    }
};

}  // namespace banger::workspace

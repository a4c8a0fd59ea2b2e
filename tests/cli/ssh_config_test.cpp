#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/ssh_config.hpp"
#include "cli_fixture.hpp"
#include "core/base/file.hpp"
#include "tests/support/golden.hpp"

namespace banger::cli {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

mode_t mode_of(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

TEST(SshConfigText, EntriesAreAsTheyAlwaysWere) {
    protocol::Vm stopped = sample_vm("stopped");
    stopped.ssh.reset();
    expect_golden("ssh_config.txt",
                  ssh_config_text({sample_vm("sandbox"), stopped},
                                  {"/keys/a \"100%\" key", "/known hosts", "vm"}));
}

TEST(SshConfigText, WhatIsNoPlainWordIsLeftOut) {
    std::vector<protocol::Vm> vms(4, sample_vm("sandbox"));
    vms[0].name = "x\nProxyCommand evil";
    vms[1].ssh->host = "127.0.0.1\n    ProxyCommand evil";
    vms[2].ssh->user = "root -o";
    vms[3].ssh->host_key_alias = "a b";
    EXPECT_THAT(ssh_config_text(vms, {"/k", "/h", "vm"}), Not(HasSubstr("Host ")));
}

TEST(SshConfigInclude, ComesAndGoesWithoutATrace) {
    for (const std::string before : {"", "Host a\n  User b\n", "no newline at the end", "\n\n"}) {
        for (const bool is_new : {false, true}) {
            const std::string with = *with_include(before, "Include x", is_new);
            EXPECT_TRUE(with.starts_with("# >>>")) << with;
            EXPECT_TRUE(with.ends_with("<<<\n" + before)) << with;
            EXPECT_THAT(with, HasSubstr("\nInclude x\n"));
            EXPECT_EQ(*with_include(with, "Include x", false), with) << "twice";
            EXPECT_EQ(without_include(with)->text, before);
            EXPECT_EQ(without_include(with)->was_ours, is_new);
        }
    }
    EXPECT_FALSE(without_include("# >>> banger ssh-config >>>\nInclude x\n"));
    EXPECT_FALSE(with_include("# >>> banger ssh-config >>>\n", "Include x", false));
}

class SshConfigTest : public CliTest {
protected:
    void SetUp() override { daemon().add(sample_vm("sandbox")); }
    std::string entries() { return read("config/banger/ssh_config"); }
    void write(const std::string& name, const std::string& text, mode_t mode) {
        ASSERT_TRUE(ensure_folder(parent_path(folder_ / name), 0700));
        ASSERT_TRUE(write_file_atomic(folder_ / name, text, mode));
    }
    const std::string config_ = folder_ / "home/.ssh/config";
};

TEST_F(SshConfigTest, AlonePrintsTheLineAndTouchesNothingOfTheUsers) {
    const Outcome outcome = run({"ssh-config"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.out, "Include \"" + (folder_ / "config/banger/ssh_config") + "\"\n");
    EXPECT_FALSE(path_exists(folder_ / "home/.ssh"));
    EXPECT_THAT(entries(), HasSubstr("\nHost sandbox.vm\n"));
    EXPECT_EQ(mode_of(folder_ / "config/banger/ssh_config"), 0600u);
    EXPECT_THAT(read("state/banger/ssh/known_hosts"), HasSubstr(sample_vm("sandbox").id));
}

TEST_F(SshConfigTest, WithoutTheDefaultFoldersMovedTheLineIsTheShortOne) {
    environment_.erase("XDG_CONFIG_HOME");
    EXPECT_EQ(run({"ssh-config"}).out, "Include ~/.config/banger/ssh_config\n");
}

TEST_F(SshConfigTest, InstallKeepsContentAndModeAndUninstallGivesBothBack) {
    for (const mode_t mode : {0600u, 0644u, 0640u}) {
        write("home/.ssh/config", "Host mine\n    User me", mode);
        EXPECT_EQ(run({"ssh-config", "--install"}).status, 0);
        EXPECT_THAT(read("home/.ssh/config"), HasSubstr("Include "));
        EXPECT_EQ(mode_of(config_), mode);
        const std::string once = read("home/.ssh/config");
        EXPECT_EQ(run({"ssh-config", "--install"}).status, 0);
        EXPECT_EQ(read("home/.ssh/config"), once);
        EXPECT_EQ(run({"ssh-config", "--uninstall"}).status, 0);
        EXPECT_EQ(read("home/.ssh/config"), "Host mine\n    User me");
        EXPECT_EQ(mode_of(config_), mode);
        EXPECT_FALSE(path_exists(folder_ / "config/banger/ssh_config"));
    }
    EXPECT_EQ(run({"ssh-config", "--uninstall"}).status, 0) << "twice";
}

TEST_F(SshConfigTest, AFileThatBangerMadeIsPrivateAndGoesAgain) {
    EXPECT_EQ(run({"ssh-config", "--install"}).status, 0);
    EXPECT_EQ(mode_of(config_), 0600u);
    EXPECT_EQ(mode_of(folder_ / "home/.ssh"), 0700u);
    EXPECT_EQ(run({"ssh-config", "--uninstall"}).status, 0);
    EXPECT_FALSE(path_exists(config_));
    // But not with something of the user's in it.
    EXPECT_EQ(run({"ssh-config", "--install"}).status, 0);
    write("home/.ssh/config", read("home/.ssh/config") + "Host mine\n", 0600);
    EXPECT_EQ(run({"ssh-config", "--uninstall"}).status, 0);
    EXPECT_EQ(read("home/.ssh/config"), "Host mine\n");
}

TEST_F(SshConfigTest, ALinkIntoDotfilesStaysALink) {
    write("home/dotfiles/ssh", "Host mine\n", 0644);
    ASSERT_TRUE(ensure_folder(folder_ / "home/.ssh", 0700));
    ASSERT_EQ(::symlink("../dotfiles/ssh", config_.c_str()), 0);
    EXPECT_EQ(run({"ssh-config", "--install"}).status, 0);
    struct stat status {};
    ASSERT_EQ(::lstat(config_.c_str(), &status), 0);
    EXPECT_TRUE(S_ISLNK(status.st_mode));
    EXPECT_THAT(read("home/dotfiles/ssh"), HasSubstr("Include "));
    EXPECT_EQ(mode_of(folder_ / "home/dotfiles/ssh"), 0644u);
    EXPECT_EQ(run({"ssh-config", "--uninstall"}).status, 0);
    EXPECT_EQ(read("home/dotfiles/ssh"), "Host mine\n");
}

TEST_F(SshConfigTest, AFileThatCannotBeWrittenGetsAnAnswerThatHelps) {
    ASSERT_TRUE(ensure_folder(folder_ / "home/.ssh", 0700));
    ASSERT_EQ(::symlink("/nonexistent/store/config", config_.c_str()), 0);
    const Outcome outcome = run({"ssh-config", "--install"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.err, HasSubstr("put this line at its top there: Include "));
    EXPECT_EQ(run({"ssh-config", "--install", "--uninstall"}).status, 2);
}

TEST_F(SshConfigTest, EntriesFollowTheMachinesButOnlyWhereSomebodyAskedForThem) {
    EXPECT_EQ(run({"vm", "run", "-d", "--name", "first"}).status, 0);
    EXPECT_FALSE(path_exists(folder_ / "config/banger/ssh_config"));
    EXPECT_EQ(run({"ssh-config", "--install"}).status, 0);
    EXPECT_THAT(entries(), HasSubstr("Host first.vm\n"));
    EXPECT_EQ(run({"vm", "run", "-d", "--name", "second"}).status, 0);
    EXPECT_THAT(entries(), HasSubstr("Host second.vm\n"));
    EXPECT_EQ(run({"vm", "delete", "first"}).status, 0);
    EXPECT_THAT(entries(), Not(HasSubstr("Host first.vm\n")));
    // While a session is open, too: an editor may want in.
    set_ssh_mode("hang");
    Running session = start({"vm", "run", "--name", "third"});
    wait_for_ssh();
    EXPECT_THAT(entries(), HasSubstr("Host third.vm\n"));
    session.signal(2);
    session.wait();
}

/// What the real ssh reads in it.
TEST_F(SshConfigTest, TheRealSshUnderstandsIt) {
    write("home/.ssh/config", "Host *\n    User nobody\n    ForwardAgent yes\n    Port 2222\n",
          0600);
    EXPECT_EQ(run({"ssh-config", "--install"}).status, 0);
    Command command;
    command.program = "/usr/bin/ssh";
    command.arguments = {"-G", "-F", config_, "sandbox.vm"};
    command.environment = environment_;
    const Result<CommandOutput> output = run_command(command, 30s, ByteCount::mib(1), {});
    ASSERT_TRUE(output) << output.error().text();
    const protocol::SshEndpoint endpoint = *sample_vm("sandbox").ssh;
    const std::string& text = output->standard_output;
    for (const std::string line : {"user root", "forwardagent no", "identitiesonly yes",
                                   "stricthostkeychecking true", "passwordauthentication no"})
        EXPECT_THAT(text, HasSubstr(line + "\n"));
    EXPECT_THAT(text, HasSubstr("hostname " + endpoint.host + "\n"));
    EXPECT_THAT(text, HasSubstr("port " + std::to_string(endpoint.port) + "\n"));
    EXPECT_THAT(text, HasSubstr("hostkeyalias " + endpoint.host_key_alias + "\n"));
    EXPECT_THAT(text,
                HasSubstr("userknownhostsfile " + (folder_ / "state/banger/ssh/known_hosts")));
    EXPECT_THAT(text, HasSubstr("identityfile " + (folder_ / "state/banger/ssh/id_ed25519")));
}

}  // namespace
}  // namespace banger::cli

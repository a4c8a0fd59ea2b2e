#include <gmock/gmock.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/report.hpp"
#include "cli_fixture.hpp"
#include "core/base/file.hpp"

namespace banger::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const PrivateWords someone = {"/home/alice", "alice", "wonderland"};

/// What must not be in a report, each in a line as a log or a file would have it.
const std::vector<std::pair<std::string, std::string>> planted = {
    {"hunter2", "password = \"hunter2\""},
    {"hunter3", "db_password: hunter3"},
    {"hunter4", "\"passphrase\": \"hunter4\", \"other\": 1"},
    {"s3cr3t-value", "plugin.x.api_key = \"s3cr3t-value\"   # /etc/banger/config.toml:3"},
    {"tok-1", "GITHUB_TOKEN=tok-1 banger"},
    {"opaque", "Authorization: Bearer opaque"},
    {"b3BhcXVl", "sent basic b3BhcXVlOm9wYXF1ZQ=="},
    {"ghp_16C7e42F", "cloning with ghp_16C7e42F292c6912E7710c838347Ae178B4a"},
    {"AKIAIOSFODNN7EXAMPLE", "key AKIAIOSFODNN7EXAMPLE was refused"},
    {"eyJhbGciOi", "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"},
    {"letmein", "pulling https://bob:letmein@registry.example.com/v2/x"},
    {"X-Sig", "GET https://example.com/blob?X-Sig=12ab&e=1"},
    {"AAAAC3Nza", "authorized ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ alice@wonderland"},
    {"9f86d081884c7d65", "digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"},
    {"alice", "alice opened /home/alice/x on wonderland"},
    {"wonderland", "host wonderland."},
    {"carol@", "Author: Carol <carol@example.org>"},
};

TEST(WithoutSecrets, TakesOutEachThatIsPlanted) {
    std::string all;
    for (const auto& [secret, line] : planted) {
        EXPECT_THAT(without_secrets(line, someone), Not(HasSubstr(secret))) << line;
        all += line + "\n";
    }
    const std::string cleaned = without_secrets(all, someone);
    for (const auto& [secret, line] : planted)
        EXPECT_THAT(cleaned, Not(HasSubstr(secret)));
    EXPECT_EQ(std::ranges::count(cleaned, '\n'), std::ranges::count(all, '\n'));
}

TEST(WithoutSecrets, TakesOutAKeyWhole) {
    const std::string text =
        "before\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\nAAAA\n-----END OPENSSH PRIVATE "
        "KEY-----\nafter\nkey: -----BEGIN RSA PRIVATE KEY-----\\nMIIE\\n-----END RSA PRIVATE "
        "KEY-----\nlast\n-----BEGIN cut off\nMIIE\n";
    EXPECT_EQ(without_secrets(text, someone),
              "before\n[key removed]\nafter\nkey: [key removed]\nlast\n[key removed]\n");
}

TEST(WithoutSecrets, LeavesWhatHelps) {
    const std::string text =
        "2026-11-23T18:40:07 info: machine brave-otter (5e0fb934dd66) runs, pid 4711\n"
        "PASS  qemu binary: /usr/bin/qemu-system-x86_64, QEMU emulator version 7.2.22\n"
        "ssh_key_path = \"/keys/id_ed25519\"   # default\n"
        "QEMU: could not set up host forwarding rule 'tcp:127.0.0.1:20000-:22'\n"
        "malice, alices and /home/alicent stay\n"
        "http://127.0.0.1:8080/v2/alpine/manifests/3.20 said 404\n";
    EXPECT_EQ(without_secrets(text, {"/home/bob", "alice", "wonder"}), text);
    EXPECT_EQ(without_secrets("root in /root on localhost", {"/home/x", "root", "localhost"}),
              "root in /root on localhost\n");
    EXPECT_LT(without_secrets(std::string(100000, 'x'), someone).size(), 1000U);
}

class ReportTest : public CliTest {
protected:
    void SetUp() override {
        daemon().add(sample_vm("sandbox"));
        ASSERT_TRUE(ensure_folder(folder_ / "state/banger", 0700));
        std::string log;
        for (int i = 0; i < 500; ++i)
            log += "old line " + std::to_string(i) + "\n";
        for (const auto& [secret, line] : planted)
            log += line + "\n";
        log += "opening " + folder_.path() + "/home/x\nthe last line\n";
        ASSERT_TRUE(write_file_atomic(folder_ / "state/banger/bangerd.log", log, 0600));
        environment_["DEPLOY_TOKEN"] = "from-the-environment";
        environment_["UNREMARKABLE"] = "from-the-environment-too";
    }
};

TEST_F(ReportTest, HasWhatABugReportNeedsAndNoSecret) {
    const Outcome outcome = run({"doctor", "--report"});
    EXPECT_EQ(outcome.status, 0);
    for (const char* title : {"## Versions", "## Host", "## Checks", "## Settings", "## Machines",
                              "## Last lines of the log"})
        EXPECT_THAT(outcome.out, HasSubstr(title));
    EXPECT_THAT(outcome.out, AllOf(HasSubstr("\nthe last line\n"), HasSubstr("kernel: Linux "),
                                   HasSubstr("WARN  kvm: "), HasSubstr("1 x running, ")));
    EXPECT_THAT(outcome.out, HasSubstr("opening ~/x\n"));
    EXPECT_THAT(outcome.out, Not(HasSubstr("old line 1\n")));
    EXPECT_THAT(outcome.out, Not(HasSubstr("from-the-environment")));
    // Who alice is, only she would know.
    for (const auto& [secret, line] : planted) {
        if (line.find("alice") != line.npos || line.find("wonderland") != line.npos) continue;
        EXPECT_THAT(outcome.out, Not(HasSubstr(secret)));
    }
    char host[256] = {};
    ASSERT_EQ(::gethostname(host, sizeof host - 1), 0);
    if (std::string_view(host).size() > 3 && std::string_view(host) != "localhost") {
        EXPECT_THAT(outcome.out, Not(HasSubstr(std::string(" ") + host + "\n")));
    }
    EXPECT_THAT(outcome.out, Not(HasSubstr(folder_ / "home")));
}

TEST_F(ReportTest, GoesIntoAFileOfItsOwner) {
    const std::string file = folder_ / "report.md";
    const Outcome outcome = run({"doctor", "--report", "-o", file});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr("read it before you send it"));
    EXPECT_THAT(read("report.md"), HasSubstr("## Versions"));
    struct stat status {};
    ASSERT_EQ(::stat(file.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600U);
    EXPECT_EQ(run({"doctor", "-o", file}).status, 2);
    EXPECT_EQ(run({"doctor", "--report", "-o", "/nonexistent/x"}).status, 1);
}

}  // namespace
}  // namespace banger::cli

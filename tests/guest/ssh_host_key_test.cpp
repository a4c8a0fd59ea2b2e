#include "core/guest/ssh_host_key.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::guest {
namespace {

TEST(SshHostKey, HasTheFormOfOpenSsh) {
    const Result<SshHostKey> key = generate_ssh_host_key("sandbox");
    ASSERT_TRUE(key);
    EXPECT_THAT(
        key->public_key,
        ::testing::MatchesRegex("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43} sandbox"));
    EXPECT_TRUE(key->private_key.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
    EXPECT_TRUE(key->private_key.ends_with("\n-----END OPENSSH PRIVATE KEY-----\n"));
    EXPECT_NE(generate_ssh_host_key("sandbox")->public_key, key->public_key);
}

/// ssh-keygen derives the public key from the private one: it reads the file and finds it whole.
TEST(SshHostKey, IsUnderstoodBySshKeygen) {
    if (!path_exists("/usr/bin/ssh-keygen")) GTEST_SKIP() << "needs ssh-keygen";
    for (const std::string comment : {"a", "sandbox", "a-much-longer-name-1234567890"}) {
        const TempFolder folder;
        const Result<SshHostKey> key = generate_ssh_host_key(comment);
        ASSERT_TRUE(key);
        ASSERT_TRUE(write_file_atomic(folder / "key", key->private_key, 0600));
        Command command;
        command.program = "/usr/bin/ssh-keygen";
        command.arguments = {"-y", "-f", folder / "key"};
        const Result<CommandOutput> derived =
            run_command(command, std::chrono::seconds(30), ByteCount::kib(4), {});
        ASSERT_TRUE(derived);
        EXPECT_EQ(derived->standard_output, key->public_key + "\n") << derived->standard_error;
    }
}

}  // namespace
}  // namespace banger::guest

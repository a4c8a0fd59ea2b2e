#include "daemons/vsock-agent/provision.hpp"

#include <gmock/gmock.h>

#include "tests/vsock-agent/root_fixture.hpp"

namespace banger::agent {
namespace {

using guest::GuestIdentity;
using ::testing::HasSubstr;

GuestIdentity identity() {
    return {.vm = *VmId::parse("0123456789ab"),
            .name = *VmName::parse("sandbox"),
            .machine_id = "00112233445546778899aabbccddeeff",
            .network = guest::GuestNetwork{*MacAddress::parse("02:1a:2b:3c:4d:5e"),
                                           *Ipv4Prefix::parse("10.0.2.15/24"),
                                           *Ipv4Address::parse("10.0.2.2"),
                                           {*Ipv4Address::parse("10.0.2.3")}},
            .authorized_keys = {"ssh-ed25519 AAAA owner"},
            .ssh_host_key = guest::SshHostKey{"private\n", "ssh-ed25519 BBBB sandbox"},
            .files = {{"/root/.netrc", 0600, 0, 0, "machine\n"},
                      {"/root/bin", 0750, 0, 0, "", true},
                      {"/root/bin/tool", 0755, 0, 0, "#!\n"}},
            .git = guest::GitIdentity{"Ann \"A\" Other", "ann@example.org"},
            .grow_disks = true};
}

class Provision : public RootTest {
protected:
    void SetUp() override {
        RootTest::SetUp();
        if (IsSkipped()) return;
        file("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n");
        folder("root");
    }
};

/// What sshd is told, to the letter: the product's promise about who gets in.
TEST(SshdDropIn, IsPinned) {
    EXPECT_EQ(sshd_drop_in(),
              "# Written by banger at every boot.\n"
              "PermitRootLogin prohibit-password\n"
              "PubkeyAuthentication yes\n"
              "PasswordAuthentication no\n"
              "KbdInteractiveAuthentication no\n"
              "AuthorizedKeysFile /root/.ssh/authorized_keys\n"
              "StrictModes yes\n");
}

TEST_F(Provision, WritesTheMachinesIdentity) {
    ASSERT_TRUE(provision(identity(), root()));
    EXPECT_EQ(content("etc/hostname"), "sandbox\n");
    EXPECT_THAT(content("etc/hosts"), HasSubstr("127.0.1.1\tsandbox\n"));
    EXPECT_THAT(content("etc/resolv.conf"), HasSubstr("nameserver 10.0.2.3\n"));
    EXPECT_EQ(content("etc/machine-id"), "00112233445546778899aabbccddeeff\n");
    EXPECT_EQ(content("etc/ssh/sshd_config.d/00-banger.conf"), sshd_drop_in());
    EXPECT_EQ(content("etc/tmpfiles.d/banger.conf"), "d /run/sshd 0755 root root -\n");
    EXPECT_EQ(content("root/.gitconfig"),
              "[user]\n\tname = \"Ann \\\"A\\\" Other\"\n\temail = \"ann@example.org\"\n");
    EXPECT_EQ(content("root/.hushlogin"), "");
    EXPECT_EQ(content("root/.netrc"), "machine\n");
    EXPECT_EQ(mode("root/.netrc"), 0600U);
    EXPECT_EQ(mode("root/bin"), 0750U);
    EXPECT_EQ(mode("root/bin/tool"), 0755U);
}

TEST_F(Provision, KeysHaveTheModesThatStrictModesWants) {
    ASSERT_EQ(chmod((folder_ / "root").c_str(), 0777), 0);
    file("root/.ssh/authorized_keys", "ssh-rsa CCCC mine", 0666);
    ASSERT_TRUE(provision(identity(), root()));
    EXPECT_EQ(mode("root"), 0700U);
    EXPECT_EQ(mode("root/.ssh"), 0700U);
    EXPECT_EQ(mode("root/.ssh/authorized_keys"), 0600U);
    EXPECT_EQ(content("root/.ssh/authorized_keys"), "ssh-rsa CCCC mine\nssh-ed25519 AAAA owner\n");
    ASSERT_TRUE(provision(identity(), root()));
    EXPECT_EQ(content("root/.ssh/authorized_keys"), "ssh-rsa CCCC mine\nssh-ed25519 AAAA owner\n");
}

TEST_F(Provision, HostKeysOfTheImageGo) {
    file("etc/ssh/ssh_host_rsa_key", "baked in", 0600);
    file("etc/ssh/ssh_host_rsa_key.pub", "baked in");
    file("etc/ssh/ssh_host_ed25519_key", "baked in", 0644);
    ASSERT_TRUE(provision(identity(), root()));
    EXPECT_FALSE(path_exists(folder_ / "etc/ssh/ssh_host_rsa_key"));
    EXPECT_FALSE(path_exists(folder_ / "etc/ssh/ssh_host_rsa_key.pub"));
    EXPECT_EQ(content("etc/ssh/ssh_host_ed25519_key"), "private\n");
    EXPECT_EQ(mode("etc/ssh/ssh_host_ed25519_key"), 0600U);
    EXPECT_EQ(content("etc/ssh/ssh_host_ed25519_key.pub"), "ssh-ed25519 BBBB sandbox\n");
}

TEST_F(Provision, AnSshdWithoutIncludeLearnsIt) {
    file("etc/ssh/sshd_config", "PermitRootLogin yes\n");
    ASSERT_TRUE(provision(identity(), root()));
    ASSERT_TRUE(provision(identity(), root()));
    EXPECT_EQ(content("etc/ssh/sshd_config"),
              "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin yes\n");
}

TEST_F(Provision, WhatTheOwnerChangedLaterStays) {
    ASSERT_TRUE(provision(identity(), root()));
    file("etc/hosts", "10.0.0.1 mine\n");
    file("root/.netrc", "edited\n");
    ASSERT_TRUE(remove_file(folder_ / "root/.hushlogin"));
    file("etc/hostname", "forged\n");
    ASSERT_TRUE(provision(identity(), root()));
    EXPECT_EQ(content("etc/hosts"), "10.0.0.1 mine\n");
    EXPECT_EQ(content("root/.netrc"), "edited\n");
    EXPECT_FALSE(path_exists(folder_ / "root/.hushlogin"));
    EXPECT_EQ(content("etc/hostname"), "sandbox\n") << "the name is banger's";
}

TEST_F(Provision, ACloneIsAnotherMachine) {
    ASSERT_TRUE(provision(identity(), root()));
    GuestIdentity other = identity();
    other.vm = *VmId::parse("ba9876543210");
    other.ssh_host_key = guest::SshHostKey{"other\n", "ssh-ed25519 DDDD other"};
    ASSERT_TRUE(provision(other, root()));
    EXPECT_EQ(content("etc/ssh/ssh_host_ed25519_key"), "other\n");
}

TEST_F(Provision, NetworkServicesOfTheImageLeaveTheInterfaceAlone) {
    file("usr/lib/systemd/systemd-networkd", "", 0755);
    folder("etc/NetworkManager");
    file("etc/network/interfaces", "auto eth0\niface eth0 inet dhcp\n");
    ASSERT_TRUE(provision(identity(), root()));
    EXPECT_EQ(content("etc/systemd/network/01-banger.network"),
              "[Match]\nMACAddress=02:1a:2b:3c:4d:5e\n\n[Link]\nUnmanaged=yes\n");
    EXPECT_THAT(content("etc/NetworkManager/conf.d/01-banger.conf"),
                HasSubstr("mac:02:1a:2b:3c:4d:5e"));
    EXPECT_THAT(content("etc/network/interfaces"), Not(HasSubstr("dhcp")));
}

TEST_F(Provision, AnEmptyImageGetsWhatItCanUse) {
    ASSERT_TRUE(remove_tree(folder_ / "etc"));
    ASSERT_TRUE(provision(identity(), root()));
    EXPECT_FALSE(path_exists(folder_ / "etc/ssh/sshd_config.d"));
    EXPECT_EQ(content("etc/hostname"), "sandbox\n");
}

TEST_F(Provision, OneFailureDoesNotStopTheRest) {
    folder("etc/hosts/in-the-way");
    const Result<void> done = provision(identity(), root());
    ASSERT_FALSE(done);
    EXPECT_THAT(done.error().message, HasSubstr("/etc/hosts"));
    EXPECT_EQ(content("etc/hostname"), "sandbox\n");
    EXPECT_EQ(content("root/.ssh/authorized_keys"), "ssh-ed25519 AAAA owner\n");
}

}  // namespace
}  // namespace banger::agent

#include <gmock/gmock.h>

#include "tests/net-bridge/subject.hpp"

/// The way out: another namespace plays a host beyond this one.
namespace banger {
namespace {

const Ipv4Address bridge_address = Ipv4Address::parse("172.16.0.1").value();
const Ipv4Address near_side = Ipv4Address::parse("198.51.100.1").value();
const Ipv4Address far_side = Ipv4Address::parse("198.51.100.2").value();

class Outside : public NamespaceTest {
protected:
    void SetUp() override {
        NamespaceTest::SetUp();
        if (IsSkipped() || HasFailure()) return;
        outside_.emplace();
        run({"ip", "link", "add", "out0", "type", "veth", "peer", "name", "eth0", "netns",
             outside_->path()});
        run({"ip", "address", "add", "198.51.100.1/24", "dev", "out0"});
        run({"ip", "link", "set", "out0", "up"});
        outside_->run([] {
            run({"ip", "address", "add", "198.51.100.2/24", "dev", "eth0"});
            run({"ip", "link", "set", "eth0", "up"});
            // Only a translated packet gets an answer: there is no way back to the guests.
        });
    }
    /// A socket of the world outside.
    UdpSocket far_socket(Ipv4Address address, std::uint16_t port) {
        std::optional<UdpSocket> socket;
        outside_->run([&] { socket.emplace(address, port); });
        return std::move(*socket);
    }
    /// Whether the guest's question gets out and the answer back.
    void expect_out(const Guest& guest) {
        const UdpSocket far = far_socket(far_side, 7);
        guest.send_udp(far_side, 7, "question");
        const std::optional<UdpPacket> question = far.receive();
        ASSERT_TRUE(question);
        EXPECT_EQ(question->text, "question");
        EXPECT_EQ(question->from, near_side) << "not translated";
        far.send(question->from, question->from_port, "answer");
        const std::optional<UdpPacket> answer = guest.receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->text, "answer");
    }

    std::optional<OtherNamespace> outside_;
    BridgeFixture bridge_;
};

TEST_F(Outside, OnlyWithNat) {
    const Guest with(bridge_.attach(0, true));
    const Guest without(bridge_.attach(1, false));
    {
        const UdpSocket far = far_socket(far_side, 7);
        without.send_udp(far_side, 7, "without");
        with.send_udp(far_side, 7, "with");
        EXPECT_EQ(far.receive()->text, "with");
    }
    expect_out(with);
}

TEST_F(Outside, NotAfterDetachAndAgainAfterAttach) {
    LinkRequest request = bridge_.request(0, true);
    const NetworkLink other = bridge_.attach(1, true);
    {
        const Guest guest(bridge_.network().attach(request, {}).value());
        expect_out(guest);
    }
    ASSERT_TRUE(bridge_.network().detach(request.vm));
    request.nat = false;
    {
        const Guest guest(bridge_.network().attach(request, {}).value());
        const Guest marker(other);
        const UdpSocket far = far_socket(far_side, 7);
        guest.send_udp({guest.link.address.address(), far_side, 4001, 7, "no more"});
        marker.send_udp(far_side, 7, "marker");
        EXPECT_EQ(far.receive()->text, "marker");
    }
    ASSERT_TRUE(bridge_.network().detach(request.vm));
    request.nat = true;
    expect_out(Guest(bridge_.network().attach(request, {}).value()));
}

TEST_F(Outside, TheWorldDoesNotReachAGuest) {
    const Guest guest(bridge_.attach(0, true));
    outside_->run([] { run({"ip", "route", "add", "172.16.0.0/24", "via", "198.51.100.1"}); });
    const UdpSocket far = far_socket(far_side, 9);
    far.send(guest.link.address.address(), 22, "knock");
    // The world may still use the host; once the host has answered, the knock has been dropped.
    const UdpSocket service(near_side, 8);
    far.send(near_side, 8, "to the host");
    EXPECT_EQ(service.receive()->text, "to the host");
    UdpSocket(bridge_address, 5000).send(guest.link.address.address(), 22, "marker");
    EXPECT_EQ(guest.receive()->text, "marker");
}

TEST_F(Outside, MetadataAndLinkLocalStayOutOfReach) {
    const std::vector<std::string> forbidden{"169.254.169.254", "169.254.1.1", "100.100.100.200",
                                             "168.63.129.16"};
    outside_->run([&] {
        for (const std::string& address : forbidden)
            run({"ip", "address", "add", address + "/32", "dev", "eth0"});
    });
    for (const std::string& address : forbidden)
        run({"ip", "route", "add", address + "/32", "via", "198.51.100.2"});
    const Guest guest(bridge_.attach(0, true));
    const UdpSocket far = far_socket(Ipv4Address(), 80);
    for (const std::string& address : forbidden)
        guest.send_udp(Ipv4Address::parse(address).value(), 80, address);
    guest.send_udp(far_side, 80, "marker");
    EXPECT_EQ(far.receive()->text, "marker");
}

/// A LAN beyond the host, with a name server in it.
class PrivateNetwork : public Outside {
protected:
    void SetUp() override {
        Outside::SetUp();
        if (IsSkipped() || HasFailure()) return;
        outside_->run([] {
            for (const char* address : {"10.1.2.3/32", "100.64.9.9/32", "172.31.0.1/32",
                                        "192.168.50.1/32", "192.168.50.53/32"})
                run({"ip", "address", "add", address, "dev", "eth0"});
        });
        for (const char* network :
             {"10.1.2.0/24", "100.64.9.0/24", "172.31.0.0/16", "192.168.50.0/24"})
            run({"ip", "route", "add", network, "via", "198.51.100.2"});
    }
    const Ipv4Address lan_ = Ipv4Address::parse("192.168.50.1").value();
    const Ipv4Address name_server_ = Ipv4Address::parse("192.168.50.53").value();
};

TEST_F(PrivateNetwork, IsOutOfReachAndTheGuestIsToldAtOnce) {
    const Guest guest(bridge_.attach(0, true));
    const UdpSocket far = far_socket(Ipv4Address(), 80);
    for (const char* address : {"10.1.2.3", "100.64.9.9", "172.31.0.1", "192.168.50.1"}) {
        const Ipv4Address there = Ipv4Address::parse(address).value();
        guest.send_udp(there, 80, "to the LAN");
        const std::optional<std::uint8_t> code = guest.receive_unreachable(there);
        ASSERT_TRUE(code) << address;
        EXPECT_EQ(*code, 13) << "administratively prohibited (RFC 1812)";
    }
    guest.send_udp(far_side, 80, "marker");
    EXPECT_EQ(far.receive()->text, "marker");
}

TEST_F(PrivateNetwork, ASettingOpensIt) {
    BridgeFixture bridge({{"allow_private_networks", true}});
    const Guest guest(bridge.attach(0, true));
    const UdpSocket far = far_socket(Ipv4Address(), 80);
    guest.send_udp(lan_, 80, "to the LAN");
    EXPECT_EQ(far.receive()->text, "to the LAN");
    // It opens nothing to a machine without --nat.
    const Guest without(bridge.attach(1, false));
    without.send_udp(lan_, 80, "without");
    guest.send_udp(far_side, 80, "marker");
    EXPECT_EQ(far.receive()->text, "marker");
}

TEST_F(PrivateNetwork, TheGuestsNameServerInItIsAskedForNamesAlone) {
    BridgeFixture bridge({{"guest_dns", name_server_.text()}});
    const Guest guest(bridge.attach(0, true));
    const Guest without(bridge.attach(1, false));
    const UdpSocket dns = far_socket(Ipv4Address(), 53);
    const UdpSocket other = far_socket(Ipv4Address(), 80);
    without.send_udp(name_server_, 53, "without");
    guest.send_udp(lan_, 53, "another name server");
    guest.send_udp(name_server_, 80, "another service");
    guest.send_udp(name_server_, 53, "question");
    EXPECT_EQ(dns.receive()->text, "question");
    guest.send_udp(far_side, 80, "marker");
    EXPECT_EQ(other.receive()->text, "marker");
}

TEST_F(Outside, ContainersOfTheHostStayOutOfReach) {
    // A bridge as Docker's, with a container, and a port that the host publishes for it.
    const OtherNamespace container;
    run({"ip", "link", "add", "docker0", "type", "bridge"});
    run({"ip", "address", "add", "172.17.0.1/16", "dev", "docker0"});
    run({"ip", "link", "set", "docker0", "up"});
    run({"ip", "link", "add", "veth0", "type", "veth", "peer", "name", "eth0", "netns",
         container.path()});
    run({"ip", "link", "set", "veth0", "master", "docker0", "up"});
    container.run([] {
        run({"ip", "address", "add", "172.17.0.2/16", "dev", "eth0"});
        run({"ip", "link", "set", "eth0", "up"});
        run({"ip", "route", "add", "default", "via", "172.17.0.1"});
    });
    run({"iptables", "-t", "nat", "-A", "PREROUTING", "-p", "udp", "--dport", "8080", "-j", "DNAT",
         "--to-destination", "172.17.0.2:80"});
    const Guest guest(bridge_.attach(0, true));
    std::optional<UdpSocket> service;
    container.run([&] { service.emplace(Ipv4Address(), 80); });
    guest.send_udp(Ipv4Address::parse("172.17.0.2").value(), 80, "directly");
    guest.send_udp(bridge_address, 8080, "published");
    guest.send_udp(near_side, 8080, "published");
    expect_out(guest);
    UdpSocket(Ipv4Address::parse("172.17.0.1").value(), 999)
        .send(Ipv4Address::parse("172.17.0.2").value(), 80, "marker");
    EXPECT_EQ(service->receive()->text, "marker");
}

TEST_F(Outside, ABridgeWithTheDefaultRouteIsAWayOut) {
    run({"ip", "link", "add", "br0", "type", "bridge"});
    run({"ip", "address", "flush", "dev", "out0"});
    run({"ip", "link", "set", "out0", "master", "br0"});
    run({"ip", "address", "add", "198.51.100.1/24", "dev", "br0"});
    run({"ip", "link", "set", "br0", "up"});
    run({"ip", "route", "add", "default", "via", "198.51.100.2"});
    expect_out(Guest(bridge_.attach(0, true)));
}

/// The FORWARD chain that drops by default, and the tools of its owner.
class DroppingForward : public Outside {
protected:
    void SetUp() override {
        Outside::SetUp();
        if (IsSkipped() || HasFailure()) return;
        run({"iptables", "-P", "FORWARD", "DROP"});
        run({"iptables", "-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT"});
    }
    static std::string forward_rules() { return run({"iptables", "-S"}); }
};

TEST_F(DroppingForward, RulesOfOursStandAtTheHeadAndGoWithTheLastMachine) {
    const std::string before = forward_rules();
    const Guest one(bridge_.attach(0, true));
    const Guest two(bridge_.attach(1, true));
    EXPECT_EQ(forward_rules(),
              "-P INPUT ACCEPT\n"
              "-P FORWARD DROP\n"
              "-P OUTPUT ACCEPT\n"
              "-A FORWARD -i banger0 -m comment --comment banger -j ACCEPT\n"
              "-A FORWARD -o banger0 -m comment --comment banger -j ACCEPT\n"
              "-A FORWARD -i docker0 -j ACCEPT\n")
        << "iptables must understand them";
    expect_out(one);
    expect_out(two);
    for (const Check& row : bridge_.network().checks({}))
        EXPECT_EQ(row.status, CheckStatus::pass) << row.detail;
    ASSERT_TRUE(bridge_.detach(one.link.vm));
    EXPECT_NE(forward_rules(), before);
    ASSERT_TRUE(bridge_.detach(two.link.vm));
    EXPECT_EQ(forward_rules(), before);
}

TEST_F(DroppingForward, WithoutNatNothingIsAdded) {
    const std::string before = forward_rules();
    (void)bridge_.attach(0, false);
    EXPECT_EQ(forward_rules(), before);
}

TEST_F(DroppingForward, DockersOwnChainIsUsedWhereItIs) {
    run({"iptables", "-N", "DOCKER-USER"});
    run({"iptables", "-A", "DOCKER-USER", "-j", "RETURN"});
    run({"iptables", "-I", "FORWARD", "-j", "DOCKER-USER"});
    const std::string before = forward_rules();
    const Guest guest(bridge_.attach(0, true));
    EXPECT_NE(forward_rules().find("-A DOCKER-USER -i banger0"), std::string::npos);
    EXPECT_EQ(forward_rules().find("-A FORWARD -i banger0"), std::string::npos);
    expect_out(guest);
    ASSERT_TRUE(bridge_.detach(guest.link.vm));
    EXPECT_EQ(forward_rules(), before);
}

TEST_F(DroppingForward, RulesThatWereFlushedAreReportedAndPutBack) {
    const NetworkLink link = bridge_.attach(0, true);
    run({"iptables", "-F", "FORWARD"});
    const auto status = [&] { return bridge_.network().checks({}).back().status; };
    EXPECT_EQ(status(), CheckStatus::warn);
    ASSERT_TRUE(bridge_.network().recover({&link, 1}));
    EXPECT_EQ(status(), CheckStatus::pass);
    expect_out(Guest(link));
}

TEST_F(Outside, AnotherTablesDropIsReportedWithTheRemedy) {
    run({"nft", "add", "table", "inet", "filter"});
    run({"nft", "add", "chain", "inet", "filter", "forward",
         "{ type filter hook forward priority filter; policy drop; }"});
    const NetworkLink link = bridge_.attach(0, true);
    const Check row = bridge_.network().checks({}).back();
    EXPECT_EQ(row.status, CheckStatus::warn);
    EXPECT_THAT(row.detail, testing::HasSubstr("inet filter forward"));
    EXPECT_THAT(row.remedy, testing::HasSubstr("iifname \"banger0\" accept"));
    // Following it helps, and is seen.
    run({"nft", "add", "rule", "inet", "filter", "forward", "iifname", "banger0", "accept"});
    run({"nft", "add", "rule", "inet", "filter", "forward", "oifname", "banger0", "ct", "state",
         "established,related", "accept"});
    EXPECT_EQ(bridge_.network().checks({}).back().status, CheckStatus::pass);
    expect_out(Guest(link));
}

}  // namespace
}  // namespace banger

#include <gmock/gmock.h>
#include <sys/socket.h>

#include "tests/net-bridge/subject.hpp"

/// What a hostile guest can and cannot do on the bridge. A frame that must not arrive is followed
/// by one that must: when that one is there, the other was dropped.
namespace banger {
namespace {

const Ipv4Address host = Ipv4Address::parse("172.16.0.1").value();
const MacAddress foreign_mac = MacAddress::parse("02:de:ad:be:ef:01").value();

class Traffic : public NamespaceTest {
protected:
    void SetUp() override {
        NamespaceTest::SetUp();
        if (IsSkipped() || HasFailure()) return;
        one_.emplace(bridge_.attach(0));
        two_.emplace(bridge_.attach(1));
    }
    /// What arrives at the host's DNS port after `attempt`: the first packet's text.
    std::string first_at_host(const std::function<void()>& attempt) {
        const UdpSocket dns(host, 53);
        attempt();
        one_->send_udp(host, 53, "marker");
        const std::optional<UdpPacket> packet = dns.receive();
        return packet ? packet->text : "nothing";
    }
    Ipv4Address ip(const Guest& guest) const { return guest.link.address.address(); }

    BridgeFixture bridge_;
    std::optional<Guest> one_;
    std::optional<Guest> two_;
};

TEST_F(Traffic, DnsAtTheBridgeReachesTheHost) {
    const UdpSocket dns(host, 53);
    one_->send_udp(host, 53, "question");
    const std::optional<UdpPacket> question = dns.receive();
    ASSERT_TRUE(question);
    EXPECT_EQ(question->text, "question");
    dns.send(question->from, question->from_port, "answer");
    const std::optional<UdpPacket> answer = one_->receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->text, "answer");
}

TEST_F(Traffic, OtherPortsOfTheHostAreClosed) {
    const UdpSocket service(Ipv4Address(), 8080);
    run({"ip", "link", "add", "lan0", "type", "veth"});
    run({"ip", "address", "add", "192.168.7.1/24", "dev", "lan0"});
    run({"ip", "address", "add", "169.254.169.254/32", "dev", "lan0"});
    run({"ip", "link", "set", "lan0", "up"});
    EXPECT_EQ(first_at_host([&] {
                  for (const char* text : {"172.16.0.1", "192.168.7.1", "169.254.169.254",
                                           "127.0.0.1", "255.255.255.255", "172.16.0.255"})
                      one_->send_udp(Ipv4Address::parse(text).value(), 8080, text);
              }),
              "marker");
    UdpSocket(host, 999).send(host, 8080, "from the host itself");
    EXPECT_EQ(service.receive()->text, "from the host itself") << "nothing of the guest's before";
}

TEST_F(Traffic, DnsIsServedAtTheBridgeAddressAlone) {
    run({"ip", "link", "add", "lan0", "type", "veth"});
    run({"ip", "address", "add", "192.168.7.1/24", "dev", "lan0"});
    run({"ip", "link", "set", "lan0", "up"});
    const Ipv4Address lan = Ipv4Address::parse("192.168.7.1").value();
    const UdpSocket dns(Ipv4Address(), 53);
    one_->send_udp(lan, 53, "the host's other address");
    one_->send_udp(host, 53, "marker");
    EXPECT_EQ(dns.receive()->text, "marker");
}

TEST_F(Traffic, TheHostReachesTheGuestAndGetsTheReply) {
    const UdpSocket client(host, 5000);
    client.send(ip(*one_), 22, "hello");
    const std::optional<UdpPacket> hello = one_->receive();
    ASSERT_TRUE(hello);
    EXPECT_EQ(hello->text, "hello");
    one_->send_udp({ip(*one_), hello->from, 22, hello->from_port, "reply"});
    const std::optional<UdpPacket> reply = client.receive();
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->text, "reply");
    // The same conversation, and no other.
    const UdpSocket other(host, 5001);
    one_->send_udp({ip(*one_), host, 22, 5001, "uninvited"});
    one_->send_udp({ip(*one_), host, 22, 5000, "marker"});
    EXPECT_EQ(client.receive()->text, "marker");
    UdpSocket(host, 999).send(host, 5001, "from the host itself");
    EXPECT_EQ(other.receive()->text, "from the host itself");
}

TEST_F(Traffic, ASpoofedAddressIsDropped) {
    EXPECT_EQ(
        first_at_host([&] {
            for (const Ipv4Address from : {ip(*two_), host, Ipv4Address(), Ipv4Address(0x7f000001),
                                           Ipv4Address::parse("172.16.0.99").value()})
                one_->send_udp({from, host, 4000, 53, "spoofed"});
        }),
        "marker");
}

TEST_F(Traffic, ASpoofedMacIsDropped) {
    EXPECT_EQ(first_at_host([&] {
                  for (const MacAddress& from : {two_->link.mac, foreign_mac, one_->host_mac})
                      one_->send(ethernet(one_->host_mac, from, 0x0800,
                                          udp({ip(*one_), host, 4000, 53, "spoofed"})));
              }),
              "marker");
    EXPECT_EQ(run({"bridge", "fdb", "show", "br", "banger0"}).find(foreign_mac.text()),
              std::string::npos);
}

TEST_F(Traffic, FramesThatPassABridgeByAreDropped) {
    // 01:80:c2:00:00:0x is handed to the host as coming from the port, not from the bridge.
    const UdpSocket service(Ipv4Address(), 8080);
    for (int i = 0; i < 16; ++i) {
        char group[18];
        std::snprintf(group, sizeof group, "01:80:c2:00:00:%02x", i);
        one_->send(ethernet(MacAddress::parse(group).value(), one_->link.mac, 0x0800,
                            udp({ip(*one_), host, 4000, 8080, "by the back door"})));
    }
    EXPECT_EQ(first_at_host([] {}), "marker");
    UdpSocket(host, 999).send(host, 8080, "from the host itself");
    EXPECT_EQ(service.receive()->text, "from the host itself");
}

TEST_F(Traffic, TaggedFramesAndIpv6AreDropped) {
    const std::string inner = udp({ip(*two_), host, 4000, 53, "tagged"});
    const std::string tag("\x00\x00\x08\x00", 4);
    EXPECT_EQ(first_at_host([&] {
                  one_->send(ethernet(one_->host_mac, one_->link.mac, 0x8100, tag + inner));
                  one_->send(ethernet(one_->host_mac, one_->link.mac, 0x88a8, tag + inner));
                  one_->send(ethernet(one_->host_mac, one_->link.mac, 0x86dd,
                                      "\x60" + std::string(59, '\0')));
              }),
              "marker");
    const std::string counters = run({"nft", "list", "table", "inet", "banger"});
    EXPECT_NE(counters.find("nfproto ipv6 drop"), std::string::npos);
}

TEST_F(Traffic, SpoofedArpIsDropped) {
    const MacAddress nobody = MacAddress::parse("00:00:00:00:00:00").value();
    // As itself, but for somebody else's address; and with somebody else's hardware address inside.
    one_->send(ethernet(broadcast_mac, one_->link.mac, 0x0806,
                        arp(2, one_->link.mac, ip(*two_), nobody, host)));
    one_->send(ethernet(one_->host_mac, one_->link.mac, 0x0806,
                        arp(2, foreign_mac, ip(*one_), one_->host_mac, host)));
    one_->ask_for_host(one_->link.mac, ip(*two_), host);
    one_->ask_for_host(foreign_mac, ip(*one_), host);
    EXPECT_EQ(first_at_host([] {}), "marker");
    const std::string neighbours = run({"ip", "neighbour", "show", "dev", "banger0"});
    EXPECT_EQ(neighbours.find(foreign_mac.text()), std::string::npos) << neighbours;
    EXPECT_EQ(neighbours.find(ip(*two_).text() + " lladdr " + one_->link.mac.text()),
              std::string::npos)
        << neighbours;
}

TEST_F(Traffic, TheHostsOtherAddressesCannotBeAskedFor) {
    run({"ip", "link", "add", "lan0", "type", "veth"});
    run({"ip", "address", "add", "192.168.7.1/24", "dev", "lan0"});
    run({"ip", "link", "set", "lan0", "up"});
    const UdpSocket client(host, 5000);
    one_->ask_for_host(one_->link.mac, ip(*one_), Ipv4Address::parse("192.168.7.1").value());
    one_->ask_for_host(one_->link.mac, ip(*one_), host);
    const std::optional<Frame> answer = one_->receive_frame();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->substr(28, 4), std::string("\xac\x10\x00\x01", 4))
        << "172.16.0.1 answered first";
}

TEST_F(Traffic, GuestsDoNotReachEachOther) {
    const std::string hello = udp({ip(*one_), ip(*two_), 4000, 22, "hello"});
    one_->send(ethernet(two_->link.mac, one_->link.mac, 0x0800, hello));  // directly
    one_->send(ethernet(broadcast_mac, one_->link.mac, 0x0800, hello));
    one_->send(ethernet(one_->host_mac, one_->link.mac, 0x0800, hello));  // through the host
    run({"sysctl", "-w", "net.ipv4.ip_forward=1"});
    one_->send(ethernet(one_->host_mac, one_->link.mac, 0x0800, hello));
    EXPECT_EQ(first_at_host([] {}), "marker");
    UdpSocket(host, 5000).send(ip(*two_), 22, "marker");
    EXPECT_EQ(two_->receive()->text, "marker");
}

TEST_F(Traffic, AGuestDoesNotSeeWhatTheHostTellsAnother) {
    UdpSocket(host, 5000).send(ip(*two_), 22, "secret");
    EXPECT_EQ(two_->receive()->text, "secret");
    UdpSocket(host, 5000).send(ip(*one_), 22, "marker");
    EXPECT_EQ(one_->receive()->text, "marker");
}

TEST_F(Traffic, ADetachedGuestsDeviceIsDead) {
    ASSERT_TRUE(bridge_.network().detach(one_->link.vm));
    const UdpSocket dns(host, 53);
    two_->send_udp(host, 53, "the other one goes on");
    EXPECT_EQ(dns.receive()->text, "the other one goes on");
}

}  // namespace
}  // namespace banger

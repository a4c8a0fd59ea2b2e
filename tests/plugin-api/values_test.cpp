#include "banger/values.hpp"

#include <gtest/gtest.h>

#include <set>

#include "banger/plugin.hpp"

namespace banger {
namespace {

TEST(VmName, TakesWhatADnsLabelTakes) {
    for (const char* good : {"a", "sandbox", "a-1", "1a", "x--y"})
        EXPECT_TRUE(VmName::parse(good)) << good;
    EXPECT_TRUE(VmName::parse(std::string(63, 'a')));
}

TEST(VmName, RefusesEverythingElse) {
    for (const char* bad : {"", "-a", "a-", "A", "a_b", "a.b", "a b", "123", "host", "localhost",
                            "a\nb", "ä", "../x"})
        EXPECT_FALSE(VmName::parse(bad)) << bad;
    EXPECT_FALSE(VmName::parse(std::string(64, 'a')));
    EXPECT_FALSE(VmName::parse(std::string_view("a\0b", 3)));
}

TEST(VmName, AMessageNeverCarriesControlCharactersOn) {
    EXPECT_EQ(VmName::parse("\x1b[2Jx").error().message, "\"?[2Jx\" is not a machine name");
}

TEST(VmId, RandomOnesAreValidAndDiffer) {
    std::set<std::string> seen;
    for (int i = 0; i < 100; ++i) {
        const VmId id = VmId::random();
        EXPECT_TRUE(VmId::parse(id.str()));
        seen.insert(id.str());
    }
    EXPECT_EQ(seen.size(), 100u);
}

TEST(ByteCount, ReadsWhatPeopleType) {
    EXPECT_EQ(*ByteCount::parse("16G"), ByteCount::gib(16));
    EXPECT_EQ(*ByteCount::parse("512M"), ByteCount::mib(512));
    EXPECT_EQ(*ByteCount::parse("4GiB"), ByteCount::gib(4));
    EXPECT_EQ(*ByteCount::parse("4gb"), ByteCount::gib(4));
    EXPECT_EQ(*ByteCount::parse("2048"), ByteCount::mib(2048));
    EXPECT_EQ(*ByteCount::parse("1.5G"), ByteCount::mib(1536));
    EXPECT_EQ(*ByteCount::parse("100b"), ByteCount::bytes(100));
}

TEST(ByteCount, RefusesWhatIsNoSize) {
    for (const char* bad :
         {"", "0", "0G", "-1", "-1G", "G", "1X", "1GG", "1.G", ".5G", "1.2.3G", " 1G", "1 G",
          "99999999999999999999", "9223372036854775808b", "8388608T", "1e3"})
        EXPECT_FALSE(ByteCount::parse(bad)) << bad;
}

TEST(ByteCount, IsShownForPeople) {
    EXPECT_EQ(ByteCount::gib(8).text(), "8 GiB");
    EXPECT_EQ(ByteCount::mib(1536).text(), "1.5 GiB");
    EXPECT_EQ(ByteCount::bytes(17).text(), "17 B");
}

TEST(Ipv4Address, GoesBothWaysAndIsStrict) {
    EXPECT_EQ(Ipv4Address::parse("172.16.0.1")->text(), "172.16.0.1");
    for (const char* bad : {"", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4 ",
                            "a.b.c.d", "1..2.3", "-1.2.3.4"})
        EXPECT_FALSE(Ipv4Address::parse(bad)) << bad;
}

TEST(Ipv4Prefix, KnowsItsEdges) {
    const Ipv4Prefix prefix = *Ipv4Prefix::parse("172.16.0.1/24");
    EXPECT_EQ(prefix.network().text(), "172.16.0.0");
    EXPECT_EQ(prefix.broadcast().text(), "172.16.0.255");
    EXPECT_TRUE(prefix.contains(*Ipv4Address::parse("172.16.0.77")));
    EXPECT_FALSE(prefix.contains(*Ipv4Address::parse("172.16.1.1")));
    EXPECT_TRUE(prefix.overlaps(*Ipv4Prefix::parse("172.16.0.0/12")));
    EXPECT_FALSE(prefix.overlaps(*Ipv4Prefix::parse("10.0.0.0/8")));
    EXPECT_TRUE(Ipv4Prefix::parse("0.0.0.0/0")->contains(*Ipv4Address::parse("9.9.9.9")));
    for (const char* bad : {"1.2.3.4", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "/24"})
        EXPECT_FALSE(Ipv4Prefix::parse(bad)) << bad;
}

TEST(MacAddress, OfAMachineIsLocalAndUnicast) {
    for (int i = 0; i < 50; ++i) {
        const MacAddress mac = MacAddress::of(VmId::random());
        EXPECT_EQ(mac.octets()[0] & 3, 2);
        EXPECT_EQ(*MacAddress::parse(mac.text()), mac);
    }
    for (const char* bad : {"", "02:1a:2b:3c:4d", "02-1a-2b-3c-4d-5e", "02:1a:2b:3c:4d:5g"})
        EXPECT_FALSE(MacAddress::parse(bad)) << bad;
}

TEST(Digest, IsShaTwoFiftySixOnly) {
    const std::string hex(64, 'a');
    EXPECT_EQ(Digest::parse("sha256:" + hex)->hex(), hex);
    EXPECT_FALSE(Digest::parse("sha512:" + hex));
    EXPECT_FALSE(Digest::parse("sha256:" + std::string(64, 'A')));
    EXPECT_FALSE(Digest::parse(hex));
}

TEST(Role, WordsGoBothWays) {
    for (Role role :
         {Role::network, Role::dns, Role::storage, Role::image_source, Role::vm_backend})
        EXPECT_EQ(parse_role(to_string(role)), role);
}

}  // namespace
}  // namespace banger

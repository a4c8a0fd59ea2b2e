#include "plugins/net-bridge/ruleset.hpp"

#include <gmock/gmock.h>

#include "plugins/net-bridge/bridge_network.hpp"
#include "plugins/net-bridge/link_record.hpp"
#include "plugins/net-bridge/subnet.hpp"
#include "tests/support/golden.hpp"

namespace banger {
namespace {

Ipv4Prefix prefix(std::string_view text) { return Ipv4Prefix::parse(text).value(); }
Ipv4Address address(std::string_view text) { return Ipv4Address::parse(text).value(); }
VmId vm(std::string_view text) { return VmId::parse(text).value(); }

RulesetPlan plan() {
    RulesetPlan plan{"banger0", prefix("172.16.0.1/24"), address("1.1.1.1"), false, false, {}, {}};
    plan.links = {{vm("000000000001"), "bgr-00000000001", MacAddress::of(vm("000000000001")),
                   address("172.16.0.5"), false},
                  {vm("000000000002"), "bgr-00000000002", MacAddress::of(vm("000000000002")),
                   address("172.16.0.6"), true}};
    return plan;
}

TEST(Ruleset, TwoMachinesOneWithNat) { expect_golden("two.nft", ruleset(plan())); }

TEST(Ruleset, EverySettingTheOtherWay) {
    RulesetPlan other = plan();
    other.bridge = "banger-x";
    other.address = prefix("10.9.8.1/22");
    other.allow_guest_to_guest = true;
    other.allow_private_networks = true;
    other.outside_bridges = {"br0", "br1"};
    other.links.clear();
    expect_golden("other.nft", ruleset(other));
}

TEST(LinkRecord, GoesBothWays) {
    LinkRecord record{LinkRecord::State::made,
                      vm("0123456789ab"),
                      "bgr-0123456789a",
                      17,
                      4294967295u,
                      MacAddress::of(vm("0123456789ab")),
                      address("172.16.0.5"),
                      true};
    for (const auto state :
         {LinkRecord::State::making, LinkRecord::State::made, LinkRecord::State::leaving}) {
        record.state = state;
        EXPECT_EQ(*parse_link(format_link(record)), record);
    }
    EXPECT_EQ(key_of(record.vm), "vm-0123456789ab");
}

TEST(LinkRecord, DamageIsRefused) {
    const std::string good =
        format_link({LinkRecord::State::making, vm("0123456789ab"), "bgr-0", 3, 1000,
                     MacAddress::of(vm("0123456789ab")), address("172.16.0.5"), false});
    ASSERT_TRUE(parse_link(good));
    for (std::size_t length = 0; length < good.size(); ++length)
        EXPECT_EQ(parse_link(good.substr(0, length)).error().code, Errc::corrupt) << length;
    EXPECT_FALSE(parse_link(good + "more 1\n"));
    const auto with = [&](const std::string& from, const std::string& to) {
        std::string text = good;
        return parse_link(text.replace(text.find(from), from.size(), to));
    };
    EXPECT_FALSE(with("index 3", "index -3"));
    EXPECT_FALSE(with("index 3", "index 99999999999"));
    EXPECT_FALSE(with("index 3", "index "));
    EXPECT_FALSE(with("owner 1000", "owner 4294967296"));
    EXPECT_FALSE(with("nat no", "nat maybe"));
    EXPECT_FALSE(with("device bgr-0", "device bgr-0123456789abcdef"));
    EXPECT_FALSE(with("0123456789ab", "../../etc/pass"));
}

TEST(Subnet, AClashIsAnythingThatSharesAddressesButTheDefaultRoute) {
    const Ipv4Prefix wanted = prefix("172.16.0.1/24");
    EXPECT_FALSE(clash_of(wanted, {}));
    EXPECT_FALSE(clash_of(wanted, {prefix("0.0.0.0/0"), prefix("128.0.0.0/1"),
                                   prefix("172.16.1.0/24"), prefix("172.17.0.0/16")}));
    EXPECT_EQ(clash_of(wanted, {prefix("0.0.0.0/0"), prefix("172.16.0.0/12")}),
              prefix("172.16.0.0/12"));
    EXPECT_EQ(clash_of(wanted, {prefix("172.16.0.128/25")}), prefix("172.16.0.128/25"));
    EXPECT_EQ(clash_of(wanted, {prefix("172.16.0.7/32")}), prefix("172.16.0.7/32"));
}

TEST(Subnet, AFreeOneIsOffered) {
    EXPECT_EQ(free_subnet({prefix("172.16.0.0/23")}), prefix("172.16.2.1/24"));
    EXPECT_EQ(free_subnet({prefix("172.16.0.0/12")}), prefix("192.168.0.1/24"));
    EXPECT_EQ(free_subnet({prefix("172.16.0.0/12"), prefix("192.168.0.0/16")}),
              prefix("10.0.0.1/24"));
    EXPECT_EQ(
        free_subnet({prefix("172.16.0.0/12"), prefix("192.168.0.0/16"), prefix("10.0.0.0/8")}),
        std::nullopt);
}

TEST(BridgeSettings, DefaultsStandWithoutATable) {
    const BridgeSettings settings = BridgeSettings::parse({}).value();
    EXPECT_EQ(settings.bridge, "banger0");
    EXPECT_EQ(settings.address, prefix("172.16.0.1/24"));
    EXPECT_EQ(settings.guest_dns, address("1.1.1.1"));
    EXPECT_FALSE(settings.allow_guest_to_guest);
    EXPECT_FALSE(settings.allow_private_networks);
}

TEST(BridgeSettings, OnlyBangersOwnNamesAndPrivatePrefixes) {
    for (const char* name : {"eth0", "docker0", "br0", "banger_0", "banger0 ", "banger\"; drop",
                             "Banger0", "banger0123456789", ""})
        EXPECT_EQ(BridgeSettings::parse({{"bridge_name", std::string(name)}}).error().code,
                  Errc::invalid_argument)
            << name;
    EXPECT_TRUE(BridgeSettings::parse({{"bridge_name", std::string("banger-lab")}}));
    for (const char* text : {"8.8.8.1/24", "172.16.0.0/24", "172.16.0.255/24", "172.16.0.1/30",
                             "10.0.0.1/8", "172.16.0.1", "127.0.0.1/24", "169.254.0.1/16", ""})
        EXPECT_EQ(BridgeSettings::parse({{"bridge_address", std::string(text)}}).error().code,
                  Errc::invalid_argument)
            << text;
    EXPECT_TRUE(BridgeSettings::parse({{"bridge_address", std::string("10.1.0.1/16")}}));
    EXPECT_FALSE(BridgeSettings::parse({{"guest_dns", std::string("one.one.one.one")}}));
}

TEST(BridgeNetwork, DeviceNamesFitAndDifferByOwnerAndMachine) {
    const std::string name = BridgeNetwork::device_of(1000, vm("0123456789ab"));
    EXPECT_EQ(name.size(), 15u);
    EXPECT_TRUE(name.starts_with("bgr-"));
    EXPECT_EQ(name, BridgeNetwork::device_of(1000, vm("0123456789ab"))) << "the same each time";
    EXPECT_NE(name, BridgeNetwork::device_of(1001, vm("0123456789ab")));
    EXPECT_NE(name, BridgeNetwork::device_of(1000, vm("0123456789ac")));
}

}  // namespace
}  // namespace banger

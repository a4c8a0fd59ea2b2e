#include "plugins/dns-resolved/route_entry.hpp"

#include <gtest/gtest.h>

namespace banger {
namespace {

const RouteEntry entry{
    {"vm", Ipv4Address(0x7f000001), 42069}, 7, MacAddress::parse("02:00:00:00:00:01").value()};

TEST(RouteEntry, BothWays) {
    const std::string text = format_route_entry(entry);
    EXPECT_EQ(text, "zone vm\nserver 127.0.0.1\nport 42069\nindex 7\nmac 02:00:00:00:00:01\n");
    const Result<RouteEntry> again = parse_route_entry(text);
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(*again, entry);
}

TEST(RouteEntry, NothingElseIsRead) {
    const std::string good = format_route_entry(entry);
    for (std::size_t size = 0; size < good.size(); ++size)
        EXPECT_FALSE(parse_route_entry(good.substr(0, size))) << size;
    EXPECT_FALSE(parse_route_entry(good + "more x\n"));
    EXPECT_FALSE(parse_route_entry("\n" + good));
    const auto with = [&](std::string_view old, std::string_view fresh) {
        std::string text = good;
        text.replace(text.find(old), old.size(), fresh);
        return parse_route_entry(text).has_value();
    };
    EXPECT_TRUE(with("42069", "53"));
    EXPECT_FALSE(with("42069", "65536"));
    EXPECT_FALSE(with("42069", "-1"));
    EXPECT_FALSE(with("index 7", "index 4294967296"));
    EXPECT_FALSE(with("index 7", "index 7 "));
    EXPECT_FALSE(with("zone vm", "zone ."));
    EXPECT_FALSE(with("zone vm", "zone "));
    EXPECT_FALSE(with("127.0.0.1", "127.1"));
    EXPECT_FALSE(with("02:00", "2:00"));
}

TEST(RouteEntry, Zones) {
    for (const char* good : {"vm", "banger.test", "a-b.c1"})
        EXPECT_TRUE(is_zone(good)) << good;
    for (const char* bad : {"", ".", "vm.", ".vm", "a..b", "VM", "v m", "v\nm", "~vm", "*.vm"})
        EXPECT_FALSE(is_zone(bad)) << bad;
    EXPECT_FALSE(is_zone(std::string(64, 'a')));
}

}  // namespace
}  // namespace banger

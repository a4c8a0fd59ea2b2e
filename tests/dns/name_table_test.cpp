#include "core/dns/name_table.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace banger::dns {
namespace {

DnsRecord record(std::string_view name, std::uint32_t address) {
    return {VmId::random(), VmName::parse(name).value(), Ipv4Address(address)};
}

TEST(NameTable, AMachineHasOneName) {
    NameTable names;
    DnsRecord one = record("one", 1);
    ASSERT_TRUE(names.publish(one));
    one.name = VmName::parse("other").value();
    one.address = Ipv4Address(2);
    ASSERT_TRUE(names.publish(one));
    EXPECT_EQ(names.find("one"), std::nullopt);
    EXPECT_EQ(names.find("other"), Ipv4Address(2));
    EXPECT_EQ(names.size(), 1u);
    names.withdraw(one.vm);
    names.withdraw(one.vm);
    EXPECT_EQ(names.find("other"), std::nullopt);
    EXPECT_EQ(names.record(one.vm), std::nullopt);
}

TEST(NameTable, ANameBelongsToOneMachine) {
    NameTable names;
    const DnsRecord first = record("one", 1);
    ASSERT_TRUE(names.publish(first));
    DnsRecord second = record("two", 2);
    ASSERT_TRUE(names.publish(second));
    second.name = first.name;
    EXPECT_EQ(names.publish(second).error().code, Errc::already_exists);
    EXPECT_EQ(names.find("one"), Ipv4Address(1));
    EXPECT_EQ(names.find("two"), Ipv4Address(2)) << "as before";
}

TEST(NameTable, Replace) {
    NameTable names;
    ASSERT_TRUE(names.publish(record("old", 1)));
    const std::vector<DnsRecord> all{record("a", 1), record("a", 2), record("b", 3)};
    names.replace(all);
    EXPECT_EQ(names.find("old"), std::nullopt);
    EXPECT_EQ(names.find("a"), Ipv4Address(1));
    EXPECT_EQ(names.size(), 2u);
    names.withdraw(all[1].vm);
    EXPECT_EQ(names.find("a"), Ipv4Address(1)) << "it was never the other one's";
}

TEST(NameTable, WritersAndAReader) {
    NameTable names;
    std::atomic<bool> is_over = false;
    std::jthread reader([&] {
        while (!is_over)
            EXPECT_EQ(names.find("vm-1").value_or(Ipv4Address(1)), Ipv4Address(1));
    });
    {
        std::vector<std::jthread> writers;
        for (unsigned i = 0; i < 4; ++i)
            writers.emplace_back([&names, i] {
                const DnsRecord mine = record("vm-" + std::to_string(i), i);
                for (int turn = 0; turn < 500; ++turn) {
                    EXPECT_TRUE(names.publish(mine));
                    names.withdraw(mine.vm);
                }
            });
    }
    is_over = true;
    EXPECT_EQ(names.size(), 0u);
}

}  // namespace
}  // namespace banger::dns

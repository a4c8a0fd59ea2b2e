#include "plugins/vmm-firecracker/record.hpp"

#include <gmock/gmock.h>

#include "banger/contract/subject.hpp"

namespace banger::firecracker {
namespace {

using contract::failed_with;

TEST(FirecrackerRecord, BothWays) {
    Record record{1883373568, "firecracker-v1.12.0-x86_64", ByteCount::mib(4), {}};
    EXPECT_EQ(encode(record),
              "uid 1883373568\nprogram firecracker-v1.12.0-x86_64\nconsole_limit 4194304\n");
    EXPECT_EQ(*decode_record(encode(record)), record);
    record.process = ProcessId{4711, 123456789012};
    EXPECT_EQ(encode(record),
              "uid 1883373568\nprogram firecracker-v1.12.0-x86_64\nconsole_limit 4194304\n"
              "pid 4711\nstart_time 123456789012\n");
    EXPECT_EQ(*decode_record(encode(record)), record);
}

TEST(FirecrackerRecord, AnythingElseIsCorrupt) {
    const std::string good =
        "uid 1\nprogram firecracker\nconsole_limit 5\npid 4711\nstart_time 12\n";
    for (std::size_t size = 0; size < good.size(); ++size) {
        if (size == good.find("pid")) continue;  // whole, only without a process
        EXPECT_TRUE(failed_with(decode_record(good.substr(0, size)), Errc::corrupt)) << size;
    }
    for (const std::string& bad :
         {good + "x", good + good, std::string("uid -1\nprogram firecracker\nconsole_limit 5\n"),
          std::string("uid 4294967296\nprogram firecracker\nconsole_limit 5\n"),
          std::string("uid 1\nprogram firecracker/../..\nconsole_limit 5\n"),
          std::string("uid 1\nprogram other\nconsole_limit 5\n"),
          std::string("uid 1\nprogram firecracker\nconsole_limit 5\npid 1\nstart_time 1\n"),
          std::string("uid 1\nprogram firecracker\nconsole_limit 5\npid -4\nstart_time 1\n")})
        EXPECT_TRUE(failed_with(decode_record(bad), Errc::corrupt)) << bad;
}

}  // namespace
}  // namespace banger::firecracker

#include <gmock/gmock.h>

#include "banger/contract/subject.hpp"
#include "core/base/file.hpp"
#include "plugins/vmm-qemu/machine_folder.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::qemu {
namespace {

using contract::failed_with;

TEST(MachineRecord, BothWays) {
    MachineRecord record{VmId::parse("0123456789ab").value(), std::nullopt, ByteCount::mib(4)};
    EXPECT_EQ(format_record(record), "vm 0123456789ab\nconsole_limit 4194304\n");
    EXPECT_EQ(*parse_record(format_record(record)), record);
    record.process = ProcessId{4711, 123456789012};
    EXPECT_EQ(format_record(record),
              "vm 0123456789ab\nconsole_limit 4194304\nprocess 4711 123456789012\n");
    EXPECT_EQ(*parse_record(format_record(record)), record);
}

TEST(MachineRecord, AnythingElseIsCorrupt) {
    const std::string good = "vm 0123456789ab\nconsole_limit 4194304\nprocess 4711 12\n";
    for (std::size_t size = 0; size < good.size(); ++size) {
        if (size == good.find("process")) continue;  // whole, only without a process
        EXPECT_TRUE(failed_with(parse_record(good.substr(0, size)), Errc::corrupt)) << size;
    }
    for (const std::string& bad :
         {good + "x", good + good, std::string("vm ../../etc/pass\nconsole_limit 1\n"),
          std::string("vm 0123456789ab\nconsole_limit -1\n"),
          std::string("vm 0123456789ab\nconsole_limit 1\nprocess 0 1\n"),
          std::string("vm 0123456789ab\nconsole_limit 1\nprocess -1 1\n"),
          std::string("vm 0123456789ab\nconsole_limit 1\nprocess 1\n"),
          std::string("vm 0123456789ab\nconsole_limit 99999999999999999999\n")})
        EXPECT_TRUE(failed_with(parse_record(bad), Errc::corrupt)) << bad;
}

}  // namespace
}  // namespace banger::qemu

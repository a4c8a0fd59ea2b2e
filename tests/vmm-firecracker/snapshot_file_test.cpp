#include "plugins/vmm-firecracker/snapshot_file.hpp"

#include <gmock/gmock.h>

#include "banger/contract/subject.hpp"

namespace banger::firecracker {
namespace {

using contract::failed_with;

SnapshotHead head() {
    return {.firecracker = "1.12.1",
            .host = "GenuineIntel, a CPU, 4, Linux 6.1",
            .config = "{\n}\n",
            .state_size = 5000,
            .memory_size = 134217728};
}

TEST(SnapshotFile, GoesThereAndBack) {
    const std::string bytes = encode(head()).value();
    EXPECT_EQ(bytes.size(), snapshot_head_size);
    EXPECT_EQ(decode_snapshot_head(bytes).value(), head());
    EXPECT_EQ(head().state_offset(), 65536u);
    EXPECT_EQ(head().memory_offset(), 65536u + 8192);
    SnapshotHead long_one = head();
    long_one.config.assign(snapshot_head_size, 'a');
    EXPECT_TRUE(failed_with(encode(long_one), Errc::invalid_argument));
}

TEST(SnapshotFile, WhatIsNoHeadIsRefused) {
    const std::string good = encode(head()).value();
    const auto refused = [&](const std::string& from, const std::string& to) {
        std::string bad = good;
        const std::size_t at = bad.find(from);
        ASSERT_NE(at, bad.npos) << from;
        bad.replace(at, from.size(), to);
        bad.resize(snapshot_head_size, '\0');
        EXPECT_TRUE(failed_with(decode_snapshot_head(bad), Errc::corrupt)) << to;
    };
    refused("snapshot 1", "snapshot 2");
    refused("1.12.1", "1.12.1\n1.12.2");
    refused("1.12.1", "1.12.1\x1b[2J");
    refused("state 5000", "state 99999999999");
    refused("state 5000", "state -1");
    refused("state 5000", "state 5000x");
    refused("state 5000", "state ");
    refused("memory 134217728", "memory 18446744073709551615");
    refused("config 4", "config 5000000");
    refused("config 4", "config 3");
    refused("config 4", "konfig 4");
    EXPECT_TRUE(failed_with(decode_snapshot_head(""), Errc::corrupt));
    EXPECT_TRUE(failed_with(decode_snapshot_head(good.substr(1)), Errc::corrupt));
    EXPECT_TRUE(failed_with(decode_snapshot_head(good + good), Errc::corrupt));
}

TEST(SnapshotFile, AHostIsItsProcessorAndItsKernel) {
    EXPECT_EQ(host_words("processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: A CPU @ 3 GHz\n"
                         "stepping\t: 1\nmicrocode\t: 0x12\n\nprocessor\t: 1\nvendor_id\t: x\n",
                         "6.1.0-30-amd64"),
              "AuthenticAMD, A CPU @ 3 GHz, 1, 0x12, Linux 6.1.0-30-amd64");
    EXPECT_EQ(host_words("", "6\n1"), ", , , , Linux 6?1");
}

}  // namespace
}  // namespace banger::firecracker

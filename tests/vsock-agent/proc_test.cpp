#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemons/vsock-agent/proc_net.hpp"
#include "daemons/vsock-agent/stats.hpp"

namespace banger::agent {
namespace {

using guest::GuestPort;
using guest::PortProtocol;

constexpr std::string_view tcp =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode\n"
    "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 "
    "1234 1 0 100 0 0 10 0\n"
    "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 "
    "5678 1 0\n"
    "   2: 0F02000A:0016 0202000A:D431 01 00000000:00000000 02:000AF1B3 00000000     0        0 "
    "9999 2 0\n";

TEST(ProcNet, FindsListeners) {
    const std::vector<ListeningSocket> sockets = parse_proc_net(tcp, PortProtocol::tcp);
    ASSERT_EQ(sockets.size(), 2U);
    EXPECT_EQ(sockets[0].port, (GuestPort{PortProtocol::tcp, "0.0.0.0", 22, "", 0}));
    EXPECT_EQ(sockets[0].inode, 1234U);
    EXPECT_EQ(sockets[1].port, (GuestPort{PortProtocol::tcp, "127.0.0.1", 8080, "", 0}));
}

TEST(ProcNet, ReadsVersion6) {
    const std::vector<ListeningSocket> sockets = parse_proc_net(
        "0: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 0:0 0:0 "
        "0 0 0 7 2 0\n"
        "1: B80D0120000000000000000001000000:0044 00000000000000000000000000000000:0000 07 0:0 0:0 "
        "0 0 0 8 2 0\n",
        PortProtocol::udp);
    ASSERT_EQ(sockets.size(), 2U);
    EXPECT_EQ(sockets[0].port.address, "::1");
    EXPECT_EQ(sockets[1].port.address, "2001:db8::1");
}

TEST(ProcNet, LeavesOddLinesOut) {
    for (const char* line :
         {"", "\n\n\n", "rubbish", "0: 00000000:0016", "0: 0000:0016 0:0 0A 0 0 0 0 0 1",
          "0: 00000000:99999 0:0 0A 0 0 0 0 0 1", "0: 00000000:0016 0:0 0A 0 0 0 0 0 x",
          "0: 0000000000:0016 0:0 0A 0 0 0 0 0 1", "0: 00000000 0:0 0A 0 0 0 0 0 1"})
        EXPECT_TRUE(parse_proc_net(line, PortProtocol::tcp).empty()) << line;
}

TEST(Stats, AreReadFromProc) {
    const guest::GuestStats stats = parse_stats(
        "cpu  10 20 30 400 50 6 7 8 9 10\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n",
        "MemTotal:        2048 kB\nMemFree:          100 kB\nMemAvailable:    1024 kB\n",
        "0.50 0.25 0.12 1/100 4242\n");
    EXPECT_EQ(stats.cpus, 2U);
    EXPECT_EQ(stats.cpu_busy_ms, 810U);
    EXPECT_EQ(stats.cpu_idle_ms, 4500U);
    EXPECT_EQ(stats.memory_total_bytes, 2048U * 1024);
    EXPECT_EQ(stats.memory_available_bytes, 1024U * 1024);
    EXPECT_DOUBLE_EQ(stats.load_15, 0.12);
}

TEST(Stats, AreZeroWhereProcSaysNothing) {
    EXPECT_EQ(parse_stats("", "", ""), guest::GuestStats{});
    EXPECT_EQ(parse_stats("cpu", "MemTotal:", "x y z"), guest::GuestStats{});
}

TEST(Stats, OfThisMachine) {
    const guest::GuestStats stats = machine_stats();
    EXPECT_GT(stats.cpus, 0U);
    EXPECT_GT(stats.memory_total_bytes, 0U);
}

}  // namespace
}  // namespace banger::agent

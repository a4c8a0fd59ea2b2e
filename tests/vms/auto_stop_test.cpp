#include "core/vms/auto_stop.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <optional>
#include <thread>

#include "core/base/file.hpp"
#include "tests/vms/bench_of_fakes.hpp"

/// Machines that nobody uses, on a clock of the test's own.
namespace banger {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

class AutoStopTest : public ::testing::Test {
protected:
    void SetUp() override {
        TestCall call;
        ASSERT_TRUE(bench_.create(call));
    }
    void TearDown() override {
        TestCall call;
        EXPECT_TRUE(bench_.machines().remove("sandbox", true, call));
    }

    AutoStop::Parts parts(BenchOfFakes& bench) {
        return {.machines = bench.machines(),
                .store = bench.store(),
                .uses = uses_,
                .after = 2h,
                .after_text = "2h",
                .log = [this](LogLevel, const std::string& text) { logged_.push_back(text); },
                .now = [this] { return now_; },
                .connections = [this]() -> Result<std::vector<TcpConnection>> {
                    if (on_connections_) on_connections_();
                    if (are_unknown_) return Error(Errc::permission_denied, "not for you");
                    return connections_;
                },
                .usage = [this](const ProcessId& process) -> Result<ProcessUsage> {
                    BANGER_TRY(usage_of(process));
                    return ProcessUsage{ByteCount::mib(1), cpu_};
                }};
    }
    void look_after(std::chrono::seconds time) {
        now_ += time;
        stopper_.look({});
    }
    VmRecord vm() { return *bench_.store().find_machine("sandbox"); }
    bool is_running() { return vm().state == VmState::running; }

    const TempFolder folder_;
    BenchOfFakes bench_{folder_.path()};
    MachineUses uses_;
    AutoStop::Clock::time_point now_{100h};
    std::vector<TcpConnection> connections_;
    std::function<void()> on_connections_;
    bool are_unknown_ = false;
    std::chrono::milliseconds cpu_{0};
    std::vector<std::string> logged_;
    AutoStop stopper_{parts(bench_)};
};

TEST_F(AutoStopTest, WhatNobodyUsedForThePeriodIsStoppedAndSaysWhy) {
    look_after(0s);
    look_after(2h - 1s);
    EXPECT_TRUE(is_running());
    EXPECT_THAT(logged_, IsEmpty());
    look_after(1s);
    EXPECT_EQ(vm().state, VmState::stopped);
    EXPECT_FALSE(vm().process);
    EXPECT_THAT(vm().error_reason, HasSubstr("nobody used it for 2h"));
    EXPECT_THAT(logged_, testing::ElementsAre(HasSubstr("sandbox: nobody used it for 2h")));
    look_after(4h);
    EXPECT_EQ(logged_.size(), 1u);

    TestCall call;
    std::vector<StageTime> times;
    ASSERT_TRUE(bench_.machines().start("sandbox", call, times));
    EXPECT_EQ(vm().error_reason, "");
    look_after(0s);
    look_after(1h);
    EXPECT_TRUE(is_running()) << "a new run, a new period";
}

TEST_F(AutoStopTest, AConnectionToItsAddressKeepsItWhateverThePort) {
    look_after(0s);
    connections_ = {{Ipv4Address(1), 5000, vm().link->address.address(), 8080}};
    for (int i = 0; i < 5; ++i)
        look_after(1h);
    EXPECT_TRUE(is_running());
    connections_ = {{Ipv4Address(1), 5000, Ipv4Address(2), 8080}};  // somebody else's
    look_after(1h + 59min);
    EXPECT_TRUE(is_running());
    look_after(1min);
    EXPECT_FALSE(is_running());
}

TEST_F(AutoStopTest, BehindATranslatorItIsTheForwardedPort) {
    VmRecord user = vm();
    user.link->kind = LinkKind::user;
    user.link->forwards = {{Ipv4Address(0x7f000001), 20022, 22}};
    ASSERT_TRUE(bench_.store().save_machine(user));
    look_after(0s);
    connections_ = {{Ipv4Address(0x7f000001), 40000, Ipv4Address(0x7f000001), 20022}};
    look_after(3h);
    EXPECT_TRUE(is_running());
    // Of one that was closed by the VMM's side, only that end is left.
    connections_ = {{Ipv4Address(0x7f000001), 20022, Ipv4Address(0x7f000001), 40000}};
    look_after(3h);
    EXPECT_TRUE(is_running());
    connections_ = {{Ipv4Address(0x7f000001), 40000, Ipv4Address(0x7f000001), 20023}};
    look_after(2h);
    EXPECT_FALSE(is_running());
}

TEST_F(AutoStopTest, ACallThatGoesOnOrWentOnKeepsIt) {
    look_after(0s);
    {
        const MachineUses::Use logs_f = uses_.begin(vm().id);
        for (int i = 0; i < 3; ++i)
            look_after(2h);
        EXPECT_TRUE(is_running());
        look_after(1h);
    }
    look_after(1h + 30min);
    look_after(1h + 59min);
    EXPECT_TRUE(is_running()) << "since the look before it had ended";
    look_after(1min);
    EXPECT_FALSE(is_running());
}

TEST_F(AutoStopTest, ACommandThroughTheAgentKeepsIt) {
    look_after(0s);
    {
        ExecWish wish;
        wish.command = {"cat"};
        const Result<GuestCommand> command = bench_.machines().exec("sandbox", wish, {});
        ASSERT_TRUE(command) << command.error().text();
        look_after(3h);
        look_after(3h);
        EXPECT_TRUE(is_running());
    }
    while (bench_.machines().has_commands(vm()))
        std::this_thread::yield();  // it is hung up, and ends soon
    look_after(2h);
    EXPECT_FALSE(is_running());
}

TEST_F(AutoStopTest, AMachineThatWorksGetsAnotherPeriod) {
    look_after(0s);
    cpu_ += 144s;  // 2 % of two hours
    look_after(2h);
    EXPECT_TRUE(is_running());
    cpu_ += 143s;
    look_after(2h);
    EXPECT_FALSE(is_running());
}

TEST_F(AutoStopTest, WhoComesInTheLastMomentIsNotCutOff) {
    look_after(0s);
    int asked = 0;
    on_connections_ = [&] {
        if (++asked == 2)  // the first was to decide, the second is before it is asked to go
            connections_ = {{Ipv4Address(1), 5000, vm().link->address.address(), 22}};
    };
    look_after(2h);
    EXPECT_EQ(asked, 2);
    EXPECT_TRUE(is_running());
    EXPECT_TRUE(vm().process);

    on_connections_ = {};
    connections_ = {};
    std::optional<MachineUses::Use> call;
    look_after(0s);
    on_connections_ = [&] {
        if (!call) call.emplace(uses_.begin(vm().id));
    };
    look_after(2h);
    EXPECT_TRUE(is_running());
}

TEST_F(AutoStopTest, WhoIsConnectedIsNotKnownSoNobodyIsStopped) {
    look_after(0s);
    are_unknown_ = true;
    look_after(3h);
    look_after(3h);
    EXPECT_TRUE(is_running());
    EXPECT_THAT(logged_, testing::ElementsAre(HasSubstr("not for you"))) << "said once";
}

TEST_F(AutoStopTest, AGuestThatDoesNotGoByItselfIsNotForced) {
    for (const std::string& file : bench_.inventory())
        if (file.ends_with("agent.sock")) {
            ASSERT_TRUE(remove_file(file));
        }
    BenchOfFakes restarted(folder_.path());  // with no line to the agent yet
    AutoStop stopper(parts(restarted));
    stopper.look({});
    now_ += 2h;
    stopper.look({});
    EXPECT_TRUE(is_running());
    EXPECT_TRUE(vm().process);
    EXPECT_THAT(logged_, Contains(HasSubstr("runs on")));
    EXPECT_EQ(vm().error_reason, "");
}

TEST_F(AutoStopTest, ADaemonThatLeavesLeavesMachinesRunning) {
    look_after(0s);
    std::stop_source leaving;
    leaving.request_stop();
    now_ += 3h;
    stopper_.look(leaving.get_token());
    EXPECT_TRUE(is_running());
}

TEST(AutoStop, LooksOftenEnoughToSeeEveryConnection) {
    const TempFolder folder;
    BenchOfFakes bench(folder.path());
    MachineUses uses;
    const auto interval = [&](std::chrono::seconds after) {
        return AutoStop({.machines = bench.machines(),
                         .store = bench.store(),
                         .uses = uses,
                         .after = after,
                         .after_text = "",
                         .log = {}})
            .interval();
    };
    EXPECT_EQ(interval(48h), 30s) << "closed connections are listed for a minute";
    EXPECT_EQ(interval(1min), 6s);
}

TEST(Connections, AreThoseWithAPeer) {
    const std::string text =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n"
        "   1: 0100007F:9C40 0100007F:4E36 01 00000000:00000000 00:00000000 00000000     0\n"
        "  12: 010010AC:D431 050010AC:0016 06 00000000:00000000 03:000010A2 00000000     0\n"
        "  13: 010010AC:D431 050010AC:0017 07 00000000:00000000 03:000010A2 00000000     0\n"
        "  14: nonsense\n  15: 010010AC 050010AC:0016 01\n\n  16: 010010ACC:1 050010AC:16 01\n";
    EXPECT_THAT(parse_connections(text),
                testing::ElementsAre(
                    TcpConnection{Ipv4Address(0x7f000001), 40000, Ipv4Address(0x7f000001), 20022},
                    TcpConnection{*Ipv4Address::parse("172.16.0.1"), 54321,
                                  *Ipv4Address::parse("172.16.0.5"), 22}));
    const std::string six =
        "   1: 0000000000000000FFFF00000100007F:9C40 0000000000000000FFFF00000100007F:4E36 01 x\n"
        "   2: 00000000000000000000000001000000:9C40 00000000000000000000000001000000:4E36 01 x\n";
    EXPECT_THAT(parse_connections(six),
                testing::ElementsAre(
                    TcpConnection{Ipv4Address(0x7f000001), 40000, Ipv4Address(0x7f000001), 20022}));
}

/// The kernel's own list has a real connection, and still has it when both ends have closed.
TEST(Connections, OfThisProcessAreSeen) {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(::bind(listener.get(), generic, sizeof address), 0);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    ASSERT_EQ(::getsockname(listener.get(), generic, &length), 0);
    const auto leads_there = [&](const TcpConnection& connection) {
        return connection.remote == Ipv4Address(0x7f000001) &&
               connection.remote_port == ntohs(address.sin_port);
    };
    EXPECT_THAT(*tcp_connections(), Not(Contains(testing::Truly(leads_there))));
    {
        const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        ASSERT_EQ(::connect(client.get(), generic, sizeof address), 0);
        EXPECT_THAT(*tcp_connections(), Contains(testing::Truly(leads_there)));
    }
    const UniqueFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_THAT(*tcp_connections(), Contains(testing::Truly(leads_there)));
}

}  // namespace
}  // namespace banger

#include "plugins/net-user/user_network.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "banger/contract/network.hpp"
#include "core/base/file.hpp"
#include "tests/support/plain_host.hpp"

namespace banger {
namespace {

using contract::failed_with;
using contract::has_remedy;
using contract::succeeded;

const Ipv4Address loopback(INADDR_LOOPBACK);

class UserNetworkSubject final : public contract::NetworkSubject {
public:
    Network& role() override { return *network_; }
    std::vector<std::string> exists() override {
        if (is_hidden_) {
            EXPECT_EQ(::rename((host_ / "hidden").c_str(), host_.run_folder().c_str()), 0);
            is_hidden_ = false;
        }
        Result<std::vector<std::string>> names = list_folder(host_.run_folder());
        EXPECT_TRUE(succeeded(names));
        return *names;
    }
    void restart() override { network_ = std::make_unique<UserNetwork>(host_); }
    bool lose(const VmId& vm) override {
        EXPECT_TRUE(remove_file(host_.run_folder() + "/" + vm.str()));
        return true;
    }
    bool fail_next() override {
        EXPECT_EQ(::rename(host_.run_folder().c_str(), (host_ / "hidden").c_str()), 0);
        return is_hidden_ = true;
    }

private:
    PlainHost host_;
    bool is_hidden_ = false;
    std::unique_ptr<UserNetwork> network_ = std::make_unique<UserNetwork>(host_);
};

LinkRequest request_for(const VmId& vm, std::vector<PortForward> forwards) {
    return {vm, contract::name_of(0), MacAddress::of(vm), {}, false, 0, std::move(forwards)};
}

/// A port that another program listens on.
class TakenPort {
public:
    TakenPort() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in where{};
        where.sin_family = AF_INET;
        where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof where;
        EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&where), size), 0);
        EXPECT_EQ(::listen(fd_.get(), 1), 0);
        EXPECT_EQ(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&where), &size), 0);
        port = ntohs(where.sin_port);
    }
    std::uint16_t port = 0;

private:
    UniqueFd fd_;
};

TEST(UserNetwork, TheLinkIsSlirpsOwn) {
    PlainHost host;
    UserNetwork network(host);
    const VmId vm = VmId::random();
    const Result<NetworkLink> link = network.attach(request_for(vm, {{loopback, 0, 22}}), {});
    ASSERT_TRUE(succeeded(link));
    EXPECT_EQ(link->kind, LinkKind::user);
    EXPECT_EQ(link->address.text(), "10.0.2.15/24");
    EXPECT_EQ(link->gateway.text(), "10.0.2.2");
    EXPECT_EQ(link->name_server.text(), "10.0.2.3");
    EXPECT_FALSE(link->nat);
    EXPECT_FALSE(network.addressing().pool);
    EXPECT_GE(link->forwards[0].host_port, 20000) << "outside the range of outgoing connections";
    EXPECT_LT(link->forwards[0].host_port, 32768);
}

TEST(UserNetwork, APortThatAnotherProgramHasIsRefusedByName) {
    PlainHost host;
    UserNetwork network(host);
    const TakenPort taken;
    const Result<NetworkLink> link =
        network.attach(request_for(VmId::random(), {{loopback, taken.port, 22}}), {});
    EXPECT_TRUE(failed_with(link, Errc::in_use));
    EXPECT_TRUE(has_remedy(link));
    EXPECT_THAT(link.error().message, testing::HasSubstr(std::to_string(taken.port)));
    EXPECT_THAT(*list_folder(host.run_folder()), testing::IsEmpty());
}

TEST(UserNetwork, APortPromisedToAStoppedMachineStaysPromised) {
    PlainHost host;
    UserNetwork network(host);
    const Result<NetworkLink> one =
        network.attach(request_for(VmId::random(), {{loopback, 0, 22}}), {});
    ASSERT_TRUE(succeeded(one));
    const PortForward wanted{loopback, one->forwards[0].host_port, 80};
    // Nobody listens on it: only the record says that it is taken.
    UserNetwork another(host);
    EXPECT_TRUE(
        failed_with(another.attach(request_for(VmId::random(), {wanted}), {}), Errc::in_use));
    PortForward everywhere = wanted;
    everywhere.host_address = Ipv4Address();
    EXPECT_TRUE(
        failed_with(another.attach(request_for(VmId::random(), {everywhere}), {}), Errc::in_use));
    ASSERT_TRUE(succeeded(another.detach(one->vm)));
    EXPECT_TRUE(succeeded(another.attach(request_for(VmId::random(), {wanted}), {})));
}

TEST(UserNetwork, TwoForwardsOfOneMachineCannotShareAPort) {
    PlainHost host;
    UserNetwork network(host);
    const Result<NetworkLink> free_one =
        network.attach(request_for(VmId::random(), {{loopback, 0, 22}}), {});
    ASSERT_TRUE(succeeded(free_one));
    const std::uint16_t port = free_one->forwards[0].host_port;
    ASSERT_TRUE(succeeded(network.detach(free_one->vm)));
    EXPECT_TRUE(failed_with(
        network.attach(request_for(VmId::random(), {{loopback, port, 22}, {loopback, port, 80}}),
                       {}),
        Errc::in_use));
}

TEST(UserNetwork, WhatCannotBeForwardedIsRefused) {
    PlainHost host;
    UserNetwork network(host);
    const auto attach = [&](PortForward forward) {
        return network.attach(request_for(VmId::random(), {forward}), {});
    };
    EXPECT_TRUE(failed_with(attach({loopback, 0, 0}), Errc::invalid_argument));
    // TEST-NET-3 (RFC 5737): no host has it.
    EXPECT_TRUE(failed_with(attach({Ipv4Address::parse("203.0.113.7").value(), 0, 22}),
                            Errc::invalid_argument));
    EXPECT_TRUE(
        failed_with(network.attach(request_for(VmId::random(), std::vector<PortForward>(65)), {}),
                    Errc::invalid_argument));
    LinkRequest leased = request_for(VmId::random(), {});
    leased.address = Ipv4Address::parse("172.16.0.9").value();
    EXPECT_TRUE(failed_with(network.attach(leased, {}), Errc::unsupported));
    EXPECT_THAT(*list_folder(host.run_folder()), testing::IsEmpty());
}

TEST(UserNetwork, ManyAtOnceGetPortsOfTheirOwn) {
    PlainHost host;
    UserNetwork network(host);
    constexpr std::size_t count = 32;
    std::vector<std::uint16_t> ports(count);
    contract::all_at_once(count, [&](std::size_t i) {
        const Result<NetworkLink> link =
            network.attach(request_for(VmId::random(), {{loopback, 0, 22}}), {});
        if (link) ports[i] = link->forwards[0].host_port;
    });
    EXPECT_EQ(std::set<std::uint16_t>(ports.begin(), ports.end()).size(), count);
    EXPECT_THAT(ports, testing::Not(testing::Contains(0)));
}

TEST(UserNetwork, ADamagedRecordHarmsNobodyElse) {
    PlainHost host;
    UserNetwork network(host);
    const VmId damaged = VmId::random();
    const std::string path = host.run_folder() + "/" + damaged.str();
    ASSERT_TRUE(write_file_atomic(path, "not a record", 0600));
    EXPECT_TRUE(succeeded(network.attach(request_for(VmId::random(), {{loopback, 0, 22}}), {})));
    EXPECT_TRUE(succeeded(network.detach(damaged)));
    EXPECT_FALSE(path_exists(path));
}

TEST(UserNetwork, ARecordHalfWrittenByADeadDaemonIsNoRecord) {
    PlainHost host;
    const VmId vm = VmId::random();
    ASSERT_TRUE(write_file_atomic(host.run_folder() + "/." + vm.str(), "127.0.0.1 2", 0600));
    UserNetwork network(host);
    ASSERT_TRUE(succeeded(network.recover({})));
    EXPECT_THAT(*list_folder(host.run_folder()), testing::IsEmpty());
    EXPECT_TRUE(succeeded(network.attach(request_for(vm, {}), {})));
}

TEST(Reservation, BothWays) {
    const std::vector<PortForward> forwards{{loopback, 20022, 22}, {Ipv4Address(), 8080, 80}};
    const std::string text = format_reservation(forwards);
    EXPECT_EQ(text, "127.0.0.1 20022\n0.0.0.0 8080\n");
    const auto endpoints = parse_reservation(text);
    ASSERT_TRUE(succeeded(endpoints));
    EXPECT_THAT(*endpoints, testing::ElementsAre(testing::Pair(loopback, 20022),
                                                 testing::Pair(Ipv4Address(), 8080)));
    EXPECT_THAT(*parse_reservation(""), testing::IsEmpty());
}

TEST(Reservation, AnythingElseIsCorrupt) {
    for (const char* text : {"\n", "127.0.0.1\n", "127.0.0.1 22", "127.0.0.1 0\n",
                             "127.0.0.1 65536\n", "127.0.0.1 -1\n", "127.0.0.1 22 \n",
                             "127.0.0.1  22\n", "::1 22\n", "127.0.0.1 22\n\n", "127.0.0.1 22\r\n"})
        EXPECT_TRUE(failed_with(parse_reservation(text), Errc::corrupt)) << text;
}

}  // namespace
}  // namespace banger

namespace banger::contract {
INSTANTIATE_TEST_SUITE_P(UserNetwork, NetworkContract,
                         testing::Values(Case<NetworkSubject>{
                             "user", [] { return std::make_unique<UserNetworkSubject>(); }}),
                         case_name);
}  // namespace banger::contract

#include "banger/contract/network.hpp"

#include <set>

#include <unistd.h>

namespace banger::contract {

const bool network_suite_is_linked = true;

using testing::IsEmpty;
using testing::UnorderedElementsAre;

LinkRequest NetworkContract::request(std::size_t i) {
    const VmId vm = VmId::random();
    LinkRequest request{vm, name_of(i), MacAddress::of(vm), {}, true, ::getuid(), {}};
    if (const std::optional<Ipv4Prefix> pool = role().addressing().pool)
        request.address = Ipv4Address(pool->network().bits() + 10 + static_cast<unsigned>(i));
    return request;
}

TEST_P(NetworkContract, addressing_is_constant_and_usable) {
    const std::optional<Ipv4Prefix> pool = role().addressing().pool;
    EXPECT_EQ(role().addressing().pool, pool);
    if (pool) {
        EXPECT_LE(pool->length(), 30u) << "no room for host and guest";
        EXPECT_NE(pool->address(), pool->network()) << "the host needs an address of its own";
    }
}

TEST_P(NetworkContract, attach_gives_what_was_asked) {
    LinkRequest wanted = request(0);
    const std::uint16_t port = subject().chooses_ports() ? 0 : 40022;
    wanted.forwards = {{Ipv4Address::parse("127.0.0.1").value(), port, 22}};
    const Result<NetworkLink> link = role().attach(wanted, never());
    ASSERT_TRUE(succeeded(link));
    EXPECT_EQ(link->vm, wanted.vm);
    EXPECT_EQ(link->mac, wanted.mac);
    EXPECT_EQ(link->nat, wanted.nat);
    EXPECT_EQ(link->kind == LinkKind::tap, !link->device.empty());
    EXPECT_TRUE(link->address.contains(link->gateway));
    EXPECT_NE(link->address.address(), link->gateway);
    EXPECT_NE(link->name_server, Ipv4Address());
    if (wanted.address) {
        EXPECT_EQ(link->address.address(), *wanted.address);
    }
    if (link->kind == LinkKind::user) {
        ASSERT_EQ(link->forwards.size(), 1u);
        EXPECT_NE(link->forwards[0].host_port, 0);
        EXPECT_EQ(link->forwards[0].guest_port, 22);
        EXPECT_EQ(link->forwards[0].host_address, wanted.forwards[0].host_address);
    }
    EXPECT_TRUE(succeeded(role().detach(wanted.vm)));
    expect_nothing_left();
}

TEST_P(NetworkContract, forwards_of_two_machines_do_not_share_a_port) {
    if (!subject().chooses_ports()) GTEST_SKIP() << "free ports cannot be found from here";
    std::set<std::uint16_t> ports;
    std::size_t chosen = 0;
    for (std::size_t i = 0; i < 4; ++i) {
        LinkRequest wanted = request(i);
        wanted.forwards = {{Ipv4Address::parse("127.0.0.1").value(), 0, 22},
                           {Ipv4Address::parse("127.0.0.1").value(), 0, 80}};
        const Result<NetworkLink> link = role().attach(wanted, never());
        ASSERT_TRUE(succeeded(link));
        for (const PortForward& forward : link->forwards) {
            ports.insert(forward.host_port);
            ++chosen;
        }
    }
    EXPECT_EQ(ports.size(), chosen);
}

TEST_P(NetworkContract, attach_twice_keeps_the_first) {
    const LinkRequest wanted = request(0);
    ASSERT_TRUE(succeeded(role().attach(wanted, never())));
    const std::vector<std::string> after_first = existing();
    EXPECT_TRUE(failed_with(role().attach(wanted, never()), Errc::already_exists));
    EXPECT_EQ(existing(), after_first);
    EXPECT_TRUE(succeeded(role().detach(wanted.vm)));
    expect_nothing_left();
    EXPECT_TRUE(succeeded(role().attach(wanted, never()))) << "after a detach it is free again";
}

TEST_P(NetworkContract, detach_of_the_unknown_and_twice_succeeds) {
    EXPECT_TRUE(succeeded(role().detach(VmId::random())));
    const LinkRequest one = request(0);
    const LinkRequest two = request(1);
    ASSERT_TRUE(succeeded(role().attach(one, never())));
    const std::vector<std::string> only_one = existing();
    ASSERT_TRUE(succeeded(role().attach(two, never())));
    EXPECT_TRUE(succeeded(role().detach(two.vm)));
    EXPECT_TRUE(succeeded(role().detach(two.vm)));
    EXPECT_EQ(existing(), only_one) << "detach touched another machine's link";
    EXPECT_TRUE(succeeded(role().detach(one.vm)));
    expect_nothing_left();
}

TEST_P(NetworkContract, detach_of_a_lost_link_succeeds) {
    const LinkRequest wanted = request(0);
    ASSERT_TRUE(succeeded(role().attach(wanted, never())));
    if (!subject().lose(wanted.vm)) GTEST_SKIP() << "a link cannot get lost here";
    EXPECT_TRUE(succeeded(role().detach(wanted.vm)));
    expect_nothing_left();
}

TEST_P(NetworkContract, cancelled_before_it_began) {
    EXPECT_TRUE(failed_with(role().attach(request(0), already_stopped()), Errc::cancelled));
    expect_nothing_left();
}

TEST_P(NetworkContract, cancelled_in_the_middle) {
    if (!subject().hang_next()) GTEST_SKIP() << "attach() cannot be made to hang here";
    const LinkRequest wanted = request(0);
    const Result<NetworkLink> link = stopped_while_hanging(
        subject(), [&](std::stop_token stop) { return role().attach(wanted, stop); });
    EXPECT_TRUE(failed_with(link, Errc::cancelled));
    expect_nothing_left();
}

TEST_P(NetworkContract, a_failure_leaves_nothing) {
    if (!subject().fail_next()) GTEST_SKIP() << "attach() cannot be made to fail here";
    const LinkRequest wanted = request(0);
    EXPECT_TRUE(has_remedy(role().attach(wanted, never())));
    expect_nothing_left();
    EXPECT_TRUE(succeeded(role().attach(wanted, never()))) << "the next attempt is unharmed";
}

TEST_P(NetworkContract, recover_adopts_removes_orphans_and_tells_the_lost) {
    const Result<NetworkLink> kept = role().attach(request(0), never());
    ASSERT_TRUE(succeeded(kept));
    const std::vector<std::string> only_kept = existing();
    const Result<NetworkLink> orphan = role().attach(request(1), never());
    ASSERT_TRUE(succeeded(orphan));
    const Result<NetworkLink> lost = role().attach(request(2), never());
    ASSERT_TRUE(succeeded(lost));
    const bool is_lost = subject().lose(lost->vm);
    if (!is_lost) {
        ASSERT_TRUE(succeeded(role().detach(lost->vm)));
    }

    subject().restart();
    std::vector<NetworkLink> remembered{*kept};
    if (is_lost) remembered.push_back(*lost);
    const Result<std::vector<VmId>> gone = role().recover(remembered);
    ASSERT_TRUE(succeeded(gone));
    if (is_lost)
        EXPECT_THAT(*gone, UnorderedElementsAre(lost->vm));
    else
        EXPECT_THAT(*gone, IsEmpty());
    EXPECT_EQ(existing(), only_kept);

    LinkRequest again = request(0);
    again.vm = kept->vm;
    EXPECT_TRUE(failed_with(role().attach(again, never()), Errc::already_exists))
        << "an adopted link counts";
    EXPECT_TRUE(succeeded(role().detach(kept->vm)));
    expect_nothing_left();
}

TEST_P(NetworkContract, recover_with_nothing_remembered_cleans_up) {
    ASSERT_TRUE(succeeded(role().attach(request(0), never())));
    subject().restart();
    const Result<std::vector<VmId>> gone = role().recover({});
    ASSERT_TRUE(succeeded(gone));
    EXPECT_THAT(*gone, IsEmpty());
    expect_nothing_left();
}

TEST_P(NetworkContract, many_machines_at_once) {
    constexpr std::size_t count = 16;
    std::vector<LinkRequest> requests;
    for (std::size_t i = 0; i < count; ++i)
        requests.push_back(request(i));
    std::vector<std::string> errors(count);
    all_at_once(count, [&](std::size_t i) {
        for (int round = 0; round < 3 && errors[i].empty(); ++round) {
            const Result<NetworkLink> link = role().attach(requests[i], never());
            if (!link) errors[i] = link.error().text();
            const Result<void> detached = role().detach(requests[i].vm);
            if (!detached) errors[i] = detached.error().text();
        }
    });
    EXPECT_THAT(errors, testing::Each(IsEmpty()));
    expect_nothing_left();
}

TEST_P(NetworkContract, checks_change_nothing) {
    ASSERT_TRUE(succeeded(role().attach(request(0), never())));
    const std::vector<std::string> before = existing();
    for (const Check& check : role().checks(never())) {
        EXPECT_FALSE(check.name.empty());
        EXPECT_EQ(check.status == CheckStatus::pass, check.remedy.empty()) << check.name;
    }
    EXPECT_EQ(existing(), before);
}

}  // namespace banger::contract

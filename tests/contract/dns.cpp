#include "banger/contract/dns.hpp"

namespace banger::contract {

const bool dns_suite_is_linked = true;

namespace {
DnsZone zone(std::uint16_t port) { return {"vm", Ipv4Address(0x7f000001), port}; }
}  // namespace

DnsRecord DnsContract::record(std::size_t i) {
    return {VmId::random(), name_of(i), Ipv4Address(0x0a630000 + static_cast<unsigned>(i) + 10)};
}

void DnsContract::expect_resolves(const DnsRecord& record, bool resolves) {
    if (!subject().keeps_records()) return;
    const std::optional<Ipv4Address> answer = subject().lookup(record.name);
    if (resolves)
        EXPECT_EQ(answer, record.address) << record.name.str();
    else
        EXPECT_EQ(answer, std::nullopt) << record.name.str();
}

TEST_P(DnsContract, route_is_idempotent_and_unroute_takes_everything_back) {
    EXPECT_TRUE(succeeded(role().unroute())) << "nothing to take back yet";
    ASSERT_TRUE(succeeded(role().route(zone(42069), never())));
    const std::vector<std::string> routed = existing();
    EXPECT_TRUE(succeeded(role().route(zone(42069), never())));
    EXPECT_EQ(existing(), routed);
    EXPECT_TRUE(succeeded(role().route(zone(42070), never()))) << "the responder moved";
    EXPECT_TRUE(succeeded(role().publish(record(0), never())));
    EXPECT_TRUE(succeeded(role().unroute()));
    EXPECT_TRUE(succeeded(role().unroute()));
    expect_nothing_left();
}

TEST_P(DnsContract, publish_and_withdraw) {
    ASSERT_TRUE(succeeded(role().route(zone(42069), never())));
    const std::vector<std::string> routed = existing();
    DnsRecord one = record(1);
    const DnsRecord two = record(2);
    ASSERT_TRUE(succeeded(role().publish(one, never())));
    ASSERT_TRUE(succeeded(role().publish(two, never())));
    expect_resolves(one, true);
    ASSERT_TRUE(succeeded(role().publish(one, never()))) << "again";
    one.address = Ipv4Address(0x0a6300fe);
    ASSERT_TRUE(succeeded(role().publish(one, never()))) << "at another address";
    expect_resolves(one, true);
    EXPECT_TRUE(succeeded(role().withdraw(one.vm)));
    expect_resolves(one, false);
    expect_resolves(two, true);
    EXPECT_TRUE(succeeded(role().withdraw(one.vm)));
    EXPECT_TRUE(succeeded(role().withdraw(VmId::random())));
    EXPECT_TRUE(succeeded(role().withdraw(two.vm)));
    EXPECT_EQ(existing(), routed);
}

TEST_P(DnsContract, a_name_that_another_machine_holds) {
    if (!subject().keeps_records()) GTEST_SKIP() << "this plugin keeps no records";
    const DnsRecord first = record(1);
    DnsRecord second = record(1);
    ASSERT_TRUE(succeeded(role().publish(first, never())));
    const Result<void> taken = role().publish(second, never());
    EXPECT_TRUE(failed_with(taken, Errc::already_exists));
    EXPECT_TRUE(has_remedy(taken));
    expect_resolves(first, true);
    EXPECT_TRUE(succeeded(role().withdraw(second.vm))) << "it has none";
    expect_resolves(first, true);
}

TEST_P(DnsContract, a_renamed_machine_leaves_no_old_name) {
    if (!subject().keeps_records()) GTEST_SKIP() << "this plugin keeps no records";
    const DnsRecord before = record(1);
    DnsRecord after = record(2);
    after.vm = before.vm;
    ASSERT_TRUE(succeeded(role().publish(before, never())));
    ASSERT_TRUE(succeeded(role().publish(after, never())));
    expect_resolves(before, false);
    expect_resolves(after, true);
}

TEST_P(DnsContract, cancelled_before_it_began) {
    EXPECT_TRUE(failed_with(role().route(zone(42069), already_stopped()), Errc::cancelled));
    EXPECT_TRUE(failed_with(role().publish(record(0), already_stopped()), Errc::cancelled));
    expect_nothing_left();
}

TEST_P(DnsContract, cancelled_in_the_middle) {
    if (!subject().hang_next()) GTEST_SKIP() << "publish() cannot be made to hang here";
    const DnsRecord wanted = record(0);
    const Result<void> published = stopped_while_hanging(
        subject(), [&](std::stop_token stop) { return role().publish(wanted, stop); });
    EXPECT_TRUE(failed_with(published, Errc::cancelled));
    expect_nothing_left();
}

TEST_P(DnsContract, a_failure_leaves_nothing) {
    if (!subject().fail_next()) GTEST_SKIP() << "publish() cannot be made to fail here";
    const DnsRecord wanted = record(0);
    EXPECT_TRUE(has_remedy(role().publish(wanted, never())));
    expect_nothing_left();
    EXPECT_TRUE(succeeded(role().publish(wanted, never())));
}

TEST_P(DnsContract, after_recover_exactly_the_remembered_are_published) {
    const DnsRecord kept = record(1);
    const DnsRecord orphan = record(2);
    const DnsRecord lost = record(3);
    ASSERT_TRUE(succeeded(role().publish(kept, never())));
    ASSERT_TRUE(succeeded(role().publish(orphan, never())));
    ASSERT_TRUE(succeeded(role().publish(lost, never())));
    (void)subject().lose(lost.vm);
    subject().restart();
    const std::vector<DnsRecord> remembered{kept, lost};
    ASSERT_TRUE(succeeded(role().recover(remembered)));
    expect_resolves(kept, true);
    expect_resolves(lost, true);
    expect_resolves(orphan, false);
    EXPECT_TRUE(succeeded(role().withdraw(kept.vm)));
    EXPECT_TRUE(succeeded(role().withdraw(lost.vm)));
    expect_nothing_left();
}

TEST_P(DnsContract, checks_change_nothing) {
    const std::vector<std::string> before = existing();
    for (const Check& check : role().checks(never())) {
        EXPECT_FALSE(check.name.empty());
        EXPECT_EQ(check.status == CheckStatus::pass, check.remedy.empty()) << check.name;
    }
    EXPECT_EQ(existing(), before);
}

}  // namespace banger::contract

#include "plugins/dns-resolved/resolved_dns.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>

#include "banger/contract/dns.hpp"
#include "tests/dns-resolved/fake_resolved.hpp"
#include "tests/dns-resolved/private_bus.hpp"
#include "tests/support/plain_host.hpp"

namespace banger {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const DnsZone zone{"vm", Ipv4Address(0x7f000001), 42069};

/// Why this machine cannot run these tests, or empty. Puts the process, which has one thread yet,
/// in a network namespace of its own.
std::string enter_namespace() {
    if (!PrivateBus::is_possible()) return "needs dbus-daemon";
    if (::unshare(CLONE_NEWNET) != 0) return "needs root";
    return {};
}

/// Where the kernel has no dummy interfaces, another that nobody else makes here.
std::string interface_kind() {
    const DnsInterface probe("banger-probe", "dummy");
    const Result<int> made = probe.make(MacAddress::of(VmId::random()));
    if (made) (void)probe.remove(*made);
    return made ? "dummy" : "ifb";
}

class HostOfOneTest {
public:
    HostOfOneTest() : bus_(host_ / ""), resolved_(std::make_unique<FakeResolved>(bus_.address())) {
        options_ = {"vm", bus_.address(), "banger-dns", interface_kind()};
        restart_plugin();
    }
    void restart_plugin() {
        dns_.reset();
        Result<std::unique_ptr<ResolvedDns>> dns = ResolvedDns::open(host_, options_);
        EXPECT_TRUE(dns) << dns.error().text();
        dns_ = std::move(*dns);
    }
    void stop_plugin() { dns_.reset(); }
    void stop_resolved() { resolved_.reset(); }
    void start_resolved() { resolved_ = std::make_unique<FakeResolved>(bus_.address()); }
    ~HostOfOneTest() {
        EXPECT_TRUE(dns_->unroute());
        EXPECT_EQ(interface(), 0u);
        EXPECT_EQ(ledger(), std::vector<std::string>{});
    }
    static unsigned interface() { return ::if_nametoindex("banger-dns"); }
    [[nodiscard]] std::vector<std::string> ledger() const {
        return list_folder(host_.run_folder()).value();
    }
    ResolvedDns& dns() { return *dns_; }
    FakeResolved& resolved() { return *resolved_; }
    PrivateBus& bus() { return bus_; }
    PlainHost& plain() { return host_; }
    ResolvedDns::Options& options() { return options_; }
    [[nodiscard]] const ResolvedDns::Options& options() const { return options_; }

private:
    PlainHost host_;
    PrivateBus bus_;
    std::unique_ptr<FakeResolved> resolved_;
    ResolvedDns::Options options_;
    std::unique_ptr<ResolvedDns> dns_;
};

bool leads(const std::map<int, FakeResolved::Link>& links) {
    return links.size() == 1 &&
           links.begin()->second.servers == std::vector<std::string>{"127.0.0.1:42069"} &&
           links.begin()->second.domains == std::vector<std::string>{"~vm"};
}

class ResolvedDnsTest : public ::testing::Test {
protected:
    HostOfOneTest host_;
};

TEST_F(ResolvedDnsTest, OneZoneGoesToOneServerAndNothingElse) {
    ASSERT_TRUE(host_.dns().route(zone, {}));
    const auto links = host_.resolved().links();
    ASSERT_THAT(links, SizeIs(1));
    const auto& [index, link] = *links.begin();
    EXPECT_EQ(static_cast<unsigned>(index), HostOfOneTest::interface());
    EXPECT_THAT(link.servers, ElementsAre("127.0.0.1:42069"));
    EXPECT_THAT(link.domains, ElementsAre("~vm"));
    EXPECT_FALSE(link.is_default_route);
    EXPECT_FALSE(link.took_everything) << "not even for a moment";
    for (const char* word :
         {"SetLinkLLMNR", "SetLinkMulticastDNS", "SetLinkDNSOverTLS", "SetLinkDNSSEC"})
        EXPECT_EQ(link.words.at(word), "no") << word;
    EXPECT_THAT(host_.ledger(), SizeIs(1));
}

TEST_F(ResolvedDnsTest, ResolvedIsToldAgainWhenItRestarts) {
    ASSERT_TRUE(host_.dns().route(zone, {}));
    host_.stop_resolved();
    host_.start_resolved();
    host_.resolved().await(leads);
    EXPECT_FALSE(host_.resolved().links().begin()->second.took_everything);
}

TEST_F(ResolvedDnsTest, ResolvedThatComesLaterIsToldThen) {
    host_.stop_resolved();
    const Result<void> routed = host_.dns().route(zone, {});
    ASSERT_FALSE(routed);
    EXPECT_EQ(routed.error().code, Errc::unavailable);
    EXPECT_THAT(routed.error().remedy, HasSubstr("systemd-resolved"));
    host_.start_resolved();
    host_.resolved().await(leads);
}

TEST_F(ResolvedDnsTest, NoBusAtAll) {
    host_.stop_resolved();
    host_.bus().stop();
    const Result<void> routed = host_.dns().route(zone, {});
    ASSERT_FALSE(routed);
    EXPECT_EQ(routed.error().code, Errc::unavailable);
    EXPECT_FALSE(routed.error().remedy.empty());
    const std::vector<Check> rows = host_.dns().checks({});
    ASSERT_THAT(rows, SizeIs(1));
    EXPECT_EQ(rows[0].status, CheckStatus::warn);
    // A name that is published has the plugin look again at once.
    host_.bus().start();
    host_.start_resolved();
    ASSERT_TRUE(host_.dns().publish(
        {VmId::random(), VmName::parse("sandbox").value(), Ipv4Address(1)}, {}));
    host_.resolved().await(leads);
}

TEST_F(ResolvedDnsTest, APublishedNameRepairsTheRoute) {
    ASSERT_TRUE(host_.dns().route(zone, {}));
    host_.resolved().forget_links();
    ASSERT_TRUE(host_.dns().publish(
        {VmId::random(), VmName::parse("sandbox").value(), Ipv4Address(1)}, {}));
    host_.resolved().await(leads);
}

TEST_F(ResolvedDnsTest, TheRouteOutlivesThePlugin) {
    ASSERT_TRUE(host_.dns().route(zone, {}));
    const unsigned index = HostOfOneTest::interface();
    const int changes = host_.resolved().changes();
    host_.restart_plugin();
    ASSERT_TRUE(host_.dns().route(zone, {}));
    EXPECT_EQ(HostOfOneTest::interface(), index);
    EXPECT_EQ(host_.resolved().changes(), changes) << "it knows already";
    host_.stop_resolved();
    host_.start_resolved();
    host_.resolved().await(leads);
}

TEST_F(ResolvedDnsTest, ARestartedPluginGoesOnByItself) {
    ASSERT_TRUE(host_.dns().route(zone, {}));
    host_.resolved().forget_links();
    host_.restart_plugin();
    host_.resolved().await(leads);
}

TEST_F(ResolvedDnsTest, ACrashBeforeTheInterfaceWasMade) {
    {
        Result<Ledger> ledger = Ledger::open(host_.plain().run_folder());
        ASSERT_TRUE(
            ledger->write("route", format_route_entry({zone, 0, MacAddress::of(VmId::random())})));
    }
    host_.restart_plugin();
    host_.resolved().await(leads);
}

TEST_F(ResolvedDnsTest, ALedgerThatIsDamagedIsSaidAndLeft) {
    {
        Result<Ledger> ledger = Ledger::open(host_.plain().run_folder());
        ASSERT_TRUE(ledger->write("route", "zone .\n"));
    }
    host_.restart_plugin();
    EXPECT_THAT(host_.plain().logged, Contains(HasSubstr("damaged")));
    ASSERT_TRUE(host_.dns().route(zone, {})) << "and replaced";
}

TEST_F(ResolvedDnsTest, AnInterfaceOfOthersIsNotTouched) {
    const DnsInterface foreign("banger-dns", host_.options().interface_kind);
    const Result<int> index = foreign.make(MacAddress::of(VmId::random()));
    ASSERT_TRUE(index) << index.error().text();
    const Result<void> routed = host_.dns().route(zone, {});
    ASSERT_FALSE(routed);
    EXPECT_EQ(routed.error().code, Errc::already_exists);
    EXPECT_FALSE(routed.error().remedy.empty());
    EXPECT_TRUE(host_.dns().unroute());
    EXPECT_EQ(HostOfOneTest::interface(), static_cast<unsigned>(*index)) << "still there";
    EXPECT_THAT(host_.resolved().links(), IsEmpty());
    EXPECT_TRUE(foreign.remove(*index));
}

/// Ours was deleted, and somebody made another of the same name.
TEST_F(ResolvedDnsTest, AnInterfaceInThePlaceOfOursIsNotTouched) {
    ASSERT_TRUE(host_.dns().route(zone, {}));
    host_.stop_plugin();
    const DnsInterface foreign("banger-dns", host_.options().interface_kind);
    ASSERT_TRUE(foreign.remove(static_cast<int>(HostOfOneTest::interface())));
    const Result<int> index = foreign.make(MacAddress::of(VmId::random()));
    ASSERT_TRUE(index);
    host_.restart_plugin();
    EXPECT_EQ(host_.dns().route(zone, {}).error().code, Errc::already_exists);
    EXPECT_TRUE(host_.dns().unroute());
    EXPECT_EQ(HostOfOneTest::interface(), static_cast<unsigned>(*index));
    EXPECT_TRUE(foreign.remove(*index));
}

TEST_F(ResolvedDnsTest, NamesOfOthersAreNotLedAway) {
    for (const char* other : {"com", "", ".", "example.com", "vm.", "VM", "xvm"})
        EXPECT_EQ(host_.dns().route({other, zone.server, zone.port}, {}).error().code,
                  Errc::permission_denied)
            << other;
    for (const std::uint32_t server : {0U, 0x08080808U, 0x0a000001U})
        EXPECT_EQ(host_.dns().route({"vm", Ipv4Address(server), 53}, {}).error().code,
                  Errc::permission_denied);
    EXPECT_EQ(host_.dns().route({"vm", zone.server, 0}, {}).error().code, Errc::permission_denied);
    EXPECT_EQ(HostOfOneTest::interface(), 0u);
    EXPECT_EQ(host_.resolved().changes(), 0);
}

TEST_F(ResolvedDnsTest, AZoneThatIsNoLongerAllowedIsTakenBackAtTheStart) {
    ASSERT_TRUE(host_.dns().route(zone, {}));
    host_.options().zone = "other";
    host_.restart_plugin();
    EXPECT_EQ(HostOfOneTest::interface(), 0u);
}

TEST_F(ResolvedDnsTest, ARefusalLeavesNothing) {
    host_.resolved().refuse("org.freedesktop.DBus.Error.AccessDenied");
    const Result<void> routed = host_.dns().route(zone, {});
    ASSERT_FALSE(routed);
    EXPECT_EQ(routed.error().code, Errc::permission_denied);
    EXPECT_EQ(HostOfOneTest::interface(), 0u);
    EXPECT_THAT(host_.ledger(), IsEmpty());
    host_.resolved().refuse("");
}

TEST_F(ResolvedDnsTest, Checks) {
    EXPECT_EQ(host_.dns().checks({})[0].status, CheckStatus::warn) << "not told yet";
    ASSERT_TRUE(host_.dns().route(zone, {}));
    EXPECT_EQ(host_.dns().checks({})[0].status, CheckStatus::pass);
    // Refused, because the plugin may be about to look whether it has to lead again.
    host_.resolved().refuse("org.freedesktop.DBus.Error.AccessDenied");
    host_.resolved().forget_links();
    EXPECT_EQ(host_.dns().checks({})[0].status, CheckStatus::warn);
    host_.stop_resolved();
    const Check row = host_.dns().checks({})[0];
    EXPECT_EQ(row.status, CheckStatus::warn);
    EXPECT_THAT(row.remedy, HasSubstr("docs/dns-routing.md"));
}

}  // namespace

namespace contract {
namespace {

class ResolvedDnsSubject final : public DnsSubject {
public:
    Dns& role() override { return host_.dns(); }
    std::vector<std::string> exists() override {
        std::vector<std::string> all = host_.ledger();
        if (HostOfOneTest::interface() != 0) all.emplace_back("banger-dns");
        for (const auto& [index, link] : host_.resolved().links())
            all.push_back("link " + std::to_string(index));
        return all;
    }
    void restart() override { host_.restart_plugin(); }
    bool lose(const VmId&) override { return false; }

private:
    HostOfOneTest host_;
};

}  // namespace

INSTANTIATE_TEST_SUITE_P(ResolvedDns, DnsContract,
                         testing::Values(Case<DnsSubject>{
                             "fake_resolved",
                             [] { return std::make_unique<ResolvedDnsSubject>(); }}),
                         case_name);

}  // namespace contract
}  // namespace banger

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    if (testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
    const std::string why_not = banger::enter_namespace();
    if (!why_not.empty()) {
        const char* const required = std::getenv("BANGER_REQUIRE");
        const bool is_required =
            required != nullptr && std::string(required).find("netns") != std::string::npos;
        std::puts(("[  SKIPPED ] " + why_not).c_str());
        return is_required ? 1 : 0;
    }
    return RUN_ALL_TESTS();
}

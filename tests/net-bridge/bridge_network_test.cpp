#include "plugins/net-bridge/bridge_network.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>

#include "plugins/net-bridge/rtnetlink.hpp"
#include "tests/net-bridge/subject.hpp"
#include "tests/support/golden.hpp"

namespace banger {

std::vector<std::string> traces(const PlainHost& host) {
    std::vector<std::string> words;
    Nftables packet_filter;
    const std::vector<rtnetlink::Interface> interfaces = rtnetlink::interfaces().value();
    for (const rtnetlink::Interface& found : interfaces)
        if (found.kind == "tun" || found.kind == "bridge")
            words.push_back("interface " + found.name);
    const std::vector<std::string> tables = packet_filter.tables().value();
    for (const std::string& table : tables)
        if (table.ends_with(" banger")) words.push_back("table " + table);
    const std::vector<nftables::Rule> rules =
        packet_filter.rules(nftables::Family::ip, "filter").value();
    for (const nftables::Rule& rule : rules)
        if (rule.comment == "banger") words.push_back("rule in " + rule.chain);
    words.push_back("ip_forward " + read_sysctl("net/ipv4/ip_forward").value());
    const std::string ledger = host.run_folder() + "/ledger";
    if (path_exists(ledger)) {
        const std::vector<std::string> entries = list_folder(ledger).value();
        for (const std::string& name : entries)
            words.push_back("entry " + name);
    }
    std::ranges::sort(words);
    return words;
}

namespace {

using contract::failed_with;
using contract::has_remedy;
using contract::succeeded;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

const Ipv4Address bridge_address = Ipv4Address::parse("172.16.0.1").value();

class BridgeSubject final : public contract::NetworkSubject {
public:
    BridgeSubject() {
        const std::string why_not = enter_new_namespace();
        EXPECT_EQ(why_not, "");
        bridge_.hook = [this](std::string_view step, std::stop_token stop) -> Result<void> {
            if (step == "attach.port" && fails_.exchange(false))
                return Error(Errc::internal, "the test said so", "Nothing.");
            if (step == "attach.rules" && hangs_.exchange(false)) {
                std::unique_lock lock(mutex_);
                is_hanging_ = true;
                changed_.notify_all();
                changed_.wait(lock, stop, [] { return false; });
                return Error(Errc::cancelled, "cancelled while it hung");
            }
            return ok();
        };
    }
    Network& role() override { return bridge_.network(); }
    std::vector<std::string> exists() override {
        EXPECT_TRUE(succeeded(bridge_.network().settle()));
        return traces(bridge_.host);
    }
    void restart() override { bridge_.restart(); }
    bool lose(const VmId& vm) override {
        const std::string device = BridgeNetwork::device_of(::getuid(), vm);
        const auto found = rtnetlink::find_interface(device).value();
        return found && rtnetlink::remove_interface(found->index);
    }
    bool fail_next() override { return fails_ = true; }
    bool hang_next() override { return hangs_ = true; }
    void await_hang() override {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return is_hanging_; });
    }

private:
    std::atomic<bool> fails_ = false;
    std::atomic<bool> hangs_ = false;
    bool is_hanging_ = false;
    std::mutex mutex_;
    std::condition_variable_any changed_;
    BridgeFixture bridge_;
};

class BridgeNetworkTest : public NamespaceTest {
protected:
    BridgeFixture bridge_;
    BridgeNetwork& network() { return bridge_.network(); }
};

TEST_F(BridgeNetworkTest, TheLinkSaysWhereEverythingIs) {
    const NetworkLink plain = bridge_.attach(0);
    EXPECT_EQ(plain.kind, LinkKind::tap);
    EXPECT_EQ(plain.address.text(), "172.16.0.10/24");
    EXPECT_EQ(plain.gateway, bridge_address);
    EXPECT_EQ(plain.name_server, bridge_address);
    const NetworkLink nat = bridge_.attach(1, true);
    EXPECT_EQ(nat.name_server.text(), "1.1.1.1");
    EXPECT_EQ(network().addressing().pool->text(), "172.16.0.1/24");
}

TEST_F(BridgeNetworkTest, TheHostHasNothingBeforeAndAfter) {
    const std::vector<std::string> before = traces(bridge_.host);
    (void)network();
    EXPECT_EQ(traces(bridge_.host), before);
    const NetworkLink one = bridge_.attach(0, true);
    const NetworkLink two = bridge_.attach(1, true);
    EXPECT_THAT(traces(bridge_.host), Contains("ip_forward 1"));
    EXPECT_TRUE(succeeded(bridge_.detach(one.vm)));
    EXPECT_THAT(traces(bridge_.host), Contains("ip_forward 1"));
    EXPECT_TRUE(succeeded(bridge_.detach(two.vm)));
    EXPECT_EQ(traces(bridge_.host), before);
    EXPECT_EQ(run({"nft", "list", "ruleset"}), "");
}

TEST_F(BridgeNetworkTest, DetachCutsOffAtOnceAndTheDeviceGoesBehindIt) {
    std::atomic<bool> may_go = false;
    bridge_.hook = [&](std::string_view step, std::stop_token) -> Result<void> {
        while (step == "detach.device" && !may_go)
            ::usleep(1000);
        return ok();
    };
    bridge_.restart();
    const LinkRequest request = bridge_.request(0, true);
    ASSERT_TRUE(succeeded(network().attach(request, {})));
    const int bridge = rtnetlink::find_interface("banger0")->value().index;
    ASSERT_TRUE(succeeded(network().detach(request.vm)));
    ASSERT_TRUE(succeeded(network().detach(request.vm))) << "it is on its way";
    const std::string device = BridgeNetwork::device_of(::getuid(), request.vm);
    const std::optional<rtnetlink::Interface> left = rtnetlink::find_interface(device).value();
    ASSERT_TRUE(left);
    EXPECT_FALSE(left->is_up);
    EXPECT_EQ(left->master, 0);
    EXPECT_EQ(run({"nft", "list", "ruleset"}), "");
    EXPECT_EQ(read_sysctl("net/ipv4/ip_forward").value(), "0");

    // Its address is free; itself it comes back when its device is gone.
    LinkRequest other = bridge_.request(0);
    ASSERT_TRUE(succeeded(network().attach(other, {})));
    EXPECT_EQ(rtnetlink::find_interface("banger0")->value().index, bridge) << "another bridge";
    std::stop_source stop;
    LinkRequest again = bridge_.request(1);
    again.vm = request.vm;
    again.mac = request.mac;
    std::jthread stopper([&] {
        ::usleep(50'000);
        stop.request_stop();
    });
    EXPECT_TRUE(failed_with(network().attach(again, stop.get_token()), Errc::cancelled));
    EXPECT_EQ(rtnetlink::find_interface(device)->value().index, left->index);
    std::jthread opener([&] {
        ::usleep(50'000);
        may_go = true;
    });
    ASSERT_TRUE(succeeded(network().attach(again, {})));
    EXPECT_NE(rtnetlink::find_interface(device)->value().index, left->index);
}

TEST_F(BridgeNetworkTest, ACrashBehindADetachIsMadeGoodAtTheNextStart) {
    const LinkRequest request = bridge_.request(0);
    const std::vector<std::string> before = traces(bridge_.host);
    ASSERT_TRUE(succeeded(network().attach(request, {})));
    bridge_.stop();
    const pid_t child = ::fork();
    if (child == 0) {
        bridge_.hook = [](std::string_view step, std::stop_token) -> Result<void> {
            if (step == "detach.device") ::pause();
            return ok();
        };
        ::_exit(network().detach(request.vm) ? 9 : 0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_EQ(WEXITSTATUS(status), 9);
    EXPECT_TRUE(
        rtnetlink::find_interface(BridgeNetwork::device_of(::getuid(), request.vm))->has_value());
    // Core knows nothing of the crash: it starts the machine again.
    ASSERT_TRUE(succeeded(network().attach(request, {})));
    EXPECT_TRUE(succeeded(bridge_.detach(request.vm)));
    EXPECT_EQ(traces(bridge_.host), before);
}

TEST_F(BridgeNetworkTest, ForwardingThatWasOnStaysOn) {
    run({"sysctl", "-w", "net.ipv4.ip_forward=1"});
    const NetworkLink link = bridge_.attach(0, true);
    EXPECT_TRUE(succeeded(bridge_.detach(link.vm)));
    EXPECT_EQ(*read_sysctl("net/ipv4/ip_forward"), "1");
}

TEST_F(BridgeNetworkTest, ForwardingThatSomebodyElseCameToNeedStaysOn) {
    const NetworkLink link = bridge_.attach(0, true);
    run({"iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16", "-j", "MASQUERADE"});
    EXPECT_TRUE(succeeded(bridge_.detach(link.vm)));
    EXPECT_EQ(*read_sysctl("net/ipv4/ip_forward"), "1");
}

TEST_F(BridgeNetworkTest, TheTapIsAnIsolatedPortThatDoesNotLearn) {
    const NetworkLink link = bridge_.attach(0);
    const rtnetlink::Interface tap = rtnetlink::find_interface(link.device)->value();
    const rtnetlink::Interface bridge = rtnetlink::find_interface("banger0")->value();
    EXPECT_EQ(tap.kind, "tun");
    EXPECT_EQ(tap.alias, "banger vm " + link.vm.str());
    EXPECT_EQ(tap.master, bridge.index);
    EXPECT_TRUE(tap.is_isolated);
    EXPECT_TRUE(tap.is_up);
    EXPECT_EQ(tap.tun_owner, ::getuid());
    EXPECT_EQ(bridge.alias, "banger bridge");
    const std::string port = run({"ip", "-d", "link", "show", link.device});
    for (const char* setting :
         {"learning off", "flood off", "hairpin off", "isolated on", "mcast_flood off"})
        EXPECT_THAT(port, HasSubstr(setting));
    EXPECT_THAT(run({"bridge", "fdb", "show", "dev", link.device}),
                HasSubstr(link.mac.text() + " master banger0 static"));
    EXPECT_THAT(run({"ip", "-6", "address", "show"}), Not(HasSubstr("banger0")));
    EXPECT_EQ(*read_sysctl("net/ipv6/conf/banger0/accept_ra"), "0");
    EXPECT_EQ(*read_sysctl("net/ipv6/conf/banger0/disable_ipv6"), "1");
}

TEST_F(BridgeNetworkTest, OnlyItsOwnerMayOpenTheTap) {
    LinkRequest request = bridge_.request(0);
    request.owner_uid = 4711;
    const Result<NetworkLink> link = network().attach(request, {});
    if (!link) GTEST_SKIP() << "needs root: other users";
    const auto open_as = [&](uid_t uid) {
        const pid_t child = ::fork();
        if (child == 0) {
            // Not every host lets everybody open this one.
            const int fd = ::open("/dev/net/tun", O_RDWR | O_CLOEXEC);
            ifreq wanted{};
            std::memcpy(wanted.ifr_name, link->device.data(), link->device.size());
            wanted.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
            const bool changed = fd >= 0 && ::setgid(uid) == 0 && ::setuid(uid) == 0;
            ::_exit(changed ? (::ioctl(fd, TUNSETIFF, &wanted) == 0 ? 0 : 1) : 2);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        return WEXITSTATUS(status);
    };
    EXPECT_EQ(open_as(4712), 1);
    EXPECT_EQ(open_as(4711), 0);
}

TEST_F(BridgeNetworkTest, TheRulesAreInThisOrder) {
    for (std::size_t n = 0; n < 2; ++n) {
        LinkRequest request = bridge_.request(n, n == 1);
        request.vm = VmId::parse(n == 0 ? "0123456789ab" : "0123456789ac").value();
        request.mac = MacAddress::of(request.vm);
        request.owner_uid = 0;
        ASSERT_TRUE(succeeded(network().attach(request, {})));
    }
    expect_golden("in-force.nft", run({"nft", "-s", "list", "ruleset"}));
}

TEST_F(BridgeNetworkTest, OneNatChainAMachineAlsoAfterStopAndStart) {
    const LinkRequest request = bridge_.request(0, true);
    const auto count = [&] {
        const std::string rules = run({"nft", "list", "table", "inet", "banger"});
        const std::string chain = "chain nat-" + request.vm.str() + " {";
        return rules.find(chain) != rules.npos && rules.find(chain) == rules.rfind(chain);
    };
    ASSERT_TRUE(succeeded(network().attach(request, {})));
    const NetworkLink other = bridge_.attach(1);
    EXPECT_TRUE(count());
    ASSERT_TRUE(succeeded(bridge_.detach(request.vm)));
    EXPECT_FALSE(count());
    ASSERT_TRUE(succeeded(network().attach(request, {})));
    EXPECT_TRUE(count());
    EXPECT_THAT(run({"nft", "list", "chain", "inet", "banger", "nat-" + request.vm.str()}),
                HasSubstr("masquerade"));
}

/// Of the table that was made last: the kernel counts them in this namespace.
int table_handle() {
    const std::string tables = run({"nft", "-a", "list", "tables", "inet"});
    const std::size_t at = tables.find("# handle ");
    return at == std::string::npos ? 0 : std::stoi(tables.substr(at + 9));
}

TEST_F(BridgeNetworkTest, MachinesThatComeAndGoAtOnceShareTheirRules) {
    constexpr std::size_t count = 8;
    std::vector<LinkRequest> requests;
    for (std::size_t i = 0; i < count; ++i)
        requests.push_back(bridge_.request(i, i % 2 == 0));
    std::atomic<bool> waits = true;
    bridge_.hook = [&](std::string_view step, std::stop_token) -> Result<void> {
        // The first to come holds the lock until all are known: with the bridge they are nine.
        if (step == "attach.rules" && waits.exchange(false))
            while (list_folder(bridge_.host.run_folder() + "/ledger").value().size() < count + 1)
                ::usleep(1000);
        return ok();
    };
    bridge_.restart();
    const auto at_once = [&](const std::function<void(const LinkRequest&)>& action) {
        std::vector<std::jthread> threads;
        for (const LinkRequest& request : requests)
            threads.emplace_back([&] { action(request); });
    };
    at_once(
        [&](const LinkRequest& request) { EXPECT_TRUE(succeeded(network().attach(request, {}))); });
    // Two tables: one transaction for all of them.
    EXPECT_LE(table_handle(), 2);
    for (const LinkRequest& request : requests)
        EXPECT_THAT(run({"nft", "list", "table", "bridge", "banger"}),
                    HasSubstr(BridgeNetwork::device_of(::getuid(), request.vm)));
    at_once(
        [&](const LinkRequest& request) { EXPECT_TRUE(succeeded(bridge_.detach(request.vm))); });
    EXPECT_EQ(run({"nft", "list", "ruleset"}), "");
}

TEST_F(BridgeNetworkTest, AnAddressOrMacIsGivenOnce) {
    const LinkRequest first = bridge_.request(0);
    ASSERT_TRUE(succeeded(network().attach(first, {})));
    LinkRequest second = bridge_.request(0);
    EXPECT_TRUE(failed_with(network().attach(second, {}), Errc::in_use));
    second = bridge_.request(1);
    second.mac = first.mac;
    EXPECT_TRUE(failed_with(network().attach(second, {}), Errc::in_use));
}

TEST_F(BridgeNetworkTest, AddressesThatAreNoGuestsAreRefused) {
    for (const char* text : {"172.16.0.0", "172.16.0.1", "172.16.0.255", "172.16.1.5", "127.0.0.1",
                             "0.0.0.0", "169.254.169.254"}) {
        LinkRequest request = bridge_.request(0);
        request.address = Ipv4Address::parse(text).value();
        EXPECT_TRUE(failed_with(network().attach(request, {}), Errc::invalid_argument)) << text;
    }
    for (const char* text :
         {"01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:11:22:33:44:55", "00:00:00:00:00:00"}) {
        LinkRequest request = bridge_.request(0);
        request.mac = MacAddress::parse(text).value();
        EXPECT_TRUE(failed_with(network().attach(request, {}), Errc::invalid_argument)) << text;
    }
    LinkRequest request = bridge_.request(0);
    request.address.reset();
    EXPECT_TRUE(failed_with(network().attach(request, {}), Errc::invalid_argument));
    EXPECT_FALSE(rtnetlink::find_interface("banger0")->has_value());
}

TEST_F(BridgeNetworkTest, AForeignInterfaceOfTheBridgesNameIsLeftAlone) {
    for (const char* kind : {"bridge", "veth"}) {
        run({"ip", "link", "add", "banger0", "type", kind});
        const Result<NetworkLink> link = network().attach(bridge_.request(0), {});
        EXPECT_TRUE(failed_with(link, Errc::in_use));
        EXPECT_TRUE(has_remedy(link));
        EXPECT_EQ(network().checks({})[0].status, CheckStatus::fail);
        EXPECT_TRUE(succeeded(network().recover({})));
        EXPECT_TRUE(rtnetlink::find_interface("banger0")->has_value());
        run({"ip", "link", "delete", "banger0"});
    }
}

TEST_F(BridgeNetworkTest, AForeignTapOfTheDerivedNameIsLeftAlone) {
    const LinkRequest request = bridge_.request(0);
    const std::string device = BridgeNetwork::device_of(request.owner_uid, request.vm);
    run({"ip", "tuntap", "add", "dev", device, "mode", "tap"});
    EXPECT_TRUE(failed_with(network().attach(request, {}), Errc::already_exists));
    EXPECT_TRUE(succeeded(network().recover({})));
    EXPECT_TRUE(rtnetlink::find_interface(device)->has_value());
}

TEST_F(BridgeNetworkTest, ADeviceThatWasReplacedIsNotRemoved) {
    const NetworkLink link = bridge_.attach(0);
    run({"ip", "link", "delete", link.device});
    run({"ip", "tuntap", "add", "dev", link.device, "mode", "tap"});
    EXPECT_TRUE(succeeded(bridge_.detach(link.vm)));
    EXPECT_TRUE(rtnetlink::find_interface(link.device)->has_value());
    EXPECT_FALSE(rtnetlink::find_interface("banger0")->has_value());
}

TEST_F(BridgeNetworkTest, ASubnetClashNamesBothAndOffersAFreeOne) {
    run({"ip", "link", "add", "lan0", "type", "veth"});
    run({"ip", "address", "add", "172.16.3.1/16", "dev", "lan0"});
    run({"ip", "link", "set", "lan0", "up"});
    const std::vector<std::string> before = traces(bridge_.host);
    const Result<NetworkLink> link = network().attach(bridge_.request(0), {});
    EXPECT_TRUE(failed_with(link, Errc::in_use));
    EXPECT_THAT(link.error().message, HasSubstr("172.16.0.0/16"));
    EXPECT_THAT(link.error().remedy, HasSubstr("\"172.17.0.1/24\""));
    EXPECT_EQ(traces(bridge_.host), before);
    const Check row = network().checks({})[0];
    EXPECT_EQ(row.status, CheckStatus::fail);
    EXPECT_THAT(row.remedy, HasSubstr("172.17.0.1/24"));
}

TEST_F(BridgeNetworkTest, ARouteClashesToo) {
    run({"ip", "link", "add", "vpn0", "type", "veth"});
    run({"ip", "link", "set", "vpn0", "up"});
    run({"ip", "route", "add", "172.16.0.0/12", "dev", "vpn0", "table", "100"});
    run({"ip", "route", "add", "default", "dev", "vpn0"});
    EXPECT_TRUE(failed_with(network().attach(bridge_.request(0), {}), Errc::in_use));
}

TEST_F(BridgeNetworkTest, RecoverPutsFlushedRulesAndALostBridgeBack) {
    const NetworkLink link = bridge_.attach(0, true);
    const std::vector<std::string> whole = traces(bridge_.host);
    const std::string rules = run({"nft", "-s", "list", "ruleset"});
    bridge_.stop();
    run({"nft", "flush", "ruleset"});
    run({"ip", "link", "delete", "banger0"});
    run({"sysctl", "-w", "net.ipv4.ip_forward=0"});
    EXPECT_EQ(network().checks({})[1].status, CheckStatus::fail);
    for (int i = 0; i < 2; ++i) {
        const Result<std::vector<VmId>> lost = network().recover({&link, 1});
        ASSERT_TRUE(succeeded(lost));
        EXPECT_THAT(*lost, IsEmpty());
        EXPECT_EQ(traces(bridge_.host), whole);
        EXPECT_EQ(run({"nft", "-s", "list", "ruleset"}), rules);
        EXPECT_TRUE(rtnetlink::find_interface(link.device)->value().is_isolated);
    }
    const Guest guest(link);  // it is on the bridge
    EXPECT_TRUE(succeeded(bridge_.detach(link.vm)));
}

TEST_F(BridgeNetworkTest, RulesThatAreFlushedComeBackAtOnce) {
    (void)bridge_.attach(0, true);
    const std::string rules = run({"nft", "-s", "list", "ruleset"});
    for (const char* words : {"flush ruleset", "delete table bridge banger"}) {
        run({"nft", words});
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
        while (run({"nft", "-s", "list", "ruleset"}) != rules &&
               std::chrono::steady_clock::now() < deadline)
            ::usleep(1000);
        EXPECT_EQ(run({"nft", "-s", "list", "ruleset"}), rules) << words;
    }
}

TEST_F(BridgeNetworkTest, ALostLedgerIsMadeAgainFromTheMarks) {
    const NetworkLink kept = bridge_.attach(0);
    const NetworkLink stray = bridge_.attach(1);
    run({"ip", "tuntap", "add", "dev", "bgr-somebody", "mode", "tap"});
    ASSERT_TRUE(remove_tree(bridge_.host.run_folder() + "/ledger"));
    bridge_.restart();
    const Result<std::vector<VmId>> lost = network().recover({&kept, 1});
    ASSERT_TRUE(succeeded(lost));
    EXPECT_THAT(*lost, IsEmpty());
    EXPECT_TRUE(rtnetlink::find_interface(kept.device)->has_value());
    EXPECT_FALSE(rtnetlink::find_interface(stray.device)->has_value());
    EXPECT_TRUE(rtnetlink::find_interface("bgr-somebody")->has_value()) << "not marked: not ours";
    EXPECT_TRUE(succeeded(bridge_.detach(kept.vm)));
    EXPECT_FALSE(rtnetlink::find_interface("banger0")->has_value());
}

TEST_F(BridgeNetworkTest, AnotherBridgeNameTakesTheMachinesAlong) {
    const NetworkLink link = bridge_.attach(0);
    bridge_.stop();
    bridge_.host.changeable_settings = {{"bridge_name", std::string("banger-new")}};
    const Result<std::vector<VmId>> lost = network().recover({&link, 1});
    ASSERT_TRUE(succeeded(lost));
    EXPECT_THAT(*lost, IsEmpty());
    EXPECT_FALSE(rtnetlink::find_interface("banger0")->has_value());
    const Guest guest(link);
    ASSERT_TRUE(succeeded(bridge_.detach(link.vm)));
    EXPECT_THAT(traces(bridge_.host), ElementsAre("ip_forward 0"));
}

TEST_F(BridgeNetworkTest, DamagedEntriesDoNotStopRecovery) {
    const NetworkLink link = bridge_.attach(0);
    ASSERT_TRUE(write_file_atomic(bridge_.host.run_folder() + "/ledger/vm-" + link.vm.str(),
                                  "state made\nvm \n", 0600));
    ASSERT_TRUE(
        write_file_atomic(bridge_.host.run_folder() + "/ledger/vm-nonsense", "nonsense", 0600));
    bridge_.restart();
    const Result<std::vector<VmId>> lost = network().recover({&link, 1});
    ASSERT_TRUE(succeeded(lost));
    EXPECT_THAT(*lost, IsEmpty());
    EXPECT_TRUE(succeeded(bridge_.detach(link.vm)));
    EXPECT_THAT(traces(bridge_.host), ElementsAre("ip_forward 0"));
}

TEST_F(BridgeNetworkTest, ChecksPassOnAPlainHost) {
    for (const bool is_attached : {false, true}) {
        if (is_attached) (void)bridge_.attach(0, true);
        const std::vector<Check> rows = network().checks({});
        ASSERT_EQ(rows.size(), 4u);
        for (const Check& row : rows)
            EXPECT_EQ(row.status, CheckStatus::pass) << row.name << ": " << row.detail;
    }
}

TEST_F(BridgeNetworkTest, GuestsMayTalkWhenTheSettingsSaySo) {
    BridgeFixture open({{"allow_guest_to_guest", true}});
    const NetworkLink one = open.attach(0);
    const NetworkLink two = open.attach(1);
    EXPECT_FALSE(rtnetlink::find_interface(one.device)->value().is_isolated);
    const Guest sender(one);
    const Guest receiver(two);
    sender.send(ethernet(two.mac, one.mac, 0x0800,
                         udp({one.address.address(), two.address.address(), 1, 2, "hello"})));
    const std::optional<UdpPacket> packet = receiver.receive();
    ASSERT_TRUE(packet);
    EXPECT_EQ(packet->text, "hello");
}

}  // namespace
}  // namespace banger

using banger::contract::NetworkContract;
INSTANTIATE_TEST_SUITE_P(Bridge, NetworkContract,
                         testing::Values(banger::contract::Case<banger::contract::NetworkSubject>{
                             "bridge", [] { return std::make_unique<banger::BridgeSubject>(); }}),
                         banger::contract::case_name);

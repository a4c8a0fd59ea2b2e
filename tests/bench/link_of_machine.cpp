#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "plugins/net-bridge/bridge_network.hpp"
#include "plugins/net-bridge/rtnetlink.hpp"
#include "tests/support/plain_host.hpp"

/// How long net-bridge takes for a link, in a network namespace of its own: lines "WHAT MEDIAN
/// P95", in milliseconds. Root.
namespace banger {
namespace {

using Clock = std::chrono::steady_clock;

class Times {
public:
    void add(double milliseconds) { all_.push_back(milliseconds); }
    void print(const char* what) {
        std::ranges::sort(all_);
        std::printf("%s %.2f %.2f\n", what, all_[all_.size() / 2], all_[all_.size() * 95 / 100]);
        all_.clear();
    }

private:
    std::vector<double> all_;
};

template <class Action>
double timed(const Action& action) {
    const Clock::time_point begin = Clock::now();
    action();
    return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

LinkRequest request(unsigned n) {
    const VmId vm = VmId::random();
    return {vm,
            VmName::parse("bench").value(),
            MacAddress::of(vm),
            Ipv4Address(0xac10000a + n),
            true,
            0,
            {}};
}

void measure(BridgeNetwork& network, const char* attach, const char* detach) {
    Times attached;
    Times detached;
    for (int i = 0; i < 40; ++i) {
        const LinkRequest wanted = request(1);
        attached.add(timed([&] { (void)network.attach(wanted, {}).value(); }));
        detached.add(timed([&] { network.detach(wanted.vm).value(); }));
        // The next one is measured alone; the bridge is made anew where it was the last.
        network.settle().value();
    }
    attached.print(attach);
    detached.print(detach);
}

void measure_at_once(BridgeNetwork& network) {
    Times attached;
    Times detached;
    for (int round = 0; round < 5; ++round) {
        constexpr unsigned count = 20;
        std::vector<double> attach(count);
        std::vector<double> detach(count);
        {
            std::vector<std::jthread> threads;
            for (unsigned i = 0; i < count; ++i)
                threads.emplace_back([&, i] {
                    const LinkRequest wanted = request(2 + i);
                    attach[i] = timed([&] { (void)network.attach(wanted, {}).value(); });
                    detach[i] = timed([&] { network.detach(wanted.vm).value(); });
                });
        }
        for (unsigned i = 0; i < count; ++i) {
            attached.add(attach[i]);
            detached.add(detach[i]);
        }
        network.settle().value();
    }
    attached.print("attach-20-at-once");
    detached.print("detach-20-at-once");
}

int run() {
    if (::unshare(CLONE_NEWNET) != 0) {
        std::perror("unshare");
        return 1;
    }
    PlainHost host;
    const std::unique_ptr<BridgeNetwork> network = BridgeNetwork::create(host, nullptr).value();
    measure(*network, "attach-first", "detach-last");
    const LinkRequest other = request(0);
    (void)network->attach(other, {}).value();
    measure(*network, "attach", "detach");
    measure_at_once(*network);
    // What the kernel alone takes to let go of a device.
    Times removed;
    for (int i = 0; i < 40; ++i) {
        rtnetlink::make_bridge("plain0", MacAddress::of(VmId::random())).value();
        const int index = rtnetlink::find_interface("plain0").value()->index;
        removed.add(timed([&] { rtnetlink::remove_interface(index).value(); }));
    }
    removed.print("kernel-removes-a-device");
    return 0;
}

}  // namespace
}  // namespace banger

int main() { return banger::run(); }

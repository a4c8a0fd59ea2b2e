#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <string>

#include "core/dns/responder.hpp"

/// `dns_responder < FILE`: reads lines "NAME ADDRESS", answers for them in the zone "vm" on a port
/// that it prints, until SIGTERM.
int main() {
    using namespace banger;
    dns::NameTable names;
    std::string name;
    std::string address;
    while (std::cin >> name >> address) {
        const Result<VmName> label = VmName::parse(name);
        const Result<Ipv4Address> ip = Ipv4Address::parse(address);
        if (!label || !ip || !names.publish({VmId::random(), *label, *ip})) return 2;
    }
    boost::asio::io_context io{1};
    const auto responder = dns::Responder::open(io, {"vm", Ipv4Address(0x7f000001), 0}, names);
    if (!responder) {
        std::cerr << responder.error().text() << "\n";
        return 1;
    }
    boost::asio::signal_set signals(io, SIGTERM, SIGINT);
    signals.async_wait([&](const boost::system::error_code&, int) { io.stop(); });
    std::cout << (*responder)->where().port << std::endl;
    io.run();
    return 0;
}

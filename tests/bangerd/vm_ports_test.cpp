#include "daemons/bangerd/vm_ports.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "daemons/bangerd/vm_signals.hpp"

namespace banger {
namespace {

using testing::HasSubstr;
using testing::Optional;

VmRecord machine(LinkKind kind) {
    VmRecord vm{.id = *VmId::parse("0123456789ab"),
                .name = *VmName::parse("web"),
                .image = *ArtifactName::parse("image"),
                .image_id = "0123456789ab",
                .kernel = *ArtifactName::parse("kernel"),
                .kernel_id = "0123456789ab",
                .backend = *PluginName::parse("fake"),
                .network = *PluginName::parse("fake"),
                .storage = *PluginName::parse("fake"),
                .mac = MacAddress::of(*VmId::parse("0123456789ab"))};
    vm.link = NetworkLink{.vm = vm.id,
                          .kind = kind,
                          .device = {},
                          .mac = vm.mac,
                          .address = *Ipv4Prefix::parse("172.16.0.5/24"),
                          .gateway = {},
                          .name_server = {},
                          .nat = false,
                          .forwards = {{Ipv4Address(0x7f000001), 20022, 22}}};
    return vm;
}

guest::GuestPort tcp(const std::string& address, std::uint16_t port) {
    return {guest::PortProtocol::tcp, address, port, "server", 7};
}

TEST(Ports, OnTheBridgeWhatListensEverywhereHasAnEndpoint) {
    const VmRecord vm = machine(LinkKind::tap);
    EXPECT_THAT(port_of(vm, tcp("0.0.0.0", 8080), "vm").endpoint,
                Optional(std::string("http://web.vm:8080")));
    EXPECT_THAT(port_of(vm, tcp("::", 80), "vm").endpoint, Optional(std::string("http://web.vm")));
    EXPECT_THAT(port_of(vm, tcp("172.16.0.5", 443), "vm").endpoint,
                Optional(std::string("https://web.vm")));
    EXPECT_THAT(port_of(vm, tcp("0.0.0.0", 22), "vm").endpoint,
                Optional(std::string("ssh://root@web.vm")));
    EXPECT_THAT(port_of(vm, tcp("0.0.0.0", 8080), "").endpoint,
                Optional(std::string("http://172.16.0.5:8080")))
        << "without names, by address";
}

TEST(Ports, WhatTheHostCannotReachSaysWhy) {
    const VmRecord vm = machine(LinkKind::tap);
    for (const char* loopback : {"127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"}) {
        const protocol::Port port = port_of(vm, tcp(loopback, 5432), "vm");
        EXPECT_FALSE(port.endpoint) << loopback;
        EXPECT_THAT(port.note, HasSubstr("loopback; banger vm forward web 5432"));
    }
    EXPECT_FALSE(port_of(vm, tcp("172.17.0.1", 80), "vm").endpoint) << "docker's bridge";
    EXPECT_FALSE(port_of(vm, tcp("http://evil/", 80), "vm").endpoint);
}

TEST(Ports, InUserModeOnlyWhatIsForwarded) {
    const VmRecord vm = machine(LinkKind::user);
    EXPECT_THAT(port_of(vm, tcp("0.0.0.0", 22), "vm").endpoint,
                Optional(std::string("ssh://root@127.0.0.1:20022")));
    const protocol::Port other = port_of(vm, tcp("0.0.0.0", 8080), "vm");
    EXPECT_FALSE(other.endpoint);
    EXPECT_EQ(other.note, "banger vm forward web 8080");
    EXPECT_EQ(port_of(vm, tcp("::1", 5432), "vm").note, "banger vm forward web 5432");
    EXPECT_EQ(port_of(vm, tcp("172.17.0.1", 80), "vm").note, "not reachable in user mode");
    EXPECT_EQ(port_of(vm, {guest::PortProtocol::udp, "0.0.0.0", 53, "", 0}, "vm").note,
              "not reachable in user mode");
    EXPECT_FALSE(port_of(vm, {guest::PortProtocol::udp, "0.0.0.0", 22, "", 0}, "vm").endpoint);
    VmRecord alone = vm;
    alone.link.reset();
    EXPECT_FALSE(port_of(alone, tcp("0.0.0.0", 22), "vm").endpoint);
}

TEST(Signals, OnlyTheFewByTheirNames) {
    EXPECT_EQ(*signal_number("KILL"), SIGKILL);
    EXPECT_EQ(*signal_number("TERM"), SIGTERM);
    for (const char* word : {"", "9", "kill", "SIGKILL", "STOP", "CONT", "USR1", "KILL ", "0"})
        EXPECT_EQ(signal_number(word).error().code, Errc::invalid_argument) << word;
}

}  // namespace
}  // namespace banger

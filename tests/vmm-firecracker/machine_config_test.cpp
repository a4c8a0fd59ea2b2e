#include "plugins/vmm-firecracker/machine_config.hpp"

#include <gmock/gmock.h>

#include "banger/contract/subject.hpp"
#include "tests/support/golden.hpp"

namespace banger::firecracker {
namespace {

using contract::failed_with;
using contract::succeeded;

MachineSpec spec() {
    const VmId vm = VmId::parse("0123456789ab").value();
    return {.vm = vm,
            .name = VmName::parse("sandbox").value(),
            .vcpus = 2,
            .memory = ByteCount::mib(2048),
            .kernel_fd = 3,
            .initramfs_fd = 4,
            .command_line = "console=ttyS0 quiet",
            .disks = {{"/dev/banger/0123456789ab-root", DiskFormat::raw, false, "root"},
                      {"/dev/banger/0123456789ab-work", DiskFormat::raw, false, "work"},
                      {"/proc/self/fd/9", DiskFormat::raw, true, "modules"}},
            .link = {vm,
                     LinkKind::tap,
                     "bng0123456789",
                     MacAddress::of(vm),
                     Ipv4Prefix::parse("172.16.0.5/24").value(),
                     Ipv4Address::parse("172.16.0.1").value(),
                     Ipv4Address::parse("172.16.0.1").value(),
                     false,
                     {}}};
}

TEST(MachineConfig, IsThis) { expect_golden("machine.json", machine_config(spec(), {})); }

TEST(MachineConfig, WithLimitsIsThis) {
    expect_golden("machine_with_limits.json", machine_config(spec(), {200, 50}));
}

TEST(MachineConfig, WhatFirecrackerCannotRunIsRefused) {
    EXPECT_TRUE(succeeded(check_spec(spec())));
    const auto refused = [](Errc code, auto change) {
        MachineSpec changed = spec();
        change(changed);
        EXPECT_TRUE(failed_with(check_spec(changed), code));
        EXPECT_TRUE(contract::has_remedy(check_spec(changed)));
    };
    using Spec = MachineSpec;
    refused(Errc::invalid_argument, [](Spec& s) { s.kernel_fd = -1; });
    refused(Errc::invalid_argument, [](Spec& s) { s.initramfs_fd = -1; });
    refused(Errc::invalid_argument, [](Spec& s) { s.vcpus = 0; });
    refused(Errc::invalid_argument, [](Spec& s) { s.vcpus = 33; });
    refused(Errc::invalid_argument, [](Spec& s) { s.memory = ByteCount::mib(1); });
    refused(Errc::invalid_argument, [](Spec& s) { s.memory = ByteCount::gib(4096); });
    refused(Errc::unsupported, [](Spec& s) { s.link.kind = LinkKind::user; });
    refused(Errc::unsupported, [](Spec& s) { s.disks[0].format = DiskFormat::qcow2; });
    refused(Errc::invalid_argument, [](Spec& s) { s.disks[0].serial = "work"; });
    refused(Errc::invalid_argument, [](Spec& s) { s.disks[0].serial = ""; });
    refused(Errc::invalid_argument, [](Spec& s) { s.disks[0].serial = "../x"; });
    refused(Errc::invalid_argument, [](Spec& s) { s.disks[0].serial = "a,b"; });
    refused(Errc::invalid_argument, [](Spec& s) { s.disks.resize(9, s.disks[0]); });
    refused(Errc::invalid_argument, [](Spec& s) { s.command_line = "a\nb"; });
    refused(Errc::invalid_argument, [](Spec& s) { s.command_line = std::string(1500, 'x'); });
}

}  // namespace
}  // namespace banger::firecracker

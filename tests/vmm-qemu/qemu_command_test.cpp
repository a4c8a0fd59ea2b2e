#include "plugins/vmm-qemu/qemu_command.hpp"

#include <gmock/gmock.h>

#include <filesystem>

#include "banger/contract/subject.hpp"

namespace banger::qemu {
namespace {

using contract::failed_with;
using contract::has_remedy;
using contract::succeeded;

MachineSpec machine() {
    const VmId vm = VmId::parse("0123456789ab").value();
    const Ipv4Address loopback = Ipv4Address::parse("127.0.0.1").value();
    return {.vm = vm,
            .name = VmName::parse("brave-otter").value(),
            .vcpus = 2,
            .memory = ByteCount::gib(2),
            .kernel_fd = 10,
            .initramfs_fd = 11,
            .command_line = "console=ttyS0 quiet panic=-1",
            .disks = {{"/state/vm/root.qcow2", DiskFormat::qcow2, false, "root"},
                      {"/cache/a,b \"c\".img", DiskFormat::raw, true, "modules"}},
            .link = {vm,
                     LinkKind::user,
                     "",
                     MacAddress::parse("02:01:23:45:67:89").value(),
                     Ipv4Prefix::parse("10.0.2.15/24").value(),
                     Ipv4Address::parse("10.0.2.2").value(),
                     Ipv4Address::parse("10.0.2.3").value(),
                     false,
                     {{loopback, 20022, 22}, {loopback, 20080, 80}}}};
}

HostPart host() {
    return {.program = "/usr/bin/qemu-system-x86_64",
            .use_kvm = false,
            .qmp_listener = 12,
            .agent_listener = 13,
            .console_path = "/state/a,b/console.log",
            .standard_error = 14};
}

/// Options with their values, one a line.
std::string lines_of(const Command& command) {
    std::string text = command.program;
    for (const std::string& word : command.arguments)
        text += (word.starts_with('-') ? "\n" : " ") + word;
    return text + "\n";
}

TEST(QemuCommand, GoldenUserLinkEmulated) {
    const Command command = build_command(machine(), host());
    EXPECT_EQ(lines_of(command), R"(/usr/bin/qemu-system-x86_64
-name brave-otter
-nodefaults
-no-user-config
-display none
-no-reboot
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-machine q35,usb=off,sata=off,smbus=off,vmport=off,i8042=off
-accel tcg,thread=multi
-cpu max,la57=off
-smp 2
-m 2048M
-kernel /proc/self/fd/10
-append console=ttyS0 quiet panic=-1 no_timer_check
-initrd /proc/self/fd/11
-chardev socket,id=qmp,fd=12,server=on,wait=off
-mon chardev=qmp,mode=control
-chardev file,id=console,append=on,path=/state/a,,b/console.log
-serial chardev:console
-device virtio-serial-pci
-chardev socket,id=agent,fd=13,server=on,wait=off
-device virtserialport,chardev=agent,name=banger.agent
-device virtio-rng-pci
-blockdev {"driver":"qcow2","node-name":"disk0","read-only":false,"discard":"unmap","cache":{"direct":false,"no-flush":false},"file":{"driver":"file","filename":"/state/vm/root.qcow2","aio":"threads","locking":"auto","discard":"unmap"}}
-device {"driver":"virtio-blk-pci","drive":"disk0","serial":"root","write-cache":"on"}
-blockdev {"driver":"raw","node-name":"disk1","read-only":true,"discard":"ignore","cache":{"direct":false,"no-flush":false},"file":{"driver":"file","filename":"/cache/a,b \"c\".img","aio":"threads","locking":"auto","discard":"unmap"}}
-device {"driver":"virtio-blk-pci","drive":"disk1","serial":"modules","write-cache":"on"}
-netdev user,id=net0,ipv6=off,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3,dhcpstart=10.0.2.15,restrict=on,hostfwd=tcp:127.0.0.1:20022-10.0.2.15:22,hostfwd=tcp:127.0.0.1:20080-10.0.2.15:80
-device virtio-net-pci,netdev=net0,romfile=,mac=02:01:23:45:67:89
)");
    EXPECT_THAT(command.inherited, testing::ElementsAre(10, 12, 13, 11));
    EXPECT_TRUE(command.new_session);
    EXPECT_FALSE(command.dies_with_parent);
    EXPECT_EQ(command.standard_input, -1);
    EXPECT_EQ(command.standard_error, 14);
    EXPECT_THAT(command.environment,
                testing::UnorderedElementsAre(testing::Pair("LC_ALL", "C"),
                                              testing::Pair("PATH", "/usr/bin:/bin")));
}

TEST(QemuCommand, KvmTapAndAWayOutChangeTheirOptionsAlone) {
    MachineSpec spec = machine();
    HostPart part = host();
    part.use_kvm = true;
    const std::string kvm = lines_of(build_command(spec, part));
    EXPECT_THAT(kvm, testing::HasSubstr("\n-accel kvm\n-cpu host\n"));
    spec.link.nat = true;
    EXPECT_THAT(lines_of(build_command(spec, host())),
                testing::Not(testing::HasSubstr("restrict")));
    spec.link.kind = LinkKind::tap;
    spec.link.device = "bngr0";
    EXPECT_THAT(lines_of(build_command(spec, host())),
                testing::HasSubstr("\n-netdev tap,id=net0,ifname=bngr0,script=no,downscript=no\n"));
}

TEST(QemuCommand, ABlockDeviceHasADriverOfItsOwn) {
    std::string device;
    for (const auto& entry : std::filesystem::directory_iterator("/dev"))
        if (entry.is_block_file()) device = entry.path();
    if (device.empty()) GTEST_SKIP() << "there is no block device in /dev";
    MachineSpec spec = machine();
    spec.disks[0] = {device, DiskFormat::raw, false, "root"};
    EXPECT_THAT(lines_of(build_command(spec, host())),
                testing::HasSubstr(R"("driver":"host_device","filename":")" + device));
}

TEST(QemuCommand, AGoodSpecPasses) { EXPECT_TRUE(succeeded(check_spec(machine()))); }

TEST(QemuCommand, WhatCouldSmuggleAnOptionIsRefused) {
    const auto refused = [](auto change, Errc code) {
        MachineSpec spec = machine();
        change(spec);
        const Result<void> checked = check_spec(spec);
        return failed_with(checked, code) && has_remedy(checked);
    };
    EXPECT_TRUE(refused([](MachineSpec& s) { s.vcpus = 0; }, Errc::invalid_argument));
    EXPECT_TRUE(refused([](MachineSpec& s) { s.vcpus = 256; }, Errc::unsupported));
    EXPECT_TRUE(
        refused([](MachineSpec& s) { s.memory = ByteCount::kib(1023); }, Errc::invalid_argument));
    EXPECT_TRUE(refused([](MachineSpec& s) { s.kernel_fd = -1; }, Errc::invalid_argument));
    EXPECT_TRUE(refused([](MachineSpec& s) { s.command_line = "quiet\n-snapshot"; },
                        Errc::invalid_argument));
    EXPECT_TRUE(
        refused([](MachineSpec& s) { s.command_line.assign(2048, 'x'); }, Errc::invalid_argument));
    EXPECT_TRUE(refused([](MachineSpec& s) { s.command_line = std::string("a\0b", 3); },
                        Errc::invalid_argument));
    EXPECT_TRUE(
        refused([](MachineSpec& s) { s.disks[0].path = "root.img"; }, Errc::invalid_argument));
    EXPECT_TRUE(refused([](MachineSpec& s) { s.disks[0].path = "/a\nb"; }, Errc::invalid_argument));
    EXPECT_TRUE(
        refused([](MachineSpec& s) { s.disks[0].serial = "modules"; }, Errc::invalid_argument));
    for (const char* serial : {"", "a,b", "more-than-twenty-bytes", "ro ot"})
        EXPECT_TRUE(
            refused([&](MachineSpec& s) { s.disks[0].serial = serial; }, Errc::invalid_argument))
            << serial;
    EXPECT_TRUE(refused(
        [](MachineSpec& s) {
            for (int i = 0; i < 19; ++i)
                s.disks.push_back({"/d", DiskFormat::raw, true, "d" + std::to_string(i)});
        },
        Errc::unsupported));
    for (const char* device : {"", "tap0,script=/bin/sh", "sixteen-letters-x", "tap 0"})
        EXPECT_TRUE(refused(
            [&](MachineSpec& s) {
                s.link.kind = LinkKind::tap;
                s.link.device = device;
            },
            Errc::invalid_argument))
            << device;
    EXPECT_TRUE(
        refused([](MachineSpec& s) { s.link.forwards[0].host_port = 0; }, Errc::invalid_argument));
}

TEST(QemuCommand, OldVersionsAreTold) {
    EXPECT_TRUE(is_recent_enough("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"));
    EXPECT_TRUE(is_recent_enough("QEMU emulator version 10.0.2"));
    EXPECT_FALSE(is_recent_enough("QEMU emulator version 7.1.0"));
    EXPECT_FALSE(is_recent_enough("QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6)"));
    for (const char* text : {"", "QEMU", " version ", " version 8", " version 8.", " version x.y"})
        EXPECT_FALSE(is_recent_enough(text)) << text;
}

TEST(QemuCommand, WhatQemuSaidDecidesTheCode) {
    const auto code = [](const char* said) { return explain_failure(said, "QEMU ended").code; };
    EXPECT_EQ(code("qemu-system-x86_64: -netdev user,…: Could not set up host forwarding rule "
                   "'tcp:127.0.0.1:22-10.0.2.15:22'"),
              Errc::busy);
    EXPECT_EQ(code("Failed to get \"write\" lock\nIs another process using the image [/d]?"),
              Errc::in_use);
    EXPECT_EQ(code("cannot set up guest memory 'pc.ram': Cannot allocate memory"), Errc::no_space);
    EXPECT_EQ(code(""), Errc::internal);
    const Error error = explain_failure("one\x1b[2J\ntwo\n\n", "QEMU ended with exit status 1");
    EXPECT_EQ(error.message, "QEMU ended with exit status 1: one [2J\ntwo")
        << "no escape sequence reaches a terminal";
    EXPECT_FALSE(error.remedy.empty());
}

}  // namespace
}  // namespace banger::qemu

#include "daemons/bangerd-root/policy.hpp"

#include <atomic>
#include <thread>

#include "banger/contract/subject.hpp"
#include "tests/bangerd-root/yes_plugin.hpp"
#include "tests/remote/nothing_plugin.hpp"

namespace banger::root {
namespace {

using contract::all_at_once;
using contract::failed_with;
using contract::never;
using contract::succeeded;

constexpr uid_t owner = 1000;

class PolicyTest : public testing::Test {
protected:
    static LinkRequest link_of(const VmId& id, std::uint32_t uid = owner) {
        return {id, VmName::parse("a").value(), MacAddress::of(id), {}, false, uid, {}};
    }
    static VolumeRequest volume_of(const VmId& id, ByteCount size = ByteCount::mib(1),
                                   std::uint32_t uid = owner) {
        return {id, VolumeRole::root, -1, size, {DiskFormat::raw}, uid};
    }
    static Volume made(const VmId& id, std::string path = "/dev/mapper/x",
                       ByteCount size = ByteCount::mib(1)) {
        return {id, VolumeRole::root, std::move(path), DiskFormat::raw, size};
    }
    YesPlugin plugin_;
    std::unique_ptr<Policy> policy_ =
        Policy::make(
            plugin_.roles(), owner,
            {.links = 2, .volumes = 2, .records = 2, .forwards = 1, .volume = ByteCount::gib(1)})
            .value();
    Network& network_ = *policy_->roles().network;
    Dns& dns_ = *policy_->roles().dns;
    Storage& storage_ = *policy_->roles().storage;
};

TEST_F(PolicyTest, only_the_owner_gets_things) {
    const VmId id = VmId::random();
    for (const std::uint32_t uid : {0U, 1001U, 4294967295U}) {
        EXPECT_TRUE(
            failed_with(network_.attach(link_of(id, uid), never()), Errc::permission_denied));
        EXPECT_TRUE(failed_with(storage_.create(volume_of(id, ByteCount::mib(1), uid), never()),
                                Errc::permission_denied));
    }
    EXPECT_TRUE(succeeded(network_.attach(link_of(id), never())));
    EXPECT_TRUE(succeeded(storage_.create(volume_of(id), never())));
}

TEST_F(PolicyTest, links_are_counted) {
    const VmId one = VmId::random();
    const VmId two = VmId::random();
    const VmId three = VmId::random();
    EXPECT_TRUE(succeeded(network_.attach(link_of(one), never())));
    plugin_.fails = true;
    EXPECT_TRUE(failed_with(network_.attach(link_of(two), never()), Errc::internal));
    EXPECT_TRUE(failed_with(network_.attach(link_of(one), never()), Errc::internal));
    plugin_.fails = false;
    EXPECT_TRUE(succeeded(network_.attach(link_of(two), never()))) << "what failed does not count";
    EXPECT_TRUE(failed_with(network_.attach(link_of(three), never()), Errc::no_space));
    EXPECT_TRUE(succeeded(network_.detach(one)));
    EXPECT_TRUE(succeeded(network_.attach(link_of(three), never())));
    EXPECT_TRUE(succeeded(network_.recover({}))) << "nothing remembered, nothing left";
    EXPECT_TRUE(succeeded(network_.attach(link_of(one), never())));
}

TEST_F(PolicyTest, volumes_and_clones_and_names_are_counted) {
    const VmId one = VmId::random();
    EXPECT_TRUE(succeeded(storage_.create(volume_of(one), never())));
    EXPECT_TRUE(succeeded(storage_.cloning()->clone(made(one), VmId::random(), never())));
    EXPECT_TRUE(
        failed_with(storage_.cloning()->clone(made(one), VmId::random(), never()), Errc::no_space));
    EXPECT_TRUE(failed_with(storage_.create(volume_of(VmId::random()), never()), Errc::no_space));
    EXPECT_TRUE(succeeded(storage_.remove(one)));
    EXPECT_TRUE(succeeded(storage_.create(volume_of(VmId::random()), never())));

    const Ipv4Address address = Ipv4Address::parse("10.0.0.2").value();
    const auto record = [&](const char* name) {
        return DnsRecord{VmId::random(), VmName::parse(name).value(), address};
    };
    EXPECT_TRUE(succeeded(dns_.publish(record("a"), never())));
    EXPECT_TRUE(succeeded(dns_.publish(record("b"), never())));
    EXPECT_TRUE(failed_with(dns_.publish(record("c"), never()), Errc::no_space));
    EXPECT_TRUE(succeeded(dns_.unroute()));
    EXPECT_TRUE(succeeded(dns_.publish(record("c"), never())));
}

TEST_F(PolicyTest, sizes_and_texts_are_bounded) {
    const VmId id = VmId::random();
    const ByteCount large = ByteCount::bytes(ByteCount::gib(1).count() + 1);
    EXPECT_TRUE(
        failed_with(storage_.create(volume_of(id, large), never()), Errc::invalid_argument));
    EXPECT_TRUE(failed_with(storage_.resize(made(id), large, never()), Errc::invalid_argument));
    for (const std::string& path :
         {std::string("-rf"), std::string("/a\nb"), std::string("/a b"), std::string("/\x7f"),
          std::string("/\xc3\xa4"), std::string(65536, 'a')}) {
        EXPECT_TRUE(
            failed_with(storage_.activate(made(id, path), {}, never()), Errc::invalid_argument));
        EXPECT_TRUE(failed_with(storage_.usage(made(id, path)), Errc::invalid_argument));
        const Volume bad[] = {made(id, path)};
        EXPECT_TRUE(failed_with(storage_.recover(bad), Errc::invalid_argument));
        EXPECT_TRUE(failed_with(storage_.cloning()->clone(made(id, path), id, never()),
                                Errc::invalid_argument));
        EXPECT_TRUE(
            failed_with(dns_.route({path, Ipv4Address::parse("127.0.0.1").value(), 53}, never()),
                        Errc::invalid_argument));
    }
    NetworkLink link = plugin_.attach(link_of(id), never()).value();
    link.device = "a-device-name-16";
    EXPECT_TRUE(failed_with(network_.recover(std::span(&link, 1)), Errc::invalid_argument));
    const std::vector<NetworkLink> many(3, plugin_.attach(link_of(id), never()).value());
    EXPECT_TRUE(failed_with(network_.recover(many), Errc::no_space));
    LinkRequest wide = link_of(id);
    wide.forwards.resize(2);
    EXPECT_TRUE(failed_with(network_.attach(wide, never()), Errc::invalid_argument));
}

TEST_F(PolicyTest, one_machine_is_called_once_at_a_time) {
    const VmId id = VmId::random();
    all_at_once(8, [&](std::size_t) {
        for (int i = 0; i < 25; ++i)
            EXPECT_TRUE(succeeded(network_.attach(link_of(id), never())));
    });
    EXPECT_FALSE(plugin_.overlapped);
}

/// What came through the policy is counted by NothingPlugin, which then refuses it.
TEST(PolicyOfVmBackendTest, lets_through_what_is_within_bounds) {
    NothingPlugin plugin;
    Roles inner;
    inner.vm_backend = &plugin;
    const std::unique_ptr<Policy> policy = Policy::make(inner, owner,
                                                        {.machines = 1,
                                                         .disks = 2,
                                                         .vcpus = 4,
                                                         .memory = ByteCount::gib(1),
                                                         .console = ByteCount::mib(4)})
                                               .value();
    VmBackend& backend = *policy->roles().vm_backend;
    const VmId vm = VmId::random();
    const MachineSpec good{.vm = vm,
                           .name = VmName::parse("a").value(),
                           .vcpus = 4,
                           .memory = ByteCount::gib(1),
                           .command_line = "console=ttyS0 quiet",
                           .disks = {{"/dev/banger/x-root", DiskFormat::raw, false, "root"},
                                     {"/proc/self/fd/9", DiskFormat::raw, true, "modules"}},
                           .link = {vm,
                                    LinkKind::tap,
                                    "bng0",
                                    MacAddress::of(vm),
                                    Ipv4Prefix::parse("10.0.0.2/24").value(),
                                    {},
                                    {},
                                    false,
                                    {}}};
    EXPECT_TRUE(failed_with(backend.start(good, never()), Errc::wrong_state));
    EXPECT_EQ(plugin.calls, 1u);
    const auto refused = [&](auto change) {
        MachineSpec bad = good;
        change(bad);
        EXPECT_TRUE(failed_with(backend.start(bad, never()), Errc::invalid_argument));
        EXPECT_TRUE(
            failed_with(backend.snapshots()->restore(bad, {}, never()), Errc::invalid_argument));
    };
    using Spec = MachineSpec;
    refused([](Spec& s) { s.vcpus = 0; });
    refused([](Spec& s) { s.vcpus = 5; });
    refused([](Spec& s) { s.memory = ByteCount::gib(2); });
    refused([](Spec& s) { s.console_limit = ByteCount::mib(5); });
    refused([](Spec& s) { s.disks.push_back(s.disks[0]); });
    refused([](Spec& s) { s.command_line = "a\nb"; });
    refused([](Spec& s) { s.command_line = std::string(5000, 'a'); });
    refused([](Spec& s) { s.link.device = "-x"; });
    refused([](Spec& s) { s.link.device = "a/very/long/device"; });
    refused([](Spec& s) { s.disks[0].path = "/proc/self/fd/9"; });
    refused([](Spec& s) { s.disks[0].path = "/dev/with space"; });
    refused([](Spec& s) { s.disks[0].serial = "-root"; });
    EXPECT_EQ(plugin.calls, 1u);
    const std::vector<VmProcess> two{{vm, {2, 3}, ""}, {VmId::random(), {4, 5}, ""}};
    EXPECT_TRUE(failed_with(backend.recover(two), Errc::no_space));
    EXPECT_EQ(plugin.calls, 1u);
    EXPECT_TRUE(failed_with(backend.kill(two[0]), Errc::wrong_state));
    EXPECT_TRUE(failed_with(backend.remove(vm), Errc::wrong_state));
    EXPECT_TRUE(failed_with(backend.pausing()->pause(two[0], never()), Errc::wrong_state));
    EXPECT_EQ(plugin.calls, 4u);
    EXPECT_TRUE(failed_with(backend.snapshots()->save(two[0], {}, never()), Errc::wrong_state));
    EXPECT_TRUE(failed_with(backend.snapshots()->restore(good, {}, never()), Errc::wrong_state));
    EXPECT_EQ(plugin.calls, 6u);
    const VmProcess nobody{vm, {0, 3}, ""};
    EXPECT_TRUE(
        failed_with(backend.snapshots()->save(nobody, {}, never()), Errc::invalid_argument));
    EXPECT_EQ(plugin.calls, 6u);
}

TEST(PolicyOfOtherRolesTest, is_refused) {
    NothingPlugin all;
    Roles roles;
    roles.image_source = &all;
    EXPECT_TRUE(failed_with(Policy::make(roles, owner, {}), Errc::unsupported));
}

}  // namespace
}  // namespace banger::root

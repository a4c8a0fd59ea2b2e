#include "core/images/modules.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace banger::images {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::string_view modules_dep =
    "kernel/drivers/virtio/virtio_ring.ko:\n"
    "kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko\n"
    "kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio.ko "
    "kernel/drivers/virtio/virtio_ring.ko\n"
    "kernel/net/core/failover.ko:\n"
    "kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\n"
    "kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko "
    "kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko "
    "kernel/drivers/virtio/virtio_ring.ko\n"
    "kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio.ko "
    "kernel/drivers/virtio/virtio_ring.ko\n";

std::vector<std::string> order(std::string_view text, std::vector<std::string_view> names) {
    const Result<ModuleDependencies> dependencies = ModuleDependencies::parse(text);
    EXPECT_TRUE(dependencies);
    return dependencies->load_order(names).value();
}

TEST(Modules, AreNamedAsModprobeNamesThem) {
    EXPECT_EQ(module_name("kernel/drivers/char/hw_random/virtio-rng.ko.zst"), "virtio_rng");
    EXPECT_EQ(module_name("a.ko"), "a");
    EXPECT_EQ(module_name(""), "");
}

TEST(Modules, ComeAfterWhatTheyNeedAndOnce) {
    EXPECT_THAT(
        order(modules_dep, {"virtio_pci", "virtio_net", "virtio-rng"}),
        ElementsAre("kernel/drivers/virtio/virtio_ring.ko", "kernel/drivers/virtio/virtio.ko",
                    "kernel/drivers/virtio/virtio_pci.ko.xz", "kernel/net/core/failover.ko",
                    "kernel/drivers/net/net_failover.ko", "kernel/drivers/net/virtio_net.ko",
                    "kernel/drivers/char/hw_random/virtio-rng.ko"));
}

TEST(Modules, BuiltInOnesAreLeftOut) {
    EXPECT_THAT(order(modules_dep, {"ext4", "nonsense"}), IsEmpty());
    EXPECT_THAT(order("", {"ext4"}), IsEmpty());
}

TEST(Modules, SurviveAChainOfAnyLength) {
    std::string text;
    for (int at = 0; at < 100'000; ++at)
        text += "m" + std::to_string(at) + ".ko: m" + std::to_string(at + 1) + ".ko\n";
    text += "m100000.ko:\n";
    const std::vector<std::string> loaded = order(text, {"m0"});
    ASSERT_EQ(loaded.size(), 100'001U);
    EXPECT_EQ(loaded.front(), "m100000.ko");
    EXPECT_EQ(loaded.back(), "m0.ko");
}

TEST(Modules, ACircleOrAGapIsCorrupt) {
    for (const std::string_view text :
         {"a.ko: b.ko\nb.ko: a.ko\n", "a.ko: a.ko\n", "a.ko: missing.ko\n"}) {
        const std::vector<std::string_view> names{"a"};
        const Result<std::vector<std::string>> loaded =
            ModuleDependencies::parse(text)->load_order(names);
        ASSERT_FALSE(loaded) << text;
        EXPECT_EQ(loaded.error().code, Errc::corrupt);
    }
}

TEST(Modules, PathsStayInTheirFolder) {
    for (const std::string_view text : {"no colon\n", "/etc/passwd.ko:\n", "../a.ko:\n",
                                        "a.ko: /b.ko\n", "a.ko: b/../../c.ko\n", ": a.ko\n"})
        EXPECT_FALSE(ModuleDependencies::parse(text)) << text;
}

}  // namespace
}  // namespace banger::images

#include <gtest/gtest.h>

#include "daemons/vsock-agent/modules.hpp"

namespace banger::agent {
namespace {

TEST(Hardware, VirtioKindsComeFromTheAlias) {
    EXPECT_EQ(virtio_kind("virtio:d00000002v00001AF4"), 2U);
    EXPECT_EQ(virtio_kind("virtio:d00000013v00001AF4"), 19U);
    EXPECT_EQ(virtio_kind("pci:v00001AF4"), 0U);
    EXPECT_EQ(virtio_kind(""), 0U);
}

TEST(Hardware, ConditionsHoldForWhatIsThere) {
    const Hardware hardware{.pci = false, .mmio = true, .virtio = {1, 2}};
    EXPECT_TRUE(holds("always", hardware));
    EXPECT_TRUE(holds("mmio", hardware));
    EXPECT_FALSE(holds("pci", hardware));
    EXPECT_TRUE(holds("virtio:2", hardware));
    EXPECT_FALSE(holds("virtio:19", hardware));
    EXPECT_FALSE(holds("virtio:0", hardware));
    EXPECT_FALSE(holds("virtio:", hardware));
    EXPECT_FALSE(holds("usb", hardware));
    EXPECT_FALSE(holds("", hardware));
}

}  // namespace
}  // namespace banger::agent

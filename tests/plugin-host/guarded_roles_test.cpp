// What core believes of a role whose process it does not trust.

#include "core/plugin_host/guarded_roles.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include "tests/bangerd-root/yes_plugin.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

using testing::HasSubstr;

/// Says whatever the test wants.
class Saying final : public root::YesPlugin {
public:
    std::string path;
    std::optional<VmId> other = {};  ///< the machine that it speaks of instead
    Result<NetworkLink> attach(const LinkRequest& request, std::stop_token stop) override {
        Result<NetworkLink> link = YesPlugin::attach(request, std::move(stop));
        link->vm = other.value_or(link->vm);
        return link;
    }
    Result<Volume> create(const VolumeRequest& request, std::stop_token) override {
        return Volume{other.value_or(request.vm), request.role, path, DiskFormat::raw,
                      request.size};
    }
    StorageCloning* cloning() override { return nullptr; }
};

TEST(GuardedStorage, disks_lie_in_its_own_folders) {
    const TempFolder own;
    const TempFolder elsewhere;
    for (const std::string& file : {own / "disk", elsewhere / "secret"})
        ASSERT_TRUE(write_file_atomic(file, "x", 0600));
    ASSERT_EQ(::symlink((elsewhere / "secret").c_str(), (own / "link").c_str()), 0);
    Saying inner;
    const std::unique_ptr<Storage> storage = plugin_host::guard(inner, {own.path()});
    EXPECT_EQ(storage->cloning(), nullptr);
    VolumeRequest request{.vm = VmId::random(),
                          .role = VolumeRole::root,
                          .base_fd = -1,
                          .size = ByteCount::gib(1),
                          .formats = {DiskFormat::raw},
                          .owner_uid = 0};
    inner.path = own / "disk";
    const Result<Volume> good = storage->create(request, {});
    ASSERT_TRUE(good) << good.error().text();
    for (const std::string& path : {elsewhere / "secret", own / "link", own / "../secret",
                                    own / "missing", own.path(), std::string("/dev/null")}) {
        inner.path = path;
        const Result<Volume> bad = storage->create(request, {});
        ASSERT_FALSE(bad) << path;
        EXPECT_EQ(bad.error().code, Errc::corrupt);
        EXPECT_THAT(bad.error().message, HasSubstr("no file in its own folders"));
    }
}

/// What it says of another machine would be told back to it, and that one be stopped as lost.
TEST(GuardedRoles, speak_of_the_machine_that_was_asked_for) {
    const TempFolder own;
    ASSERT_TRUE(write_file_atomic(own / "disk", "x", 0600));
    Saying inner;
    inner.path = own / "disk";
    const std::unique_ptr<Storage> storage = plugin_host::guard(inner, {own.path()});
    const std::unique_ptr<Network> network = plugin_host::guard(static_cast<Network&>(inner));
    const VmId vm = VmId::random();
    const VolumeRequest disk{vm, VolumeRole::root, -1, ByteCount::gib(1), {DiskFormat::raw}, 0};
    const LinkRequest link{vm,
                           VmName::parse("box").value(),
                           MacAddress::of(vm),
                           Ipv4Address::parse("10.0.0.2").value(),
                           false,
                           0,
                           {}};
    EXPECT_TRUE(storage->create(disk, {}));
    EXPECT_TRUE(network->attach(link, {}));
    inner.other = VmId::random();
    EXPECT_EQ(storage->create(disk, {}).error().code, Errc::corrupt);
    EXPECT_EQ(network->attach(link, {}).error().code, Errc::corrupt);
}

}  // namespace
}  // namespace banger

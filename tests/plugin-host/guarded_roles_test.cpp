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
    Result<Volume> create(const VolumeRequest& request, std::stop_token) override {
        return Volume{request.vm, request.role, path, DiskFormat::raw, request.size};
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

}  // namespace
}  // namespace banger

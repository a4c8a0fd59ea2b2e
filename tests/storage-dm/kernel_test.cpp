#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "core/base/child.hpp"
#include "plugins/storage-dm/kernel_devices.hpp"
#include "tests/storage-dm/world.hpp"

/// storage-dm on the running kernel: needs root, device-mapper and loop devices. The lab has them.
namespace banger {
namespace {

using namespace std::chrono_literals;
using contract::failed_with;
using contract::succeeded;
using testing::Contains;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAreArray;

bool has_device_mapper() {
    if (::geteuid() != 0) return false;
    for (const Check& row : dm::KernelDevices().checks())
        if (row.status != CheckStatus::pass) return false;
    return true;
}

class KernelWorld final : public World {
public:
    KernelWorld() : nodes_("/dev/banger-test-" + VmId::random().str()) {}
    ~KernelWorld() override {
        // Tests of the contract do not all remove what they made.
        dm::KernelDevices kernel;
        EXPECT_TRUE(succeeded(DmStorage::open(host, kernel, options()).value()->recover({})));
        EXPECT_TRUE(remove_tree(nodes_));
    }
    std::unique_ptr<dm::BlockDevices> devices() override {
        return std::make_unique<dm::KernelDevices>();
    }
    [[nodiscard]] std::string node_folder() const override { return nodes_; }

    /// Mappings of the tests' owners (tests of the kernel run one after the other; an
    /// installation's are its owner's), and loop devices on files of this world. One that nothing
    /// uses goes when the last one closes it, which may be udev a moment after us.
    std::vector<std::string> in_the_kernel() override {
        const auto deadline = std::chrono::steady_clock::now() + 20s;
        while (loops(IsHeld::no) != 0 && std::chrono::steady_clock::now() < deadline)
            std::this_thread::sleep_for(20ms);
        std::vector<std::string> found = mappings();
        found.insert(found.end(), loops(IsHeld::no) + loops(IsHeld::yes), "loop");
        return found;
    }
    static std::vector<std::string> mappings() {
        std::vector<std::string> found;
        for (const auto& device : std::filesystem::directory_iterator("/sys/block")) {
            const Result<std::string> uuid =
                read_file(device.path().string() + "/dm/uuid", ByteCount::kib(4));
            if (uuid && is_of_a_test(*uuid)) found.push_back(uuid->substr(0, uuid->find('\n')));
        }
        return found;
    }

    static bool is_of_a_test(const std::string& uuid) {
        return uuid.starts_with("BANGER-" + std::to_string(::geteuid()) + "-") ||
               uuid.starts_with("BANGER-4242-");
    }

private:
    enum class IsHeld { no, yes };
    std::size_t loops(IsHeld wanted) const {
        std::size_t count = 0;
        for (const auto& device : std::filesystem::directory_iterator("/sys/block")) {
            const std::string path = device.path().string();
            const Result<std::string> file =
                read_file(path + "/loop/backing_file", ByteCount::kib(4));
            if (!file || !file->starts_with(host / "")) continue;
            const Result<std::vector<std::string>> holders = list_folder(path + "/holders");
            const IsHeld held = holders && !holders->empty() ? IsHeld::yes : IsHeld::no;
            if (held == wanted) ++count;
        }
        return count;
    }

    std::string nodes_;
};

class KernelTest : public testing::Test {
protected:
    void SetUp() override {
        if (has_device_mapper()) return;
        const char* const required = std::getenv("BANGER_REQUIRE");
        if (required && std::string_view(required).find("lab") != std::string_view::npos)
            FAIL() << "device-mapper and loop devices are required here";
        GTEST_SKIP() << "needs root, device-mapper and loop devices: run it in the lab";
    }
};

std::string read_at(const std::string& path, std::uint64_t offset, std::size_t count) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string bytes(count, 'x');
    EXPECT_EQ(::pread(fd.get(), bytes.data(), count, static_cast<off_t>(offset)),
              static_cast<ssize_t>(count))
        << path << " at " << offset;
    return bytes;
}

void write_at(const std::string& path, std::uint64_t offset, const std::string& bytes) {
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_EQ(::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)),
              static_cast<ssize_t>(bytes.size()));
    EXPECT_EQ(::fsync(fd.get()), 0);
}

TEST_F(KernelTest, ACrashAtAnyStepOfMakingADiskLeavesNothing) {
    KernelWorld world;
    crash_in_create(world, VolumeRole::root);
    crash_in_create(world, VolumeRole::work);
}

TEST_F(KernelTest, ACrashAtAnyStepOfRemovalIsFinishedByTheNext) {
    KernelWorld world;
    // The folder of the nodes stays; it is there from now on.
    Scene(world).storage->create(Scene(world).request(VmId::random()), {}).value();
    ASSERT_TRUE(succeeded(Scene(world).storage->recover({})));
    crash_in_remove(world);
}

TEST_F(KernelTest, ACrashAtAnyStepOfAStartKeepsTheDisk) {
    KernelWorld world;
    crash_in_activate(world);
}

TEST_F(KernelTest, AFailureAtAnyStepLeavesNothing) {
    KernelWorld world;
    fail_at_every_step(world, VolumeRole::root);
    fail_at_every_step(world, VolumeRole::work);
}

TEST_F(KernelTest, WhatAGuestWroteIsThereAfterAStopAndAfterGrowing) {
    KernelWorld world;
    Scene scene(world);
    const VmId vm = VmId::random();
    Result<Volume> volume = scene.storage->create(scene.request(vm), {});
    ASSERT_TRUE(succeeded(volume));
    write_at(volume->path, 4096, "in the image");
    write_at(volume->path, (1 << 20) + 4096, "past the image");
    write_at(volume->path, (8 << 20) - 4, "last");
    ASSERT_TRUE(succeeded(scene.storage->deactivate(vm)));
    EXPECT_FALSE(path_exists(volume->path));
    EXPECT_THAT(world.in_the_kernel(), IsEmpty());
    volume = scene.storage->resize(*volume, ByteCount::gib(2), {});
    ASSERT_TRUE(succeeded(volume));
    volume = scene.storage->activate(*volume, scene.base, {});
    ASSERT_TRUE(succeeded(volume));
    EXPECT_EQ(read_at(volume->path, 0, 4), "head");
    EXPECT_EQ(read_at(volume->path, 4096, 12), "in the image");
    EXPECT_EQ(read_at(volume->path, (1 << 20) + 4096, 14), "past the image");
    EXPECT_EQ(read_at(volume->path, (8 << 20) - 4, 8), std::string("last\0\0\0\0", 8));
    EXPECT_EQ(read_at(world.host / "base.img", 4096, 2), std::string(2, '\0')) << "the image";
    const UniqueFd disk(::open(volume->path.c_str(), O_RDONLY | O_CLOEXEC));
    std::uint64_t size = 0;
    EXPECT_EQ(::ioctl(disk.get(), BLKGETSIZE64, &size), 0);
    EXPECT_EQ(size, std::uint64_t{2} << 30);
}

TEST_F(KernelTest, AWholeDiskCanBeWrittenAndTheStoreNeverRunsFull) {
    KernelWorld world;
    Scene scene(world);
    const VmId vm = VmId::random();
    const UniqueFd base(
        ::open((world.host / "large.img").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    // The last chunk is a part of one.
    ASSERT_EQ(::ftruncate(base.get(), (24 << 20) + 4096), 0);
    VolumeRequest request = scene.request(vm, VolumeRole::root, ByteCount::mib(32));
    request.base_fd = base.get();
    const Result<Volume> volume = scene.storage->create(request, {});
    ASSERT_TRUE(succeeded(volume));
    const std::string mebibyte(1 << 20, 'w');
    for (std::uint64_t at = 0; at < 32; ++at)
        write_at(volume->path, at << 20, mebibyte);
    const Result<VolumeUsage> usage = scene.storage->usage(*volume);
    ASSERT_TRUE(succeeded(usage));
    EXPECT_EQ(usage->headroom, std::nullopt) << "the snapshot is good";
    EXPECT_GE(usage->allocated, ByteCount::mib(32));
    EXPECT_LT(usage->allocated, ByteCount::mib(36));
    EXPECT_EQ(read_at(volume->path, 23 << 20, 1 << 20), mebibyte);
    EXPECT_TRUE(succeeded(scene.storage->remove(vm)));
}

TEST_F(KernelTest, AFullHostBreaksOnlyTheDiskAndIsSeen) {
    KernelWorld world;
    const std::string small = world.host / "small";
    ASSERT_TRUE(ensure_folder(small, 0700));
    ASSERT_EQ(::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=3m"), 0);
    {
        const std::unique_ptr<dm::BlockDevices> devices = world.devices();
        // A store on a file system that is too small for it.
        const UniqueFd store(::open((small + "/cow").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        ASSERT_EQ(::ftruncate(store.get(), 16 << 20), 0);
        const UniqueFd base(::open((world.host / "b").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        ASSERT_EQ(::ftruncate(base.get(), 8 << 20), 0);
        const std::string uuid = dm::uuid_of(VmId::random(), VolumeRole::root, 4242);
        {
            const dm::Loop base_loop = devices->attach_loop(base.get(), true).value();
            const dm::Loop store_loop = devices->attach_loop(store.get(), false).value();
            const dm::DeviceNumber device = devices->create("banger-test-full", uuid).value();
            const dm::DiskRecord record{.size = ByteCount::mib(8), .base_size = ByteCount::mib(8)};
            ASSERT_TRUE(succeeded(devices->load(
                uuid, dm::table_of(record, {base_loop.device, store_loop.device, {}}))));
            ASSERT_TRUE(succeeded(devices->resume(uuid)));
            ASSERT_TRUE(succeeded(devices->make_node(world.node_folder(), "full", device, 0)));
        }
        const UniqueFd disk(::open((world.node_folder() + "/full").c_str(), O_RDWR | O_CLOEXEC));
        const std::string mebibyte(1 << 20, 'w');
        for (int i = 0; i < 8; ++i)
            EXPECT_EQ(::pwrite(disk.get(), mebibyte.data(), 1 << 20, i << 20), 1 << 20) << "cached";
        EXPECT_NE(::fsync(disk.get()), 0);
        const Result<std::vector<dm::Target>> status = devices->status(uuid);
        ASSERT_TRUE(succeeded(status));
        EXPECT_EQ(*dm::parse_snapshot_status(status->at(0).parameters), dm::SnapshotState::broken)
            << status->at(0).parameters;
        EXPECT_TRUE(failed_with(devices->remove(uuid), Errc::busy)) << "it is open";
    }
    for (const std::string& uuid : KernelWorld::mappings())
        EXPECT_TRUE(succeeded(dm::KernelDevices().remove(uuid)));
    EXPECT_THAT(world.in_the_kernel(), IsEmpty());
    EXPECT_EQ(::umount(small.c_str()), 0);
}

TEST_F(KernelTest, AForeignDeviceIsNotTouched) {
    KernelWorld world;
    Scene scene(world);
    dm::KernelDevices devices;
    const VmId vm = VmId::random();
    // Somebody has taken the name that the disk would get.
    const std::string name = dm::name_of(vm, VolumeRole::root, ::geteuid());
    ASSERT_TRUE(succeeded(devices.create(name, "FOREIGN-" + vm.str())));
    EXPECT_FALSE(scene.storage->create(scene.request(vm), {}));
    EXPECT_TRUE(succeeded(scene.storage->remove(vm)));
    EXPECT_TRUE(devices.find("FOREIGN-" + vm.str())->has_value()) << "it is still there";
    EXPECT_TRUE(succeeded(devices.remove("FOREIGN-" + vm.str())));
    EXPECT_TRUE(succeeded(devices.remove("FOREIGN-" + vm.str()))) << "already gone";
}

TEST_F(KernelTest, UdevFindsNothingOfTheGuests) {
    KernelWorld world;
    Scene scene(world);
    const Result<Volume> volume =
        scene.storage->create(scene.request(VmId::random(), VolumeRole::work), {});
    ASSERT_TRUE(succeeded(volume));
    // What mkfs would leave: the magic of ext4 and of a swap area.
    write_at(volume->path, 1024 + 56, "\x53\xef");
    write_at(volume->path, 4086, "SWAPSPACE2");
    ASSERT_TRUE(succeeded(scene.storage->deactivate(volume->vm)));
    ASSERT_TRUE(succeeded(scene.storage->activate(*volume, {}, {})));
    Command settle;  // a probe that still runs
    settle.program = find_program("udevadm").value();
    settle.arguments = {"settle"};
    ASSERT_TRUE(succeeded(run_command(settle, 180s, ByteCount::kib(4), {})));
    for (const auto& device : std::filesystem::directory_iterator("/sys/block")) {
        const std::string path = device.path().string();
        const Result<std::string> file = read_file(path + "/loop/backing_file", ByteCount::kib(4));
        const Result<std::string> uuid = read_file(path + "/dm/uuid", ByteCount::kib(4));
        const bool is_ours = (file && file->starts_with(world.host / "")) ||
                             (uuid && KernelWorld::is_of_a_test(*uuid));
        if (!is_ours) continue;
        const Result<std::string> number = read_file(path + "/dev", ByteCount::kib(1));
        const Result<std::string> known = read_file(
            "/run/udev/data/b" + number->substr(0, number->find('\n')), ByteCount::kib(64));
        EXPECT_THAT(known.value_or(""), Not(testing::HasSubstr("ID_FS_"))) << path;
    }
    struct stat status {};
    ASSERT_EQ(::stat(volume->path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u) << "udev left the node alone";
    EXPECT_TRUE(succeeded(scene.storage->remove(volume->vm)));
}

std::vector<contract::Case<contract::StorageSubject>> kernel_cases() {
    if (!has_device_mapper()) return {};
    return {
        {"kernel", [] { return std::make_unique<WorldSubject>(std::make_unique<KernelWorld>()); }}};
}

}  // namespace
}  // namespace banger

namespace banger::contract {
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(StorageContract);
INSTANTIATE_TEST_SUITE_P(KernelDmStorage, StorageContract, testing::ValuesIn(kernel_cases()),
                         case_name);
}  // namespace banger::contract

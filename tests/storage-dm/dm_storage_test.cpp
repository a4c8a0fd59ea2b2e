#include "plugins/storage-dm/dm_storage.hpp"

#include <sys/stat.h>

#include "tests/storage-dm/fake_block_devices.hpp"
#include "tests/storage-dm/world.hpp"

namespace banger {
namespace {

using contract::failed_with;
using contract::has_remedy;
using contract::succeeded;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAreArray;

class FakeWorld final : public World {
public:
    FakeWorld() { EXPECT_TRUE(ensure_folder(kernel_, 0700)); }
    std::unique_ptr<dm::BlockDevices> devices() override {
        return std::make_unique<dm::FakeBlockDevices>(kernel_);
    }
    std::vector<std::string> in_the_kernel() override { return files_below(kernel_); }
    [[nodiscard]] std::string node_folder() const override { return host / "nodes"; }

private:
    std::string kernel_ = host / "kernel";
};

struct Place {
    FakeWorld place;
};

struct Fixture : Place, Scene {
    Fixture() : Scene(static_cast<World&>(place)) {}
    dm::FakeBlockDevices& kernel() { return static_cast<dm::FakeBlockDevices&>(*devices); }
    VmId vm = VmId::random();
};

TEST(DmStorage, ACrashAtAnyStepOfMakingARootDiskLeavesNothing) {
    FakeWorld world;
    crash_in_create(world, VolumeRole::root);
}

TEST(DmStorage, ACrashAtAnyStepOfMakingAWorkDiskLeavesNothing) {
    FakeWorld world;
    crash_in_create(world, VolumeRole::work);
}

TEST(DmStorage, ACrashAtAnyStepOfRemovalIsFinishedByTheNext) {
    FakeWorld world;
    crash_in_remove(world);
}

TEST(DmStorage, ACrashAtAnyStepOfAStartKeepsTheDisk) {
    FakeWorld world;
    crash_in_activate(world);
}

TEST(DmStorage, AFailureAtAnyStepLeavesNothing) {
    FakeWorld world;
    fail_at_every_step(world, VolumeRole::root);
    fail_at_every_step(world, VolumeRole::work);
}

TEST(DmStorage, EveryStepOfRemovalRunsAndErrorsAreJoined) {
    FakeWorld world;
    DmStorage::Options options = world.options();
    bool fails = false;
    options.before_step = [&](std::string_view step, std::stop_token) -> Result<void> {
        if (fails && step.starts_with("remove-"))
            return Error(Errc::internal, std::string(step) + " broke", "None.");
        return ok();
    };
    Scene scene(world, options);
    const std::vector<std::string> before = world.exists();
    const VmId vm = VmId::random();
    ASSERT_TRUE(succeeded(scene.storage->create(scene.request(vm), {})));
    ASSERT_TRUE(succeeded(scene.storage->create(scene.request(vm, VolumeRole::work), {})));
    fails = true;
    const Result<void> removed = scene.storage->remove(vm);
    ASSERT_FALSE(removed);
    for (const char* part : {"root disk", "work disk", "remove-node broke", "remove-mapping broke"})
        EXPECT_THAT(removed.error().message, testing::HasSubstr(part));
    fails = false;
    EXPECT_TRUE(succeeded(scene.storage->remove(vm)));
    EXPECT_THAT(world.exists(), testing::IsSupersetOf(before));
    EXPECT_THAT(files_below(world.host.state_folder()), IsEmpty());
    EXPECT_THAT(files_below(world.host.run_folder()), IsEmpty());
}

TEST(DmStorage, ADeviceThatIsStillOpenIsWaitedFor) {
    Fixture f;
    ASSERT_TRUE(succeeded(f.storage->create(f.request(f.vm), {})));
    f.kernel().busy = 3;
    EXPECT_TRUE(succeeded(f.storage->deactivate(f.vm)));
    EXPECT_EQ(f.kernel().busy, 0);
}

TEST(DmStorage, ADeviceThatStaysOpenIsInUseAndKept) {
    FakeWorld world;
    DmStorage::Options options = world.options();
    options.busy_deadline = std::chrono::milliseconds(5);
    Scene scene(world, options);
    auto& kernel = static_cast<dm::FakeBlockDevices&>(*scene.devices);
    const VmId vm = VmId::random();
    const Result<Volume> volume = scene.storage->create(scene.request(vm), {});
    ASSERT_TRUE(succeeded(volume));
    kernel.busy = 1'000'000;
    const Result<void> removed = scene.storage->remove(vm);
    EXPECT_TRUE(failed_with(removed, Errc::in_use));
    EXPECT_TRUE(has_remedy(removed));
    EXPECT_TRUE(path_exists(world.host.state_folder() + "/" + vm.str() + "/root.disk"));
    kernel.busy = 0;
    EXPECT_TRUE(succeeded(scene.storage->activate(*volume, scene.base, {}))) << "it is unharmed";
    EXPECT_TRUE(path_exists(volume->path));
    EXPECT_TRUE(succeeded(scene.storage->remove(vm)));
    EXPECT_FALSE(path_exists(volume->path));
}

TEST(DmStorage, OnlyTheImageItWasMadeFromWillDo) {
    Fixture f;
    const Result<Volume> volume = f.storage->create(f.request(f.vm), {});
    ASSERT_TRUE(succeeded(volume));
    ASSERT_TRUE(succeeded(f.storage->deactivate(f.vm)));
    EXPECT_TRUE(failed_with(f.storage->activate(*volume, {}, {}), Errc::not_found)) << "none";
    const UniqueFd other(
        ::open((f.world.host / "other.img").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(::ftruncate(other.get(), 1 << 20), 0);
    const Result<Volume> wrong = f.storage->activate(*volume, other, {});
    EXPECT_TRUE(failed_with(wrong, Errc::corrupt));
    EXPECT_TRUE(has_remedy(wrong));
    const UniqueFd unreadable(::open((f.world.host / "base.img").c_str(), O_PATH | O_CLOEXEC));
    EXPECT_TRUE(failed_with(f.storage->activate(*volume, unreadable, {}), Errc::invalid_argument));
    EXPECT_TRUE(succeeded(f.storage->activate(*volume, f.base, {})));
    // One that changed since is another image.
    ASSERT_TRUE(succeeded(f.storage->deactivate(f.vm)));
    ASSERT_EQ(::pwrite(f.base.get(), "HEAD", 4, 0), 4);
    EXPECT_TRUE(failed_with(f.storage->activate(*volume, f.base, {}), Errc::corrupt));
}

TEST(DmStorage, AWorkDiskNeedsItsBaseNoMore) {
    Fixture f;
    const Result<Volume> volume = f.storage->create(f.request(f.vm, VolumeRole::work), {});
    ASSERT_TRUE(succeeded(volume));
    EXPECT_THAT(f.kernel().table, ElementsAre(dm::Target{0, 16384, "linear", "7:0 2048"}));
    ASSERT_TRUE(succeeded(f.storage->deactivate(f.vm)));
    EXPECT_TRUE(succeeded(f.storage->activate(*volume, {}, {})));
}

TEST(DmStorage, ADiskAsLargeAsItsImageGrowsToo) {
    Fixture f;
    const Result<Volume> volume =
        f.storage->create(f.request(f.vm, VolumeRole::root, ByteCount::mib(1)), {});
    ASSERT_TRUE(succeeded(volume));
    EXPECT_EQ(f.kernel().table.size(), 1u);
    const Result<Volume> larger = f.storage->resize(*volume, ByteCount::gib(20), {});
    ASSERT_TRUE(succeeded(larger));
    ASSERT_TRUE(succeeded(f.storage->activate(*larger, f.base, {})));
    ASSERT_EQ(f.kernel().table.size(), 2u);
    EXPECT_EQ(f.kernel().table.back().start + f.kernel().table.back().length, 41943040u);
    EXPECT_TRUE(
        failed_with(f.storage->resize(*larger, ByteCount::gib(19), {}), Errc::invalid_argument));
    EXPECT_TRUE(failed_with(f.storage->resize(*larger, ByteCount::bytes(UINT64_MAX), {}),
                            Errc::invalid_argument));
}

TEST(DmStorage, HostileRequestsAreRefusedBeforeAnythingIsMade) {
    Fixture f;
    const std::vector<std::string> before = f.world.exists();
    const auto refuse = [&](VolumeRequest request, Errc code) {
        EXPECT_TRUE(failed_with(f.storage->create(request, {}), code));
        EXPECT_THAT(f.world.exists(), UnorderedElementsAreArray(before));
    };
    const VolumeRequest good = f.request(f.vm);
    const auto with = [&](auto member, auto value) {
        VolumeRequest request = good;
        request.*member = value;
        return request;
    };
    const UniqueFd folder(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const UniqueFd only_path(::open((f.world.host / "base.img").c_str(), O_PATH | O_CLOEXEC));
    refuse(with(&VolumeRequest::base_fd, folder.get()), Errc::invalid_argument);
    refuse(with(&VolumeRequest::base_fd, only_path.get()), Errc::invalid_argument);
    refuse(with(&VolumeRequest::formats, std::vector{DiskFormat::qcow2}), Errc::unsupported);
    refuse(with(&VolumeRequest::formats, std::vector<DiskFormat>()), Errc::unsupported);
    for (const std::uint64_t size : {std::uint64_t{4096}, std::uint64_t{0}, UINT64_MAX,
                                     (std::uint64_t{8} << 20) + 1, std::uint64_t{1} << 63})
        refuse(with(&VolumeRequest::size, ByteCount::bytes(size)), Errc::invalid_argument);
    if (::geteuid() == 0) {
        ASSERT_EQ(::chown((f.world.host / "base.img").c_str(), 4242, static_cast<gid_t>(-1)), 0);
        refuse(with(&VolumeRequest::owner_uid, 1000u), Errc::permission_denied);
    }
}

TEST(DmStorage, AFullFileSystemIsSaidBeforeItBreaksADisk) {
    FakeWorld world;
    Scene scene(world);
    const Result<Volume> volume = scene.storage->create(scene.request(VmId::random()), {});
    ASSERT_TRUE(succeeded(volume));
    ASSERT_TRUE(succeeded(scene.storage->deactivate(volume->vm)));
    DmStorage::Options options = world.options();
    options.least_free = ByteCount::gib(std::uint64_t{1} << 30);
    Scene full(world, options);
    const Result<Volume> refused = full.storage->create(full.request(VmId::random()), {});
    EXPECT_TRUE(failed_with(refused, Errc::no_space));
    EXPECT_TRUE(has_remedy(refused));
    EXPECT_TRUE(failed_with(full.storage->activate(*volume, full.base, {}), Errc::no_space));
    const std::vector<Check> rows = full.storage->checks({});
    ASSERT_FALSE(rows.empty());
    EXPECT_EQ(rows.back().name, "disk space");
    EXPECT_EQ(rows.back().status, CheckStatus::fail);
    EXPECT_FALSE(rows.back().remedy.empty());
}

TEST(DmStorage, ABrokenSnapshotIsSeen) {
    Fixture f;
    const Result<Volume> volume = f.storage->create(f.request(f.vm), {});
    ASSERT_TRUE(succeeded(volume));
    EXPECT_EQ(f.storage->usage(*volume)->headroom, std::nullopt) << "the host alone limits it";
    EXPECT_EQ(f.storage->checks({}).back().status, CheckStatus::pass);
    f.kernel().snapshot_status = "Invalid";
    EXPECT_EQ(f.storage->usage(*volume)->headroom, ByteCount());
    const std::vector<Check> rows = f.storage->checks({});
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows[0].status, CheckStatus::fail);
    EXPECT_THAT(rows[0].name, testing::HasSubstr(f.vm.str()));
    EXPECT_FALSE(rows[0].remedy.empty());
}

TEST(DmStorage, ADeviceThatOutlivedItsLedgerIsFoundByItsRecord) {
    Fixture f;
    const std::vector<std::string> before = f.world.exists();
    ASSERT_TRUE(succeeded(f.storage->create(f.request(f.vm), {})));
    for (const std::string& entry : files_below(f.world.host.run_folder()))
        ASSERT_TRUE(remove_file(entry));
    Scene after(f.world);
    EXPECT_TRUE(succeeded(after.storage->remove(f.vm)));
    EXPECT_THAT(f.world.in_the_kernel(), IsEmpty());
    EXPECT_THAT(files_below(f.world.host.state_folder()), IsEmpty());
}

TEST(DmStorage, AForeignLedgerEntryIsLeftAlone) {
    Fixture f;
    const std::string foreign = "BANGER-1000-aaaaaaaaaaaa-root";
    ASSERT_TRUE(f.kernel().create("foreign", foreign));
    ASSERT_TRUE(f.kernel().create("lvm", "LVM-root"));
    // An entry that names a device of another machine, and one that names no device of ours.
    ASSERT_TRUE(
        write_file_atomic(f.world.host.run_folder() + "/" + f.vm.str() + "-root", foreign, 0600));
    ASSERT_TRUE(write_file_atomic(f.world.host.run_folder() + "/" + f.vm.str() + "-work",
                                  "LVM-root", 0600));
    Scene after(f.world);
    EXPECT_TRUE(failed_with(after.storage->remove(f.vm), Errc::corrupt));
    EXPECT_TRUE(succeeded(after.storage->recover({})));
    EXPECT_TRUE(after.devices->find(foreign)->has_value());
    EXPECT_TRUE(after.devices->find("LVM-root")->has_value());
}

TEST(DmStorage, FilesAreRootsAlone) {
    Fixture f;
    ASSERT_TRUE(succeeded(f.storage->create(f.request(f.vm), {})));
    struct stat status {};
    for (const std::string& file : files_below(f.world.host.state_folder())) {
        ASSERT_EQ(::lstat(file.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 07777, S_ISDIR(status.st_mode) ? 0700u : 0600u) << file;
    }
    EXPECT_LT(f.storage->usage({f.vm, VolumeRole::root, "", DiskFormat::raw, {}})->allocated,
              ByteCount::mib(1));
}

TEST(DmStorage, AStateFolderOfOthersIsRefused) {
    FakeWorld world;
    const std::unique_ptr<dm::BlockDevices> devices = world.devices();
    ASSERT_EQ(::chmod(world.host.state_folder().c_str(), 0777), 0);
    EXPECT_FALSE(DmStorage::open(world.host, *devices, world.options()));
}

TEST(DmStorage, TheLedgerIsWrittenBeforeTheDeviceIsMadeAndErasedAfter) {
    FakeWorld world;
    std::vector<std::string> steps;
    DmStorage::Options options = world.options();
    options.before_step = [&](std::string_view step, std::stop_token) -> Result<void> {
        steps.emplace_back(step);
        return ok();
    };
    Scene scene(world, options);
    const VmId vm = VmId::random();
    ASSERT_TRUE(succeeded(scene.storage->create(scene.request(vm), {})));
    EXPECT_THAT(steps, ElementsAre("make-folder", "remove-remains", "make-store", "make-data",
                                   "write-record", "write-ledger", "attach-base", "attach-cow",
                                   "attach-data", "create-mapping", "load-table", "resume",
                                   "make-node", "finish"));
    steps.clear();
    ASSERT_TRUE(succeeded(scene.storage->deactivate(vm)));
    EXPECT_THAT(steps, ElementsAre("remove-node", "remove-mapping", "erase-ledger"));
}

}  // namespace
}  // namespace banger

namespace banger::contract {
INSTANTIATE_TEST_SUITE_P(
    DmStorage, StorageContract,
    testing::Values(Case<StorageSubject>{
        "dm", [] { return std::make_unique<WorldSubject>(std::make_unique<FakeWorld>()); }}),
    case_name);
}  // namespace banger::contract

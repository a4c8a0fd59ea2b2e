#include "banger/contract/storage.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "core/base/file.hpp"

namespace banger::contract {

const bool storage_suite_is_linked = true;

using testing::AnyOf;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

void StorageContract::SetUp() {
    std::string pattern = testing::TempDir() + "banger-base-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    base_ = UniqueFd(::open((folder_ + "/base.img").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_TRUE(base_.is_valid());
    ASSERT_EQ(::ftruncate(base_.get(), base_size), 0);
    ASSERT_GT(::pwrite(base_.get(), base_head.data(), base_head.size(), 0), 0);
    ASSERT_EQ(::pwrite(base_.get(), "end", 3, base_size - 3), 3);
    Suite::SetUp();
}

void StorageContract::TearDown() { EXPECT_TRUE(succeeded(remove_tree(folder_))); }

VolumeRequest StorageContract::request(const VmId& vm, VolumeRole role, ByteCount size) {
    return {vm, role, base_.get(), size, {DiskFormat::qcow2, DiskFormat::raw}, ::getuid()};
}

Result<Volume> StorageContract::create(const VmId& vm, VolumeRole volume_role) {
    return role().create(request(vm, volume_role), never());
}

std::optional<std::string> StorageContract::head_of(const Volume& volume) {
    if (volume.format != DiskFormat::raw) return std::nullopt;
    const UniqueFd fd(::open(volume.path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string head(base_head.size(), '\0');
    if (::pread(fd.get(), head.data(), head.size(), 0) != static_cast<ssize_t>(head.size()))
        return "unreadable";
    return head;
}

TEST_P(StorageContract, create_gives_what_was_asked) {
    const VmId vm = VmId::random();
    const Result<Volume> volume = create(vm);
    ASSERT_TRUE(succeeded(volume));
    EXPECT_EQ(volume->vm, vm);
    EXPECT_EQ(volume->role, VolumeRole::root);
    EXPECT_EQ(volume->size, ByteCount::mib(8));
    EXPECT_TRUE(volume->path.starts_with('/')) << volume->path;
    EXPECT_TRUE(path_exists(volume->path)) << volume->path;
    EXPECT_TRUE(succeeded(role().remove(vm)));
    expect_nothing_left();
}

TEST_P(StorageContract, a_raw_disk_starts_with_its_base_and_leaves_it_alone) {
    VolumeRequest wanted = request(VmId::random());
    wanted.formats = {DiskFormat::raw};
    const Result<Volume> volume = role().create(wanted, never());
    ASSERT_TRUE(succeeded(volume));
    ASSERT_EQ(volume->format, DiskFormat::raw) << "the back end opens nothing else";
    EXPECT_EQ(head_of(*volume), base_head);
    const UniqueFd disk(::open(volume->path.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(disk.is_valid());
    ASSERT_EQ(::pwrite(disk.get(), "guest", 5, 0), 5);
    char head[5] = {};
    ASSERT_EQ(::pread(base_.get(), head, sizeof head, 0), 5);
    EXPECT_EQ(std::string_view(head, 5), base_head.substr(0, 5));
    char end[3] = {};
    ASSERT_EQ(::pread(disk.get(), end, sizeof end, base_size - 3), 3);
    EXPECT_EQ(std::string_view(end, 3), "end");
    char beyond = 'x';
    ASSERT_EQ(::pread(disk.get(), &beyond, 1, base_size), 1) << "the rest of the disk is there";
    EXPECT_EQ(beyond, '\0');
}

TEST_P(StorageContract, a_disk_smaller_than_its_base_is_refused) {
    const Result<Volume> volume =
        role().create(request(VmId::random(), VolumeRole::root, ByteCount::kib(4)), never());
    EXPECT_TRUE(failed_with(volume, Errc::invalid_argument));
    expect_nothing_left();
}

TEST_P(StorageContract, a_base_that_cannot_be_read_is_refused) {
    VolumeRequest wanted = request(VmId::random());
    wanted.base_fd = -1;
    EXPECT_FALSE(role().create(wanted, never()));
    expect_nothing_left();
}

TEST_P(StorageContract, create_twice_keeps_the_first) {
    const VmId vm = VmId::random();
    ASSERT_TRUE(succeeded(create(vm)));
    const std::vector<std::string> after_first = existing();
    EXPECT_TRUE(failed_with(create(vm), Errc::already_exists));
    EXPECT_EQ(existing(), after_first);
    EXPECT_TRUE(succeeded(create(vm, VolumeRole::work))) << "the other disk is another";
}

TEST_P(StorageContract, remove_takes_every_volume_and_succeeds_for_none) {
    EXPECT_TRUE(succeeded(role().remove(VmId::random())));
    const VmId one = VmId::random();
    const VmId two = VmId::random();
    ASSERT_TRUE(succeeded(create(one)));
    const std::vector<std::string> only_one = existing();
    ASSERT_TRUE(succeeded(create(two, VolumeRole::root)));
    ASSERT_TRUE(succeeded(create(two, VolumeRole::work)));
    EXPECT_TRUE(succeeded(role().remove(two)));
    EXPECT_TRUE(succeeded(role().remove(two)));
    EXPECT_EQ(existing(), only_one);
    EXPECT_TRUE(succeeded(role().remove(one)));
    expect_nothing_left();
}

TEST_P(StorageContract, activate_and_deactivate_are_idempotent_and_keep_the_content) {
    const VmId vm = VmId::random();
    const Result<Volume> volume = create(vm);
    ASSERT_TRUE(succeeded(volume));
    EXPECT_TRUE(succeeded(role().deactivate(VmId::random())));
    EXPECT_TRUE(succeeded(role().deactivate(vm)));
    EXPECT_TRUE(succeeded(role().deactivate(vm)));
    for (int i = 0; i < 2; ++i) {
        const Result<Volume> active = role().activate(*volume, base_, never());
        ASSERT_TRUE(succeeded(active));
        EXPECT_EQ(active->vm, vm);
        EXPECT_EQ(active->size, volume->size);
        EXPECT_EQ(active->format, volume->format);
        EXPECT_TRUE(path_exists(active->path));
        EXPECT_EQ(head_of(*active).value_or(std::string(base_head)), base_head);
    }
    EXPECT_TRUE(succeeded(role().remove(vm)));
    expect_nothing_left();
}

TEST_P(StorageContract, activate_of_lost_content_is_not_found) {
    const Result<Volume> volume = create(VmId::random());
    ASSERT_TRUE(succeeded(volume));
    if (!subject().lose(volume->vm)) GTEST_SKIP() << "a volume cannot get lost here";
    EXPECT_TRUE(failed_with(role().activate(*volume, base_, never()), Errc::not_found));
    EXPECT_TRUE(succeeded(role().deactivate(volume->vm)));
    EXPECT_TRUE(succeeded(role().remove(volume->vm)));
    expect_nothing_left();
}

TEST_P(StorageContract, a_disk_only_grows) {
    const Result<Volume> volume = create(VmId::random());
    ASSERT_TRUE(succeeded(volume));
    const Result<Volume> same = role().resize(*volume, volume->size, never());
    ASSERT_TRUE(succeeded(same));
    EXPECT_EQ(same->size, volume->size);
    const Result<Volume> larger = role().resize(*volume, ByteCount::mib(16), never());
    ASSERT_TRUE(succeeded(larger));
    EXPECT_EQ(larger->size, ByteCount::mib(16));
    const Result<Volume> active = role().activate(*larger, base_, never());
    ASSERT_TRUE(succeeded(active));
    EXPECT_EQ(active->size, ByteCount::mib(16));
    EXPECT_EQ(head_of(*active).value_or(std::string(base_head)), base_head);
    const Result<Volume> smaller = role().resize(*larger, ByteCount::mib(8), never());
    EXPECT_TRUE(failed_with(smaller, Errc::invalid_argument));
    const Result<VolumeUsage> usage = role().usage(*larger);
    ASSERT_TRUE(succeeded(usage));
    EXPECT_EQ(usage->size, ByteCount::mib(16));
}

TEST_P(StorageContract, usage_counts_the_volume_alone) {
    const Result<Volume> volume = create(VmId::random());
    ASSERT_TRUE(succeeded(volume));
    const Result<VolumeUsage> usage = role().usage(*volume);
    ASSERT_TRUE(succeeded(usage));
    EXPECT_EQ(usage->size, volume->size);
    EXPECT_LT(usage->allocated, ByteCount::mib(4)) << "a fresh 8 MiB disk of a sparse 1 MiB base";
    ASSERT_TRUE(succeeded(role().remove(volume->vm)));
    EXPECT_TRUE(failed_with(role().usage(*volume), Errc::not_found));
}

TEST_P(StorageContract, cancelled_before_it_began) {
    const VmId vm = VmId::random();
    EXPECT_TRUE(failed_with(role().create(request(vm), already_stopped()), Errc::cancelled));
    expect_nothing_left();
}

TEST_P(StorageContract, cancelled_in_the_middle) {
    if (!subject().hang_next()) GTEST_SKIP() << "create() cannot be made to hang here";
    const VmId vm = VmId::random();
    const Result<Volume> volume = stopped_while_hanging(
        subject(), [&](std::stop_token stop) { return role().create(request(vm), stop); });
    EXPECT_TRUE(failed_with(volume, Errc::cancelled));
    expect_nothing_left();
}

TEST_P(StorageContract, a_failure_leaves_nothing) {
    if (!subject().fail_next()) GTEST_SKIP() << "create() cannot be made to fail here";
    const VmId vm = VmId::random();
    EXPECT_TRUE(has_remedy(create(vm)));
    expect_nothing_left();
    EXPECT_TRUE(succeeded(create(vm))) << "the next attempt is unharmed";
}

TEST_P(StorageContract, recover_adopts_removes_orphans_and_tells_the_lost) {
    const VmId kept_vm = VmId::random();
    const Result<Volume> kept = create(kept_vm);
    const Result<Volume> kept_work = create(kept_vm, VolumeRole::work);
    ASSERT_TRUE(succeeded(kept));
    ASSERT_TRUE(succeeded(kept_work));
    const std::vector<std::string> only_kept = existing();
    ASSERT_TRUE(succeeded(create(VmId::random())));  // the orphan
    const VmId lost_vm = VmId::random();
    const Result<Volume> lost = create(lost_vm);
    const Result<Volume> lost_work = create(lost_vm, VolumeRole::work);
    ASSERT_TRUE(succeeded(lost));
    ASSERT_TRUE(succeeded(lost_work));
    const bool is_lost = subject().lose(lost_vm);

    subject().restart();
    std::vector<Volume> remembered{*kept, *kept_work};
    if (is_lost) {
        remembered.push_back(*lost);
        remembered.push_back(*lost_work);
    }
    const Result<std::vector<VmId>> gone = role().recover(remembered);
    ASSERT_TRUE(succeeded(gone));
    if (is_lost) {
        EXPECT_THAT(*gone, UnorderedElementsAre(lost_vm)) << "once, whatever it lost";
        EXPECT_TRUE(succeeded(role().remove(lost_vm)));
    } else {
        EXPECT_THAT(*gone, IsEmpty());
    }
    EXPECT_EQ(existing(), only_kept);
    EXPECT_TRUE(succeeded(role().activate(*kept, base_, never())));
    EXPECT_TRUE(failed_with(create(kept_vm), Errc::already_exists)) << "an adopted volume counts";
    EXPECT_TRUE(succeeded(role().remove(kept_vm)));
    expect_nothing_left();
}

TEST_P(StorageContract, many_machines_at_once) {
    constexpr std::size_t count = 12;
    std::vector<std::string> errors(count);
    all_at_once(count, [&](std::size_t i) {
        const VmId vm = VmId::random();
        for (int round = 0; round < 3 && errors[i].empty(); ++round) {
            const Result<Volume> root = create(vm);
            if (!root) errors[i] = root.error().text();
            const Result<Volume> work = create(vm, VolumeRole::work);
            if (!work) errors[i] = work.error().text();
            const Result<void> removed = role().remove(vm);
            if (!removed) errors[i] = removed.error().text();
        }
    });
    EXPECT_THAT(errors, testing::Each(IsEmpty()));
    expect_nothing_left();
}

TEST_P(StorageContract, a_clone_is_independent) {
    StorageCloning* const cloning = role().cloning();
    if (!cloning) GTEST_SKIP() << "this plugin does not clone";
    const Result<Volume> source = create(VmId::random());
    ASSERT_TRUE(succeeded(source));
    const VmId target = VmId::random();
    const Result<Volume> copy = cloning->clone(*source, target, never());
    ASSERT_TRUE(succeeded(copy));
    EXPECT_EQ(copy->vm, target);
    EXPECT_EQ(copy->role, source->role);
    EXPECT_EQ(copy->size, source->size);
    EXPECT_TRUE(failed_with(cloning->clone(*source, target, never()), Errc::already_exists));
    EXPECT_TRUE(succeeded(role().remove(source->vm)));
    EXPECT_TRUE(succeeded(role().activate(*copy, base_, never())));
    EXPECT_EQ(head_of(*copy).value_or(std::string(base_head)), base_head);
    EXPECT_TRUE(failed_with(cloning->clone(*source, VmId::random(), never()), Errc::not_found));
    EXPECT_TRUE(
        failed_with(cloning->clone(*copy, VmId::random(), already_stopped()), Errc::cancelled));
    EXPECT_TRUE(succeeded(role().remove(target)));
    expect_nothing_left();
}

TEST_P(StorageContract, checks_change_nothing) {
    ASSERT_TRUE(succeeded(create(VmId::random())));
    const std::vector<std::string> before = existing();
    for (const Check& check : role().checks(never())) {
        EXPECT_FALSE(check.name.empty());
        EXPECT_EQ(check.status == CheckStatus::pass, check.remedy.empty()) << check.name;
    }
    EXPECT_EQ(existing(), before);
}

}  // namespace banger::contract

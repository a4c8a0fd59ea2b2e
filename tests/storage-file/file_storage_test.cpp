#include "plugins/storage-file/file_storage.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>

#include "banger/contract/storage.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "plugins/storage-file/qcow2.hpp"
#include "tests/support/plain_host.hpp"

namespace banger {
namespace {

using namespace std::chrono_literals;
using contract::failed_with;
using contract::has_remedy;
using contract::succeeded;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

std::vector<std::string> files_below(const std::string& folder) {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
        files.push_back(std::filesystem::relative(entry.path(), folder));
    std::ranges::sort(files);
    return files;
}

/// While it lives, no file of this process grows past the limit: a full disk, as far as a writer
/// can tell.
class SmallFiles {
public:
    explicit SmallFiles(rlim_t limit) {
        ::signal(SIGXFSZ, SIG_IGN);
        EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &before_), 0);
        const rlimit small{limit, before_.rlim_max};
        EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    }
    ~SmallFiles() { EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &before_), 0); }
    SmallFiles(const SmallFiles&) = delete;
    SmallFiles& operator=(const SmallFiles&) = delete;

private:
    rlimit before_{};
};

class FileStorageSubject final : public contract::StorageSubject {
public:
    Storage& role() override { return *storage_; }
    std::vector<std::string> exists() override {
        small_.reset();
        return files_below(host_.state_folder());
    }
    void restart() override { storage_ = std::make_unique<FileStorage>(host_); }
    bool lose(const VmId& vm) override {
        EXPECT_TRUE(remove_tree(host_.state_folder() + "/" + vm.str()));
        return true;
    }
    bool fail_next() override { return small_.emplace(1000), true; }

private:
    PlainHost host_;
    std::unique_ptr<FileStorage> storage_ = std::make_unique<FileStorage>(host_);
    std::optional<SmallFiles> small_;
};

struct Fixture {
    Fixture() {
        base = UniqueFd(::open(base_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        EXPECT_EQ(::ftruncate(base.get(), 1 << 20), 0);
        EXPECT_EQ(::pwrite(base.get(), "head", 4, 0), 4);
        EXPECT_EQ(::pwrite(base.get(), "tail", 4, (1 << 20) - 4), 4);
    }
    VolumeRequest request(std::vector<DiskFormat> formats,
                          ByteCount size = ByteCount::mib(8)) const {
        return {vm, VolumeRole::root, base.get(), size, std::move(formats), ::geteuid()};
    }
    std::vector<std::string> files() const { return files_below(host.state_folder()); }

    PlainHost host;
    FileStorage storage{host};
    VmId vm = VmId::random();
    std::string base_path = host / "base.img";
    UniqueFd base;
};

std::string read_at(const std::string& path, off_t offset, std::size_t count) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string bytes(count, 'x');
    EXPECT_EQ(::pread(fd.get(), bytes.data(), count, offset), static_cast<ssize_t>(count));
    return bytes;
}

TEST(FileStorage, OnlyTheOwnerMayReadADisk) {
    Fixture f;
    const Result<Volume> volume = f.storage.create(f.request({DiskFormat::raw}), {});
    ASSERT_TRUE(succeeded(volume));
    struct stat status {};
    ASSERT_EQ(::stat(volume->path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
    ASSERT_EQ(::stat(parent_path(volume->path).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0700u);
}

TEST(FileStorage, ACopyKeepsContentAndHoles) {
    Fixture f;
    ASSERT_EQ(::ftruncate(f.base.get(), 256 << 20), 0);
    const Result<Volume> volume =
        f.storage.create(f.request({DiskFormat::raw}, ByteCount::mib(300)), {});
    ASSERT_TRUE(succeeded(volume));
    EXPECT_EQ(read_at(volume->path, 0, 4), "head");
    EXPECT_EQ(read_at(volume->path, (1 << 20) - 4, 4), "tail");
    EXPECT_EQ(read_at(volume->path, 200 << 20, 2), std::string(2, '\0'));
    const Result<VolumeUsage> usage = f.storage.usage(*volume);
    ASSERT_TRUE(succeeded(usage));
    EXPECT_EQ(usage->size, ByteCount::mib(300));
    EXPECT_LT(usage->allocated, ByteCount::mib(4));
}

TEST(FileStorage, ABaseWithoutAPathIsCopied) {
    Fixture f;
    ASSERT_EQ(::unlink(f.base_path.c_str()), 0);
    const Result<Volume> volume =
        f.storage.create(f.request({DiskFormat::qcow2, DiskFormat::raw}), {});
    ASSERT_TRUE(succeeded(volume));
    EXPECT_EQ(volume->format, DiskFormat::raw);
    EXPECT_EQ(read_at(volume->path, 0, 4), "head");
    f.vm = VmId::random();
    const Result<Volume> none = f.storage.create(f.request({DiskFormat::qcow2}), {});
    if (none) GTEST_SKIP() << "reflinks work here";
    EXPECT_TRUE(failed_with(none, Errc::unsupported));
    EXPECT_TRUE(has_remedy(none));
}

TEST(FileStorage, APathThatLeadsElsewhereByNowIsNotTrusted) {
    Fixture f;
    ASSERT_EQ(::rename(f.base_path.c_str(), (f.host / "moved.img").c_str()), 0);
    ASSERT_TRUE(write_file_atomic(f.base_path, "another image", 0600));
    const Result<Volume> volume =
        f.storage.create(f.request({DiskFormat::qcow2, DiskFormat::raw}), {});
    ASSERT_TRUE(succeeded(volume));
    if (volume->format != DiskFormat::qcow2) GTEST_SKIP() << "reflinks work here";
    const UniqueFd disk(::open(volume->path.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(qcow2::read_header(disk.get())->backing_file, f.host / "moved.img");
}

TEST(FileStorage, AnOverlayWhoseBaseIsGoneIsLost) {
    Fixture f;
    const Result<Volume> volume =
        f.storage.create(f.request({DiskFormat::qcow2, DiskFormat::raw}), {});
    ASSERT_TRUE(succeeded(volume));
    if (volume->format != DiskFormat::qcow2) GTEST_SKIP() << "reflinks work here";
    ASSERT_EQ(::unlink(f.base_path.c_str()), 0);
    EXPECT_TRUE(failed_with(f.storage.activate(*volume, f.base, {}), Errc::not_found));
    const Result<std::vector<VmId>> gone = f.storage.recover(std::vector<Volume>{*volume});
    ASSERT_TRUE(succeeded(gone));
    EXPECT_THAT(*gone, ElementsAre(f.vm));
    EXPECT_TRUE(path_exists(volume->path)) << "the owner may yet bring the base back";
}

TEST(FileStorage, NoSpaceSaysSoAndLeavesNothing) {
    for (const std::vector<DiskFormat>& formats :
         {std::vector{DiskFormat::raw}, std::vector{DiskFormat::qcow2}}) {
        Fixture f;
        Result<Volume> volume = Error(Errc::internal, "not run");
        {
            const SmallFiles full(1000);
            volume = f.storage.create(f.request(formats), {});
        }
        EXPECT_TRUE(failed_with(volume, Errc::no_space));
        EXPECT_TRUE(has_remedy(volume));
        EXPECT_THAT(f.files(), IsEmpty());
    }
}

TEST(FileStorage, AFileSystemThatFillsUpSaysSoAndLeavesNothing) {
    const TempFolder mount;
    if (::mount("tmpfs", mount.path().c_str(), "tmpfs", 0, "size=512k") != 0)
        GTEST_SKIP() << "mounting a small file system needs root";
    {
        Fixture f;
        // The state folder on a file system with room for half of the base.
        const std::string content(1 << 20, 'x');
        ASSERT_EQ(::pwrite(f.base.get(), content.data(), content.size(), 0), 1 << 20);
        ASSERT_EQ(::rmdir(f.host.state_folder().c_str()), 0);
        ASSERT_EQ(::symlink(mount.path().c_str(), f.host.state_folder().c_str()), 0);
        const Result<Volume> volume = f.storage.create(f.request({DiskFormat::raw}), {});
        EXPECT_TRUE(failed_with(volume, Errc::no_space));
        EXPECT_TRUE(has_remedy(volume));
        EXPECT_THAT(files_below(mount.path()), IsEmpty());
    }
    EXPECT_EQ(::umount(mount.path().c_str()), 0);
}

/// An XFS of its own in a file: reflinks work there.
class ReflinkTest : public testing::Test {
protected:
    void SetUp() override {
        const Result<std::string> mkfs = find_program("mkfs.xfs");
        if (!mkfs) GTEST_SKIP() << "mkfs.xfs (package xfsprogs) is not installed";
        ASSERT_TRUE(write_file_atomic(image_, "", 0600));
        ASSERT_EQ(::truncate(image_.c_str(), 320 << 20), 0);
        ASSERT_TRUE(ensure_folder(mount_, 0700));
        Command command;
        command.environment = minimal_environment();
        command.program = *mkfs;
        command.arguments = {"-q", image_};
        const Result<CommandOutput> made = run_command(command, 30s, ByteCount::kib(64), {});
        ASSERT_TRUE(made && made->status.is_success());
        command.program = *find_program("mount");
        command.arguments = {"-o", "loop", image_, mount_};
        const Result<CommandOutput> mounted = run_command(command, 30s, ByteCount::kib(64), {});
        is_mounted_ = mounted && mounted->status.is_success();
        if (!is_mounted_) GTEST_SKIP() << "mounting an XFS needs root and a loop device";
        ASSERT_EQ(::rmdir(host_.state_folder().c_str()), 0);
        ASSERT_TRUE(ensure_folder(mount_ + "/state", 0700));
        ASSERT_EQ(::symlink((mount_ + "/state").c_str(), host_.state_folder().c_str()), 0);
    }
    void TearDown() override {
        if (is_mounted_) {
            EXPECT_EQ(::umount(mount_.c_str()), 0);
        }
    }

    PlainHost host_;
    std::string image_ = host_ / "xfs.img";
    std::string mount_ = host_ / "mount";
    bool is_mounted_ = false;
};

TEST_F(ReflinkTest, ADiskSharesItsBaseUntilItIsWritten) {
    FileStorage storage(host_);
    const UniqueFd base(::open((mount_ + "/base").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    const std::string content(std::size_t{32} << 20, 'b');
    ASSERT_TRUE(write_all(base.get(), content));
    const VolumeRequest request{VmId::random(),
                                VolumeRole::root,
                                base.get(),
                                ByteCount::mib(64),
                                {DiskFormat::raw, DiskFormat::qcow2},
                                ::geteuid()};
    const Result<Volume> volume = storage.create(request, {});
    ASSERT_TRUE(succeeded(volume));
    EXPECT_EQ(volume->format, DiskFormat::raw);
    EXPECT_EQ(read_at(volume->path, (32 << 20) - 4, 6), std::string("bbbb\0\0", 6));
    EXPECT_EQ(storage.usage(*volume)->allocated, ByteCount());
    const UniqueFd disk(::open(volume->path.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(::pwrite(disk.get(), content.data(), 1 << 20, 48 << 20), 1 << 20);
    ASSERT_EQ(::pwrite(disk.get(), content.data(), 1 << 20, 0), 1 << 20);
    ASSERT_EQ(::fsync(disk.get()), 0);
    const ByteCount allocated = storage.usage(*volume)->allocated;
    EXPECT_GE(allocated, ByteCount::mib(2));
    EXPECT_LT(allocated, ByteCount::mib(8));

    const Result<Volume> clone = storage.cloning()->clone(*volume, VmId::random(), {});
    ASSERT_TRUE(succeeded(clone));
    EXPECT_EQ(storage.usage(*clone)->allocated, ByteCount()) << "a clone is a reflink too";
    EXPECT_THAT(storage.checks({})[1].detail, testing::HasSubstr("reflink"));
}

TEST(FileStorage, WhatACrashLeftIsRemoved) {
    Fixture f;
    const Result<Volume> kept = f.storage.create(f.request({DiskFormat::raw}), {});
    ASSERT_TRUE(succeeded(kept));
    const std::string folder = parent_path(kept->path);
    // In the middle of making the work disk; after making it, before core heard of it; and in the
    // middle of the first disk of another machine.
    ASSERT_TRUE(write_file_atomic(folder + "/work.part", "half a di", 0600));
    ASSERT_TRUE(write_file_atomic(folder + "/work.raw", "a disk", 0600));
    const std::string other = f.host.state_folder() + "/" + VmId::random().str();
    ASSERT_TRUE(ensure_folder(other, 0700));
    ASSERT_TRUE(write_file_atomic(other + "/root.part", "half", 0600));
    ASSERT_TRUE(write_file_atomic(f.host.state_folder() + "/README", "not a machine", 0600));

    FileStorage restarted(f.host);
    const Result<std::vector<VmId>> gone = restarted.recover(std::vector<Volume>{*kept});
    ASSERT_TRUE(succeeded(gone));
    EXPECT_THAT(*gone, IsEmpty());
    EXPECT_THAT(f.files(), UnorderedElementsAre(f.vm.str(), f.vm.str() + "/root.raw", "README"));
}

/// How long that takes is measured by `./dev bench disk`.
TEST(FileStorage, ADiskTakesNextToNothingWhateverItsSize) {
    for (const std::uint64_t gib : {1U, 20U}) {
        Fixture f;
        ASSERT_EQ(::ftruncate(f.base.get(), static_cast<off_t>(gib << 30)), 0);
        const Result<Volume> volume = f.storage.create(
            f.request({DiskFormat::qcow2, DiskFormat::raw}, ByteCount::gib(gib)), {});
        ASSERT_TRUE(succeeded(volume));
        const Result<VolumeUsage> usage = f.storage.usage(*volume);
        ASSERT_TRUE(succeeded(usage));
        EXPECT_LT(usage->allocated, ByteCount::mib(4)) << gib;
    }
}

}  // namespace
}  // namespace banger

namespace banger::contract {
INSTANTIATE_TEST_SUITE_P(FileStorage, StorageContract,
                         testing::Values(Case<StorageSubject>{
                             "file", [] { return std::make_unique<FileStorageSubject>(); }}),
                         case_name);
}  // namespace banger::contract

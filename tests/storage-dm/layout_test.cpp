#include "plugins/storage-dm/layout.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <thread>

#include "plugins/storage-dm/base_file.hpp"
#include "plugins/storage-dm/kernel_devices.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::dm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const VmId vm = VmId::parse("0123456789ab").value();

DiskRecord record_of(ByteCount base, ByteCount size) {
    return {
        .size = size, .base_size = base, .base_changed = 1700000000123456789, .owner_uid = 1000};
}

constexpr Parts parts{{7, 1}, {7, 2}, {7, 3}};

TEST(Layout, ARootDiskIsASnapshotAndThenAFile) {
    EXPECT_THAT(table_of(record_of(ByteCount::mib(1), ByteCount::mib(8)), parts),
                ElementsAre(Target{0, 2048, "snapshot", "7:1 7:2 PO 128"},
                            Target{2048, 14336, "linear", "7:3 2048"}));
}

TEST(Layout, ADiskAsLargeAsItsImageIsASnapshotAlone) {
    EXPECT_THAT(table_of(record_of(ByteCount::gib(1), ByteCount::gib(1)), parts),
                ElementsAre(Target{0, 2097152, "snapshot", "7:1 7:2 PO 128"}));
}

TEST(Layout, AWorkDiskIsAFile) {
    EXPECT_THAT(table_of(record_of({}, ByteCount::gib(50)), parts),
                ElementsAre(Target{0, 104857600, "linear", "7:3 2048"}));
}

TEST(Layout, TheStoreHoldsAChangeOfEveryChunk) {
    for (const std::uint32_t chunk_sectors : {8u, 32u, 128u}) {
        for (const std::uint64_t mib : {1U, 2U, 1023U, 1024U, 51200U}) {
            const ByteCount base = ByteCount::mib(mib);
            const std::uint64_t chunk = chunk_sectors * sector_size;
            // As dm-snap-persistent.c counts: a header, and for every chunk/16 exceptions a chunk.
            const std::uint64_t chunks = (base.count() + chunk - 1) / chunk;
            const std::uint64_t areas = chunks / (chunk / 16) + 1;
            const std::uint64_t needed = (1 + chunks + areas) * chunk;
            EXPECT_GE(store_size(base, chunk_sectors), needed);
            EXPECT_LT(store_size(base, chunk_sectors), needed + chunk + 2 * margin);
        }
    }
}

TEST(Layout, TheGuestOwnsNoEndOfADataFile) {
    EXPECT_EQ(data_file_size(ByteCount::mib(7)), std::uint64_t{9} << 20);
}

TEST(Layout, SizesHaveBounds) {
    EXPECT_TRUE(check_size(ByteCount::gib(50)));
    for (const ByteCount size :
         {ByteCount(), ByteCount::bytes(4097), ByteCount::bytes(UINT64_MAX - 4095),
          ByteCount::bytes(max_size.count() + 4096)})
        EXPECT_EQ(check_size(size).error().code, Errc::invalid_argument) << size.count();
}

TEST(Layout, RecordsAreReadAsTheyWereWritten) {
    const DiskRecord record = record_of(ByteCount::mib(700), ByteCount::gib(8));
    EXPECT_EQ(encode(record),
              "banger-disk 1\nsize 8589934592\nbase-size 734003200\n"
              "base-changed 1700000000123456789\nowner 1000\nchunk 128\n");
    EXPECT_EQ(decode(encode(record)).value(), record);
}

TEST(Layout, DamagedRecordsAreRefused) {
    const std::string good = encode(record_of(ByteCount::mib(1), ByteCount::mib(8)));
    const auto with = [&](const std::string& from, const std::string& to) {
        std::string text = good;
        return text.replace(text.find(from), from.size(), to);
    };
    for (const std::string& bad :
         {std::string(), good.substr(0, good.size() - 1), good + "more 1\n", good + good,
          with("banger-disk 1", "banger-disk 2"), with("size 8388608", "size 8388609"),
          with("size 8388608", "size -1"), with("size 8388608", "size 0x800"),
          with("size 8388608", "size 99999999999999999999"), with("size 8388608", "size 4096"),
          with("base-size 1048576", "base-size 1"), with("chunk 128", "chunk 0"),
          with("chunk 128", "chunk 9"), with("chunk 128", "chunk 4096"), with("chunk 128", "chunk"),
          with("owner 1000", "owner 4294967296"), with("owner 1000\n", "")})
        EXPECT_EQ(decode(bad).error().code, Errc::corrupt) << bad;
}

TEST(Layout, TheStatusOfASnapshotIsUnderstood) {
    EXPECT_EQ(*parse_snapshot_status("16/2048 16"), SnapshotState::good);
    EXPECT_EQ(*parse_snapshot_status("Overflow"), SnapshotState::full);
    EXPECT_EQ(*parse_snapshot_status("Invalid"), SnapshotState::broken);
    EXPECT_EQ(*parse_snapshot_status("Merge failed"), SnapshotState::broken);
    for (const char* text : {"", "16", "fine", "1/2 3 x", "Invalid "})
        EXPECT_EQ(parse_snapshot_status(text).error().code, Errc::corrupt) << text;
}

TEST(Layout, NamesAreDerivedAndKnownAgain) {
    EXPECT_EQ(key_of(vm, VolumeRole::root), "0123456789ab-root");
    EXPECT_EQ(name_of(vm, VolumeRole::work, 1000), "banger-1000-0123456789ab-work");
    const std::string uuid = uuid_of(vm, VolumeRole::root, 1000);
    EXPECT_EQ(uuid, "BANGER-1000-0123456789ab-root");
    const std::optional<Identity> identity = parse_identity("0123456789ab-root", uuid);
    ASSERT_TRUE(identity);
    EXPECT_EQ(identity->vm, vm);
    EXPECT_EQ(identity->role, VolumeRole::root);
}

TEST(Layout, ForeignNamesAreNotOurs) {
    const std::string key = "0123456789ab-root";
    for (const char* uuid :
         {"", "LVM-abc", "CRYPT-LUKS2-0123456789ab-root", "BANGER-",
          "BANGER-1000-0123456789ab-work", "BANGER-1000-0123456789ac-root",
          "BANGER-x-0123456789ab-root", "BANGER-01000-0123456789ab-root",
          "BANGER-1000-0123456789ab-root2", "BANGER-4294967296-0123456789ab-root",
          "banger-1000-0123456789ab-root"})
        EXPECT_FALSE(parse_identity(key, uuid)) << uuid;
    for (const char* other :
         {"", "-", "root", "0123456789ab", "0123456789ab-home", "0123456789AB-root"})
        EXPECT_FALSE(parse_identity(other, uuid_of(vm, VolumeRole::root, 1000))) << other;
}

// ---- what a caller may hand over ---------------------------------------------------------------

class BaseFileTest : public testing::Test {
protected:
    BaseFileTest() {
        const UniqueFd fd(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        EXPECT_EQ(::ftruncate(fd.get(), 1 << 20), 0);
    }
    [[nodiscard]] UniqueFd open(const std::string& path, int flags) const {
        UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
        EXPECT_TRUE(fd.is_valid()) << path;
        return fd;
    }
    static Errc refusal(const UniqueFd& fd, std::uint32_t owner = ::geteuid()) {
        const Result<BaseFile> base = examine_base(fd.get(), owner);
        EXPECT_FALSE(base);
        return base ? Errc::internal : base.error().code;
    }
    TempFolder folder_;
    std::string path_ = folder_ / "base.img";
};

TEST_F(BaseFileTest, APlainFileOpenForReadingIsFine) {
    const Result<BaseFile> base = examine_base(open(path_, O_RDONLY).get(), ::geteuid());
    ASSERT_TRUE(base);
    EXPECT_EQ(base->size, ByteCount::mib(1));
    struct stat status {};
    ASSERT_EQ(::stat(path_.c_str(), &status), 0);
    EXPECT_EQ(base->changed / 1'000'000'000, static_cast<std::uint64_t>(status.st_mtim.tv_sec));
    EXPECT_TRUE(examine_base(open(path_, O_RDWR).get(), ::geteuid()));
}

TEST_F(BaseFileTest, WhatIsNotReadableIsRefused) {
    EXPECT_EQ(refusal(open(path_, O_PATH)), Errc::invalid_argument);
    EXPECT_EQ(refusal(open(path_, O_WRONLY)), Errc::invalid_argument);
    EXPECT_FALSE(examine_base(-1, ::geteuid()));
    EXPECT_FALSE(examine_base(99999, ::geteuid()));
}

TEST_F(BaseFileTest, WhatIsNoPlainFileIsRefused) {
    const std::string pipe = folder_ / "pipe";
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    const std::string link = folder_ / "link";
    ASSERT_EQ(::symlink(path_.c_str(), link.c_str()), 0);
    EXPECT_EQ(refusal(open(folder_.path(), O_RDONLY | O_DIRECTORY)), Errc::invalid_argument);
    EXPECT_EQ(refusal(open("/dev/null", O_RDONLY)), Errc::invalid_argument);
    EXPECT_EQ(refusal(open(pipe, O_RDWR)), Errc::invalid_argument);
    EXPECT_EQ(refusal(open(link, O_PATH | O_NOFOLLOW)), Errc::invalid_argument);
}

TEST_F(BaseFileTest, ABlockDeviceIsRefused) {
    const UniqueFd loop(::open("/dev/loop0", O_RDONLY | O_CLOEXEC));
    if (!loop) GTEST_SKIP() << "opening /dev/loop0 needs root";
    EXPECT_EQ(refusal(loop), Errc::invalid_argument);
}

TEST_F(BaseFileTest, AFileOfAnotherUserIsRefused) {
    if (::geteuid() != 0) GTEST_SKIP() << "giving a file away needs root";
    ASSERT_EQ(::chown(path_.c_str(), 4242, static_cast<gid_t>(-1)), 0);
    EXPECT_EQ(refusal(open(path_, O_RDONLY), 1000), Errc::permission_denied);
    EXPECT_TRUE(examine_base(open(path_, O_RDONLY).get(), 4242));
    ASSERT_EQ(::chown(path_.c_str(), 0, static_cast<gid_t>(-1)), 0);
    EXPECT_TRUE(examine_base(open(path_, O_RDONLY).get(), 1000)) << "root's images are everybody's";
}

TEST_F(BaseFileTest, OddSizesAreRefused) {
    for (const off_t size : {0, 1, 4095, (1 << 20) + 512}) {
        ASSERT_EQ(::truncate(path_.c_str(), size), 0);
        EXPECT_EQ(refusal(open(path_, O_RDONLY)), Errc::invalid_argument) << size;
    }
}

// ---- device nodes ------------------------------------------------------------------------------

class NodeTest : public testing::Test {
protected:
    void SetUp() override {
        const UniqueFd in(::open(folder_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        const bool can_make = ::mknodat(in.get(), "probe", S_IFBLK | 0600, makedev(259, 1234)) == 0;
        if (!can_make) GTEST_SKIP() << "making device nodes needs root";
        ASSERT_EQ(::unlinkat(in.get(), "probe", 0), 0);
    }
    static constexpr DeviceNumber device_{259, 1234};
    TempFolder folder_;
    std::string nodes_ = folder_ / "nodes";
};

TEST_F(NodeTest, ANodeIsTheOwnersAlone) {
    KernelDevices devices;
    const mode_t before = ::umask(0);
    const Result<void> made = devices.make_node(nodes_, "disk", device_, 4242);
    ::umask(before);
    ASSERT_TRUE(made) << made.error().text();
    struct stat status {};
    ASSERT_EQ(::stat((nodes_ + "/disk").c_str(), &status), 0);
    EXPECT_TRUE(S_ISBLK(status.st_mode));
    EXPECT_EQ(status.st_rdev, makedev(259, 1234));
    EXPECT_EQ(status.st_uid, 4242u);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
    ASSERT_EQ(::stat(nodes_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0711u);
    EXPECT_TRUE(devices.make_node(nodes_, "disk", {259, 7}, 4242)) << "it is replaced";
    EXPECT_TRUE(devices.remove_node(nodes_, "disk"));
    EXPECT_TRUE(devices.remove_node(nodes_, "disk"));
    EXPECT_TRUE(devices.remove_node(nodes_ + "/none", "disk"));
}

TEST_F(NodeTest, AFolderOfOthersIsRefused) {
    ASSERT_EQ(::mkdir(nodes_.c_str(), 0711), 0);
    ASSERT_EQ(::chmod(nodes_.c_str(), 0777), 0);
    EXPECT_EQ(open_node_folder(nodes_).error().code, Errc::permission_denied);
    ASSERT_EQ(::chmod(nodes_.c_str(), 0711), 0);
    ASSERT_EQ(::chown(nodes_.c_str(), 4242, static_cast<gid_t>(-1)), 0);
    EXPECT_EQ(open_node_folder(nodes_).error().code, Errc::permission_denied);
    ASSERT_EQ(::symlink("/tmp", (folder_ / "link").c_str()), 0);
    EXPECT_FALSE(open_node_folder(folder_ / "link"));
}

/// While one thread gives a node away, another swaps its name for a link, a plain file and another
/// device. Whatever is hit at whatever moment: nothing but the right device changes hands.
TEST_F(NodeTest, ASwappedNodeIsNeverGivenAway) {
    const UniqueFd in = open_node_folder(nodes_).value();
    const std::string victim = folder_ / "victim";
    const UniqueFd file(::open(victim.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(::mknodat(in.get(), "node", S_IFBLK | 0600, makedev(259, 1234)), 0);
    ASSERT_EQ(::mknodat(in.get(), "foreign", S_IFBLK | 0600, makedev(8, 0)), 0);
    ASSERT_EQ(::symlinkat(victim.c_str(), in.get(), "link"), 0);
    ASSERT_EQ(::linkat(AT_FDCWD, victim.c_str(), in.get(), "hard", 0), 0);
    ASSERT_EQ(::mkfifoat(in.get(), "fifo", 0600), 0);
    std::jthread swapper([&](std::stop_token stop) {
        constexpr const char* others[] = {"foreign", "link", "hard", "fifo"};
        for (std::size_t i = 0; !stop.stop_requested(); ++i) {
            const char* const other = others[i % 4];
            // There and back, so that "node" is the right one half of the time.
            (void)::renameat2(in.get(), "node", in.get(), other, RENAME_EXCHANGE);
            (void)::renameat2(in.get(), "node", in.get(), other, RENAME_EXCHANGE);
        }
    });
    int given = 0;
    int refused = 0;
    for (int i = 0; i < 100'000; ++i)
        ++(give_node(in, "node", device_, 4242) ? given : refused);
    swapper.request_stop();
    swapper.join();
    RecordProperty("given", given);
    RecordProperty("refused", refused);
    EXPECT_GT(given, 0);
    for (const char* name : {"foreign", "link", "hard", "fifo"}) {
        struct stat status {};
        ASSERT_EQ(::fstatat(in.get(), name, &status, AT_SYMLINK_NOFOLLOW), 0);
        EXPECT_NE(status.st_uid, 4242u) << name;
    }
    struct stat status {};
    ASSERT_EQ(::fstat(file.get(), &status), 0);
    EXPECT_NE(status.st_uid, 4242u);
}

}  // namespace
}  // namespace banger::dm

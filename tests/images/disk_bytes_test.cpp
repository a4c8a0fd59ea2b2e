#include "core/images/disk_bytes.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/images/tar_builder.hpp"

namespace banger::images {
namespace {

/// A disk as what next_data() shows of it: what that leaves out must be zeros.
std::string data_of(DiskBytes& disk, std::uint64_t from, std::uint64_t size) {
    std::string bytes(size, '\0');
    std::uint64_t at = from;
    while (at < from + size) {
        const Result<std::optional<Extent>> found = disk.next_data(at);
        EXPECT_TRUE(found) << found.error().text();
        if (!found || !*found || (*found)->offset >= from + size) break;
        EXPECT_GE((*found)->offset, at);
        EXPECT_GT((*found)->length, 0u);
        EXPECT_LE((*found)->end(), disk.size().count());
        const std::uint64_t begin = (*found)->offset;
        const std::uint64_t end = std::min((*found)->end(), from + size);
        EXPECT_TRUE(disk.read(
            begin, std::as_writable_bytes(std::span(bytes).subspan(begin - from, end - begin))));
        at = end;
    }
    return bytes;
}

std::string data_of(DiskBytes& disk) { return data_of(disk, 0, disk.size().count()); }

void expect_same(DiskBytes& disk, DiskBytes& expected) {
    ASSERT_EQ(disk.size(), expected.size());
    constexpr std::uint64_t step = 1 << 20;
    for (std::uint64_t at = 0; at < disk.size().count(); at += step) {
        const std::uint64_t size = std::min(step, disk.size().count() - at);
        const std::string wanted = data_of(expected, at, size);
        ASSERT_TRUE(data_of(disk, at, size) == wanted) << at;
        std::string read(size, 'x');
        ASSERT_TRUE(disk.read(at, std::as_writable_bytes(std::span(read))));
        ASSERT_TRUE(read == wanted) << at;
    }
}

/// Overlays as QEMU's own tools leave them.
class Qcow2DiskTest : public testing::Test {
protected:
    void SetUp() override {
        if (!find_program("qemu-img") || !find_program("qemu-io"))
            GTEST_SKIP() << "needs qemu-img and qemu-io (Debian: qemu-utils)";
        std::string content(3 << 20, 'b');
        content.replace(1 << 20, 1 << 20, std::string(1 << 20, '\0'));
        std::ofstream(folder_ / "base") << content;
        run("qemu-img", {"create", "-q", "-f", "qcow2", "-F", "raw", "-b", folder_ / "base",
                         folder_ / "overlay", "600M"});
    }
    void run(const std::string& program, std::vector<std::string> arguments) {
        Command command;
        command.program = find_program(program).value();
        command.arguments = std::move(arguments);
        const Result<CommandOutput> done =
            run_command(std::move(command), std::chrono::minutes(2), ByteCount::mib(1), {});
        ASSERT_TRUE(done) << done.error().text();
        ASSERT_TRUE(done->status.is_success()) << done->standard_error;
    }
    void io(const std::string& what) {
        run("qemu-io", {"-f", "qcow2", "-c", what, folder_ / "overlay"});
    }
    Result<std::unique_ptr<DiskBytes>> open() {
        overlay_ = UniqueFd(::open((folder_ / "overlay").c_str(), O_RDWR | O_CLOEXEC));
        base_ = UniqueFd(::open((folder_ / "base").c_str(), O_RDONLY | O_CLOEXEC));
        return open_qcow2_disk(overlay_, base_);
    }
    void expect_as_qemu_reads_it(DiskBytes& disk) {
        run("qemu-img",
            {"convert", "-q", "-f", "qcow2", "-O", "raw", folder_ / "overlay", folder_ / "flat"});
        const UniqueFd flat(::open((folder_ / "flat").c_str(), O_RDONLY | O_CLOEXEC));
        const std::unique_ptr<DiskBytes> expected = open_raw_disk(flat, {}).value();
        expect_same(disk, *expected);
    }

    TempFolder folder_;
    UniqueFd overlay_;
    UniqueFd base_;
};

TEST_F(Qcow2DiskTest, ReadsWhatQemuReads) {
    io("write -P 0x11 0 4k");        // part of a cluster over the base
    io("write -P 0x22 1536k 600k");  // over a hole of the base
    io("write -z 2816k 64k");        // zeros over the base's data
    io("write -P 0x33 520M 3M");     // another table, beyond the base
    io("write -P 0x44 599M 1M");     // up to the end
    io("discard 2048k 128k");
    const Result<std::unique_ptr<DiskBytes>> disk = open();
    ASSERT_TRUE(disk) << disk.error().text();
    expect_as_qemu_reads_it(**disk);
}

TEST_F(Qcow2DiskTest, AnEmptyOverlayIsItsBase) {
    const Result<std::unique_ptr<DiskBytes>> disk = open();
    ASSERT_TRUE(disk) << disk.error().text();
    expect_as_qemu_reads_it(**disk);
}

TEST_F(Qcow2DiskTest, RefusesWhatItDoesNotRead) {
    run("qemu-img", {"snapshot", "-c", "one", folder_ / "overlay"});
    EXPECT_EQ(open().error().code, Errc::unsupported);
    run("qemu-img",
        {"create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", folder_ / "overlay", "8M"});
    EXPECT_EQ(open().error().code, Errc::unsupported);
    std::ofstream(folder_ / "overlay") << "not qcow2";
    EXPECT_EQ(open().error().code, Errc::corrupt);
}

TEST_F(Qcow2DiskTest, DamagedTablesLeadNowhere) {
    io("write -P 0x11 0 64k");
    const std::string right = read_file(folder_ / "overlay", ByteCount::mib(64)).value();
    const auto with = [&](std::size_t at, std::string_view bytes) {
        std::string wrong = right;
        wrong.replace(at, bytes.size(), bytes);
        std::ofstream(folder_ / "overlay") << wrong;
    };
    using namespace std::string_view_literals;
    with(40, "\xff\xff\xff\xff\xff\xff\0\0"sv);  // where the first table is
    EXPECT_EQ(open().error().code, Errc::corrupt);
    with(36, "\0\0\0\1"sv);  // too few entries for the size
    EXPECT_EQ(open().error().code, Errc::corrupt);
    with(24, "\xff\xff\xff\xff\xff\xff\xff\xff"sv);  // the size itself
    EXPECT_EQ(open().error().code, Errc::corrupt);
    const std::size_t l1_at = 3 << 16;
    with(l1_at, "\0\xff\xff\xff\0\0\0\0"sv);  // a second table outside of the file
    {
        const Result<std::unique_ptr<DiskBytes>> disk = open();
        ASSERT_TRUE(disk);
        std::byte byte{};
        EXPECT_EQ((*disk)->read(0, {&byte, 1}).error().code, Errc::corrupt);
    }
}

TEST(RawDisk, IsAsLongAsItIsTaken) {
    const UniqueFd file = file_of(std::string(10000, 'x'));
    EXPECT_EQ(open_raw_disk(file, ByteCount::bytes(10001)).error().code, Errc::corrupt);
    const std::unique_ptr<DiskBytes> disk = open_raw_disk(file, ByteCount::bytes(9000)).value();
    EXPECT_EQ(data_of(*disk), std::string(9000, 'x'));
    const std::unique_ptr<DiskBytes> part = part_of_disk(*disk, ByteCount::bytes(100));
    EXPECT_EQ(data_of(*part), std::string(100, 'x'));
    EXPECT_EQ(ext4_size(*disk).error().code, Errc::corrupt);
}

}  // namespace
}  // namespace banger::images

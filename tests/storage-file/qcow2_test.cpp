#include "plugins/storage-file/qcow2.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "banger/unique_fd.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::qcow2 {
namespace {

using namespace std::chrono_literals;

UniqueFd empty_file() { return UniqueFd(::memfd_create("disk", MFD_CLOEXEC)); }

std::string bytes_of(int fd, std::size_t count) {
    std::string bytes(count, 'x');
    EXPECT_EQ(::pread(fd, bytes.data(), count, 0), static_cast<ssize_t>(count));
    return bytes;
}

TEST(Qcow2, TheHeaderIsByteForByteWhatTheFormatSays) {
    const UniqueFd fd = empty_file();
    ASSERT_TRUE(write_overlay(fd.get(), ByteCount::gib(8), "/images/base.ext4"));
    using namespace std::string_view_literals;
    const std::string expected = std::string(
        "QFI\xfb\0\0\0\3"           // magic, version
        "\0\0\0\0\0\0\0\x80"        // backing file name at 128
        "\0\0\0\x11\0\0\0\x10"      // 17 bytes; clusters of 2^16
        "\0\0\0\2\0\0\0\0"          // 8 GiB
        "\0\0\0\0\0\0\x20\0"        // no encryption; 8192 L1 entries
        "\0\0\0\0\0\3\0\0"          // L1 table at 192 KiB
        "\0\0\0\0\0\1\0\0\0\0\0\1"  // refcount table at 64 KiB, one cluster
        "\0\0\0\0\0\0\0\0\0\0\0\0"  // no snapshots
        "\0\0\0\0\0\0\0\0"          // features
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        "\0\0\0\4\0\0\0\x68"  // refcounts of 16 bits; header of 104 bytes
        "\xe2\x79\x2a\xca\0\0\0\3raw\0\0\0\0\0\0\0\0\0\0\0\0\0"
        "/images/base.ext4"sv);
    EXPECT_EQ(bytes_of(fd.get(), expected.size()), expected);
    struct stat status {};
    ASSERT_EQ(::fstat(fd.get(), &status), 0);
    EXPECT_EQ(status.st_size, 256 << 10);
}

TEST(Qcow2, ReadingGivesWhatWasWritten) {
    const UniqueFd fd = empty_file();
    ASSERT_TRUE(write_overlay(fd.get(), ByteCount::mib(300), "/a/b"));
    const Result<Header> header = read_header(fd.get());
    ASSERT_TRUE(header);
    EXPECT_EQ(header->size, ByteCount::mib(300));
    EXPECT_EQ(header->backing_file, "/a/b");
    EXPECT_EQ(header->l1_entries, 8192u);
}

TEST(Qcow2, GrowingStopsWhereTheTableEnds) {
    const UniqueFd fd = empty_file();
    ASSERT_TRUE(write_overlay(fd.get(), ByteCount::gib(1), "/a"));
    ASSERT_TRUE(grow(fd.get(), ByteCount::gib(4000)));
    EXPECT_EQ(read_header(fd.get())->size, ByteCount::gib(4000));
    EXPECT_EQ(grow(fd.get(), ByteCount::gib(5000)).error().code, Errc::unsupported);
    EXPECT_EQ(grow(fd.get(), ByteCount::gib(1)).error().code, Errc::invalid_argument);
    EXPECT_EQ(read_header(fd.get())->size, ByteCount::gib(4000));
}

TEST(Qcow2, WhatCannotBeWrittenIsRefused) {
    const UniqueFd fd = empty_file();
    EXPECT_FALSE(write_overlay(fd.get(), ByteCount::gib(1), "relative"));
    EXPECT_FALSE(write_overlay(fd.get(), ByteCount::gib(1), "/" + std::string(1023, 'x')));
    EXPECT_FALSE(write_overlay(fd.get(), ByteCount::bytes(1000), "/a"));
    EXPECT_FALSE(write_overlay(fd.get(), ByteCount::gib(std::uint64_t{1} << 20), "/a"));
    EXPECT_EQ(::lseek(fd.get(), 0, SEEK_END), 0);
}

TEST(Qcow2, ForeignHeadersAreCorruptAndNeverReadPastTheirEnd) {
    const UniqueFd good = empty_file();
    ASSERT_TRUE(write_overlay(good.get(), ByteCount::gib(1), "/images/base"));
    const std::string whole = bytes_of(good.get(), 160);
    const auto read = [](const std::string& bytes) {
        const UniqueFd fd = empty_file();
        EXPECT_TRUE(write_all(fd.get(), bytes));
        return read_header(fd.get());
    };
    for (std::size_t size = 0; size < 140; ++size)
        EXPECT_FALSE(read(whole.substr(0, size))) << size;
    // Every byte set to its extremes: an answer or an error, and never a name that is too long.
    for (std::size_t at = 0; at < 104; ++at)
        for (const char value : {'\0', '\x7f', '\xff'}) {
            std::string changed = whole;
            changed[at] = value;
            const Result<Header> header = read(changed);
            if (header) {
                EXPECT_LE(header->backing_file.size(), 1023u);
            }
        }
}

/// The format's owner has the last word.
TEST(Qcow2, QemuAgrees) {
    const Result<std::string> qemu_img = find_program("qemu-img");
    if (!qemu_img) GTEST_SKIP() << "qemu-img (package qemu-utils) is not installed";
    const TempFolder folder;
    const std::string base = folder / "base, with a comma.raw";
    const std::string disk = folder / "disk.qcow2";
    const std::string content(std::size_t{3} << 20, 'b');
    ASSERT_TRUE(write_file_atomic(base, content, 0600));
    {
        const UniqueFd fd(::open(disk.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        ASSERT_TRUE(write_overlay(fd.get(), ByteCount::mib(10), base));
        ASSERT_TRUE(grow(fd.get(), ByteCount::mib(700)));
    }
    const auto run = [&](std::string program, std::vector<std::string> arguments) {
        Command command;
        command.program = *find_program(program);
        command.arguments = std::move(arguments);
        command.environment = minimal_environment();
        const Result<CommandOutput> output = run_command(command, 30s, ByteCount::mib(1), {});
        EXPECT_TRUE(output);
        EXPECT_TRUE(output->status.is_success())
            << output->standard_output << output->standard_error;
        return output->standard_output;
    };
    run("qemu-io", {"-c", "write -P 0x61 1M 64k", "-c", "write -P 0x62 600M 64k", disk});
    run("qemu-img", {"check", disk});
    const std::string info = run("qemu-img", {"info", disk});
    EXPECT_NE(info.find("700 MiB"), info.npos) << info;
    EXPECT_NE(info.find("backing file format: raw"), info.npos) << info;
    const std::string flat = folder / "flat.raw";
    run("qemu-img", {"convert", "-O", "raw", disk, flat});
    const UniqueFd fd(::open(flat.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(::lseek(fd.get(), 0, SEEK_END), 700 << 20);
    const std::string head = bytes_of(fd.get(), std::size_t{3} << 20);
    EXPECT_EQ(head[0], 'b');
    EXPECT_EQ(head[1 << 20], 'a');
    EXPECT_EQ(head[2 << 20], 'b');
    char far = 0;
    ASSERT_EQ(::pread(fd.get(), &far, 1, 600 << 20), 1);
    EXPECT_EQ(far, 'b');
}

}  // namespace
}  // namespace banger::qcow2

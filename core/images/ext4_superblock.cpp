#include "core/images/ext4_superblock.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace banger::images {

namespace {

using namespace std::string_view_literals;

struct Other {
    std::size_t offset;
    std::string_view magic;
    const char* is;
    const char* remedy;
};

constexpr const char* unpack_remedy = "Unpack it first.";
constexpr std::array others{
    Other{0, "QFI\xfb"sv, "a qcow2 disk",
          "Take its file system out: qemu-img convert -O raw, then the partition with dd."},
    Other{0, "\x28\xb5\x2f\xfd"sv, "packed with zstd", unpack_remedy},
    Other{0, "\x1f\x8b"sv, "packed with gzip", unpack_remedy},
    Other{0,
          "\xfd"
          "7zXZ\0"sv,
          "packed with xz", unpack_remedy},
    Other{0, "hsqs"sv, "a squashfs", "Make an ext4 of its content: mke2fs -d FOLDER FILE."},
    Other{257, "ustar"sv, "a tar archive",
          "Make an image of it: banger image pull docker-archive:FILE, or mke2fs -d."},
    Other{510, "\x55\xaa"sv, "a disk with partitions",
          "Take the partition with the root file system out, e.g. with losetup -P and dd."},
};

template <class T>
T value_at(const std::array<char, 2048>& head, std::size_t offset) {
    T value{};
    std::memcpy(&value, head.data() + offset, sizeof value);
    return value;
}

}  // namespace

Result<ByteCount> examine_ext4(const UniqueFd& file) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return Error::from_errno(errno, "stat");
    if (!S_ISREG(status.st_mode))
        return Error(Errc::invalid_argument, "it is not a plain file",
                     "Give a file that holds an ext4 file system.");
    std::array<char, 2048> head{};
    const ssize_t count = ::pread(file.get(), head.data(), head.size(), 0);
    if (count < 0) return Error::from_errno(errno, "reading it");
    constexpr std::size_t superblock = 1024;
    if (static_cast<std::size_t>(count) < head.size() ||
        value_at<std::uint16_t>(head, superblock + 0x38) != 0xef53) {
        const std::string_view text(head.data(), static_cast<std::size_t>(count));
        for (const Other& other : others)
            if (text.size() > other.offset && text.substr(other.offset).starts_with(other.magic))
                return Error(Errc::invalid_argument,
                             std::string("it is ") + other.is + ", not an ext4 file system",
                             other.remedy);
        return Error(Errc::invalid_argument, "it holds no ext4 file system",
                     "Make one of a folder: mke2fs -t ext4 -d FOLDER FILE SIZE.");
    }
    const auto block_shift = value_at<std::uint32_t>(head, superblock + 0x18);
    constexpr std::uint32_t incompat_64bit = 0x80;
    std::uint64_t blocks = value_at<std::uint32_t>(head, superblock + 0x4);
    if ((value_at<std::uint32_t>(head, superblock + 0x60) & incompat_64bit) != 0)
        blocks |= std::uint64_t{value_at<std::uint32_t>(head, superblock + 0x150)} << 32;
    if (block_shift > 6 || blocks == 0 || blocks > (std::uint64_t{1} << 47))
        return Error(Errc::corrupt, "its superblock is damaged", "Check it with: e2fsck -f FILE.");
    const ByteCount size = ByteCount::bytes(blocks << (10 + block_shift));
    if (size.count() > static_cast<std::uint64_t>(status.st_size))
        return Error(Errc::corrupt,
                     "it is cut off: the file system has " + size.text() + ", the file " +
                         ByteCount::bytes(static_cast<std::uint64_t>(status.st_size)).text(),
                     "Copy it again.");
    return size;
}

}  // namespace banger::images

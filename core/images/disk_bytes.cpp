#include "core/images/disk_bytes.hpp"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

namespace banger::images {

namespace {

Error shorter() {
    return {Errc::corrupt, "the disk became shorter while it was read",
            "Try again when nothing writes to it."};
}

/// Reads all of `into`; what lies past the end of the file is zeros when `past_end_is_zero`.
Result<void> read_fully(int fd, std::uint64_t offset, std::span<std::byte> into,
                        bool past_end_is_zero) {
    while (!into.empty()) {
        const ssize_t count = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "reading the disk");
        if (count == 0) {
            if (!past_end_is_zero) return shorter();
            std::ranges::fill(into, std::byte{0});
            return ok();
        }
        into = into.subspan(static_cast<std::size_t>(count));
        offset += static_cast<std::uint64_t>(count);
    }
    return ok();
}

Result<std::uint64_t> size_of(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return Error::from_errno(errno, "looking at the disk");
    if (S_ISREG(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
    if (!S_ISBLK(status.st_mode))
        return Error(Errc::invalid_argument, "a disk is a regular file or a block device");
    std::uint64_t size = 0;
    if (::ioctl(fd, BLKGETSIZE64, &size) != 0)
        return Error::from_errno(errno, "asking for the size of the disk");
    return size;
}

/// SEEK_DATA and SEEK_HOLE, clipped to `limit`.
Result<std::optional<Extent>> next_data_of(int fd, std::uint64_t offset, std::uint64_t limit) {
    if (offset >= limit) return std::optional<Extent>();
    const off_t begin = ::lseek(fd, static_cast<off_t>(offset), SEEK_DATA);
    if (begin < 0 && errno == ENXIO) return std::optional<Extent>();
    // A block device, or a file system that does not know holes: all is data.
    if (begin < 0) return std::optional(Extent{offset, limit - offset});
    if (static_cast<std::uint64_t>(begin) >= limit) return std::optional<Extent>();
    const off_t end = ::lseek(fd, begin, SEEK_HOLE);
    const std::uint64_t from = static_cast<std::uint64_t>(begin);
    const std::uint64_t to = end < 0 ? limit : std::min(static_cast<std::uint64_t>(end), limit);
    if (to <= from) return std::optional(Extent{from, limit - from});
    return std::optional(Extent{from, to - from});
}

class RawDisk final : public DiskBytes {
public:
    RawDisk(int fd, std::uint64_t size) : fd_(fd), size_(size) {}
    [[nodiscard]] ByteCount size() const override { return ByteCount::bytes(size_); }
    Result<void> read(std::uint64_t offset, std::span<std::byte> into) override {
        return read_fully(fd_, offset, into, false);
    }
    Result<std::optional<Extent>> next_data(std::uint64_t offset) override {
        return next_data_of(fd_, offset, size_);
    }

private:
    int fd_;
    std::uint64_t size_;
};

// ---- qcow2: docs/interop/qcow2 of QEMU ---------------------------------------------------------

constexpr std::uint64_t cluster = std::uint64_t{1} << 16;
constexpr std::uint64_t entries_per_table = cluster / 8;
constexpr std::uint64_t offset_mask = 0x00fffffffffffe00;
constexpr std::uint64_t is_compressed = std::uint64_t{1} << 62;
constexpr std::uint64_t reads_as_zeros = 1;
/// Dirty and corrupt: dirty refcounts do not matter for reading, a corrupt mark does.
constexpr std::uint64_t dirty_refcounts = 1;
constexpr std::uint64_t max_l1_bytes = std::uint64_t{32} << 20;

template <class T>
T big_endian(const std::byte* from) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i)
        value = static_cast<T>(value << 8) | std::to_integer<T>(from[i]);
    return value;
}

Error damaged(const std::string& why) {
    return {Errc::corrupt, "the disk's overlay is damaged: " + why,
            "Start the machine once; if it cannot, its disk is lost."};
}

class Qcow2Disk final : public DiskBytes {
public:
    Qcow2Disk(int overlay, int base) : overlay_(overlay), base_(base) {}

    Result<void> open() {
        file_size_ = BANGER_TRY(size_of(overlay_));
        base_size_ = BANGER_TRY(size_of(base_));
        std::array<std::byte, 104> header{};
        BANGER_TRY(read_fully(overlay_, 0, header, true));
        if (big_endian<std::uint32_t>(&header[0]) != 0x514649fb ||
            big_endian<std::uint32_t>(&header[4]) != 3)
            return damaged("it is not qcow2, version 3");
        size_ = big_endian<std::uint64_t>(&header[24]);
        const std::uint64_t l1_entries = big_endian<std::uint32_t>(&header[36]);
        const std::uint64_t l1_at = big_endian<std::uint64_t>(&header[40]);
        const std::uint64_t features = big_endian<std::uint64_t>(&header[72]);
        if (big_endian<std::uint32_t>(&header[20]) != 16 ||
            big_endian<std::uint32_t>(&header[32]) != 0 ||
            big_endian<std::uint32_t>(&header[60]) != 0 || (features & ~dirty_refcounts) != 0)
            return Error(Errc::unsupported,
                         "the disk's overlay uses features of qcow2 that banger does not read",
                         "Undo what was done to it by hand with qemu-img.");
        if (l1_entries * 8 > max_l1_bytes || l1_entries * entries_per_table * cluster < size_)
            return damaged("its first table does not fit its size");
        std::vector<std::byte> raw(l1_entries * 8);
        if (l1_at % cluster != 0 || l1_at > file_size_ || raw.size() > file_size_ - l1_at)
            return damaged("its first table lies outside");
        BANGER_TRY(read_fully(overlay_, l1_at, raw, false));
        l1_.resize(l1_entries);
        for (std::size_t i = 0; i < l1_.size(); ++i)
            l1_[i] = big_endian<std::uint64_t>(&raw[i * 8]);
        return ok();
    }

    [[nodiscard]] ByteCount size() const override { return ByteCount::bytes(size_); }

    Result<void> read(std::uint64_t offset, std::span<std::byte> into) override {
        while (!into.empty()) {
            const Place place = BANGER_TRY(find(offset));
            const std::uint64_t inside = offset % cluster;
            const std::size_t count =
                static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), cluster - inside));
            const std::span<std::byte> piece = into.first(count);
            if (place.kind == Place::data)
                BANGER_TRY(read_fully(overlay_, place.at + inside, piece, true));
            else if (place.kind == Place::base && offset < base_size_)
                BANGER_TRY(read_fully(base_, offset, piece, true));
            else
                std::ranges::fill(piece, std::byte{0});
            into = into.subspan(count);
            offset += count;
        }
        return ok();
    }

    /// A cluster at a time: the caller joins them.
    Result<std::optional<Extent>> next_data(std::uint64_t offset) override {
        while (offset < size_) {
            const std::uint64_t end = std::min(offset - offset % cluster + cluster, size_);
            const Place place = BANGER_TRY(find(offset));
            if (place.kind == Place::data) return std::optional(Extent{offset, end - offset});
            if (place.kind == Place::base) {
                // No table for this whole stretch, and none of it in the base: skipped at once.
                const std::optional<Extent> below =
                    BANGER_TRY(next_data_of(base_, offset, std::min(base_size_, size_)));
                if (below && below->offset < end)
                    return std::optional(
                        Extent{below->offset, std::min(below->end(), end) - below->offset});
                const std::uint64_t stretch = cluster * entries_per_table;
                if (place.no_table && (!below || below->offset >= offset + stretch)) {
                    offset = offset - offset % stretch + stretch;
                    continue;
                }
            }
            offset = end;
        }
        return std::optional<Extent>();
    }

private:
    struct Place {
        enum Kind { data, zeros, base } kind = base;
        std::uint64_t at = 0;   ///< data: of the cluster in the overlay
        bool no_table = false;  ///< base: nothing of the whole L1 entry is in the overlay
    };

    Result<Place> find(std::uint64_t offset) {
        const std::uint64_t number = offset / cluster;
        const std::uint64_t entry = l1_.at(number / entries_per_table);
        const std::uint64_t table = entry & offset_mask;
        if (table == 0) return Place{Place::base, 0, true};
        BANGER_TRY(load_table(table));
        const std::uint64_t found = l2_[number % entries_per_table];
        if ((found & is_compressed) != 0)
            return Error(Errc::unsupported, "the disk's overlay is compressed",
                         "Undo what was done to it by hand with qemu-img.");
        if ((found & reads_as_zeros) != 0) return Place{Place::zeros, 0, false};
        const std::uint64_t at = found & offset_mask;
        if (at == 0) return Place{Place::base, 0, false};
        if (at % cluster != 0 || at >= file_size_) return damaged("a cluster lies outside");
        return Place{Place::data, at, false};
    }

    Result<void> load_table(std::uint64_t at) {
        if (at == l2_at_) return ok();
        if (at % cluster != 0 || at > file_size_ || cluster > file_size_ - at)
            return damaged("a table lies outside");
        std::vector<std::byte> raw(cluster);
        BANGER_TRY(read_fully(overlay_, at, raw, false));
        l2_.resize(entries_per_table);
        for (std::size_t i = 0; i < l2_.size(); ++i)
            l2_[i] = big_endian<std::uint64_t>(&raw[i * 8]);
        l2_at_ = at;
        return ok();
    }

    int overlay_;
    int base_;
    std::uint64_t size_ = 0;
    std::uint64_t file_size_ = 0;
    std::uint64_t base_size_ = 0;
    std::vector<std::uint64_t> l1_;
    std::vector<std::uint64_t> l2_;  ///< the table at l2_at_
    std::uint64_t l2_at_ = 0;
};

class PartOfDisk final : public DiskBytes {
public:
    PartOfDisk(DiskBytes& disk, ByteCount size) : disk_(disk), size_(size) {}
    [[nodiscard]] ByteCount size() const override { return size_; }
    Result<void> read(std::uint64_t offset, std::span<std::byte> into) override {
        return disk_.read(offset, into);
    }
    Result<std::optional<Extent>> next_data(std::uint64_t offset) override {
        std::optional<Extent> found = BANGER_TRY(disk_.next_data(offset));
        if (!found || found->offset >= size_.count()) return std::optional<Extent>();
        found->length = std::min(found->length, size_.count() - found->offset);
        return found;
    }

private:
    DiskBytes& disk_;
    ByteCount size_;
};

}  // namespace

Result<std::unique_ptr<DiskBytes>> open_raw_disk(const UniqueFd& file,
                                                 std::optional<ByteCount> size) {
    const std::uint64_t present = BANGER_TRY(size_of(file.get()));
    const std::uint64_t wanted = size ? size->count() : present;
    if (wanted > present)
        return Error(Errc::corrupt, "the disk has " + std::to_string(present) +
                                        " bytes, fewer than the " + std::to_string(wanted) +
                                        " that it should");
    return std::unique_ptr<DiskBytes>(std::make_unique<RawDisk>(file.get(), wanted));
}

Result<std::unique_ptr<DiskBytes>> open_qcow2_disk(const UniqueFd& overlay, const UniqueFd& base) {
    std::unique_ptr<Qcow2Disk> disk = std::make_unique<Qcow2Disk>(overlay.get(), base.get());
    BANGER_TRY(disk->open());
    return std::unique_ptr<DiskBytes>(std::move(disk));
}

std::unique_ptr<DiskBytes> part_of_disk(DiskBytes& disk, ByteCount size) {
    return std::make_unique<PartOfDisk>(disk, size);
}

Result<ByteCount> ext4_size(DiskBytes& disk) {
    // The superblock: fs/ext4/ext4.h of Linux, struct ext4_super_block. Little-endian.
    constexpr std::uint64_t superblock_at = 1024;
    std::array<std::byte, 1024> block{};
    const auto number = [&](std::size_t at, std::size_t bytes) {
        std::uint64_t value = 0;
        for (std::size_t i = bytes; i-- > 0;)
            value = value << 8 | std::to_integer<std::uint64_t>(block[at + i]);
        return value;
    };
    const Error none(Errc::corrupt, "there is no ext4 file system on it",
                     "Only images and disks with ext4 can be in a bundle.");
    if (disk.size().count() < superblock_at + block.size()) return none;
    BANGER_TRY(disk.read(superblock_at, block));
    constexpr std::uint64_t magic = 0xef53;
    constexpr std::uint64_t incompat_64bit = 0x80;
    const std::uint64_t log_block = number(0x18, 4);
    if (number(0x38, 2) != magic || log_block > 6) return none;
    std::uint64_t blocks = number(0x4, 4);
    if ((number(0x60, 4) & incompat_64bit) != 0) blocks |= number(0x150, 4) << 32;
    const std::uint64_t block_size = std::uint64_t{1024} << log_block;
    if (blocks == 0 || blocks > disk.size().count() / block_size)
        return Error(Errc::corrupt,
                     "its ext4 file system says that it has " + std::to_string(blocks) +
                         " blocks of " + std::to_string(block_size) +
                         " bytes, but there are only " + std::to_string(disk.size().count()) +
                         " bytes",
                     "The disk is damaged or was cut off; make it again.");
    return ByteCount::bytes(blocks * block_size);
}

}  // namespace banger::images

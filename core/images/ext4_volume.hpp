#pragma once

#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

namespace banger::images {

using BlockNumber = std::uint64_t;
using InodeNumber = std::uint32_t;

inline constexpr std::uint32_t block_size = 4096;

/// The Errc and sentence for a failure of libext2fs.
Error ext2_error(errcode_t code, std::string_view what);

/// Blocks in a row.
struct BlockRun {
    BlockNumber start = 0;
    std::uint32_t count = 0;
};

/// An inode as it lies on disk, with room for attributes in it.
union DiskInode {
    ext2_inode_large fields;
    std::array<std::byte, 256> bytes;
};

/// A file's content being mapped to blocks: appended to in order, then finished.
///
/// The first four extents go into the inode by hand, which is nearly every file; a fifth turns the
/// mapping over to libext2fs, which grows the tree.
struct Mapping {
    InodeNumber number = 0;
    DiskInode* inode = nullptr;
    ext2_extent_handle_t tree = nullptr;
    std::uint64_t blocks = 0;  ///< mapped so far

    Mapping(InodeNumber inode_number, DiskInode& in) : number(inode_number), inode(&in) {}
    ~Mapping() {
        if (tree) ext2fs_extent_free(tree);
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
};

/// An ext4 file system being written into an empty regular file.
///
/// Inodes, bitmaps, descriptors, checksums, attributes, journal and resize inode are libext2fs's.
/// The placing of data is ours: numbers of blocks and inodes go up, so files lie one
/// behind the other in the order of the archive, are seldom in more than one piece, and reach the
/// image as large sequential writes. Freed blocks are holes of the image again, and the next to be
/// given out.
///
/// Where the size is unknown beforehand, the file system is laid out for ext4_growth_limit; tables
/// of groups are placed only when a group is reached, and finish() cuts off what was not.
/// Descriptor blocks for the whole limit are reserved anyway, for growing online, so nothing moves.
///
/// Functions take and return libext2fs's own structures; nothing else in core/images sees them.
class Ext4Volume {
public:
    struct Layout {
        std::optional<ByteCount> size{};  ///< nothing: as large as it gets
        std::string label{};
    };
    /// `image` must read as zeros as far as the file system will go. What is in it from
    /// scratch_begin() on stays as it is until finish() cuts it off.
    static Result<std::unique_ptr<Ext4Volume>> create(const UniqueFd& image, const Layout& layout);
    /// Behind the largest file system that `layout` can become.
    static std::uint64_t scratch_begin(const Layout& layout);
    /// Gives everything up: `image` reads as zeros again up to scratch_begin(), and this can do
    /// nothing more.
    Result<void> wipe();
    ~Ext4Volume();
    Ext4Volume(const Ext4Volume&) = delete;
    Ext4Volume& operator=(const Ext4Volume&) = delete;

    Result<InodeNumber> new_inode(bool is_folder);
    /// The number that new_inode() gives next.
    [[nodiscard]] InodeNumber next_inode() const { return next_inode_; }
    Result<void> read_inode(InodeNumber number, DiskInode& inode);
    Result<void> write_inode(InodeNumber number, const DiskInode& inode);
    /// Gives the inode, its blocks and its attribute block back.
    Result<void> free_inode(InodeNumber number, DiskInode& inode);

    /// Up to `count` (at least one) free blocks in a row, now taken.
    Result<BlockRun> allocate(std::uint64_t count);
    /// Maps `run` behind what is mapped already, from block `first` of the file on.
    Result<void> map(Mapping& mapping, std::uint64_t first, BlockRun run);
    /// Leaves extents and block count in the inode, which the caller writes.
    Result<void> finish_mapping(Mapping& mapping);
    /// Which block of the image holds block `index` of this file; 0 for a hole.
    Result<BlockNumber> find_block(InodeNumber number, DiskInode& inode, std::uint64_t index);

    /// Writes at a byte position in the image; joined with what comes before it where possible.
    Result<void> write(std::uint64_t position, std::span<const std::byte> bytes);
    /// Reads back what write() wrote.
    Result<void> read(std::uint64_t position, std::span<std::byte> bytes);

    /// Replaces all extended attributes of a written inode. Errc::corrupt when they do not fit.
    Result<void> set_attributes(InodeNumber number,
                                const std::map<std::string, std::string>& attributes);

    struct Finish {
        std::array<std::uint8_t, 32> digest{};  ///< the UUID, then the seed of name hashes
        unsigned headroom_percent = 100;        ///< this and the next only where no size was given
        std::uint64_t at_least = 0;
    };
    struct Finished {
        std::uint64_t size = 0;
        std::uint64_t used = 0;
        std::array<std::uint8_t, 16> uuid{};
    };
    /// Would the file system be smaller, had what is free again never been taken?
    [[nodiscard]] Result<bool> is_larger_than_needed(const Finish& how) const;
    /// Writes everything that is still in memory, and sets the file's length.
    Result<Finished> finish(const Finish& how);

    [[nodiscard]] ext2_filsys handle() const { return fs_; }
    /// The one time of everything that has none of its own. Larger than any inode number, because
    /// e2fsck takes a small time of deletion for a link of the list of orphans.
    static constexpr std::uint32_t epoch = 1'000'000'000;

private:
    Ext4Volume(int image, std::optional<ByteCount> size) : image_(image), size_(size) {}
    void drop();
    Result<void> open_groups(std::uint32_t group);
    Result<void> find_free_run();
    Result<void> flush();
    Result<void> write_now(std::uint64_t position, std::span<const std::byte> bytes);
    Result<std::vector<BlockRun>> data_runs(InodeNumber number, DiskInode& inode);
    Result<void> give_back(BlockRun run);
    Result<void> clear_given_back();
    Result<void> clear(std::uint64_t position, std::uint64_t length);
    Result<std::uint32_t> groups_for_content(const Finish& how) const;
    [[nodiscard]] std::uint32_t groups_in_use() const;
    Result<void> cut_to(std::uint32_t groups);
    Result<void> add_journal();
    [[nodiscard]] std::uint32_t journal_blocks() const;
    static errcode_t allocate_for_library(ext2_filsys fs, blk64_t goal, blk64_t* block);

    int image_;
    std::optional<ByteCount> size_;
    ext2_filsys fs_ = nullptr;
    std::uint64_t free_at_first_ = 0;
    std::uint32_t opened_groups_ = 0;  ///< whose tables are placed
    BlockNumber next_block_ = 0;       ///< from it on nothing was ever taken
    BlockNumber free_end_ = 0;         ///< [next_block_, free_end_) is known to be free
    BlockRun given_back_;              ///< free, but still with its old content in the image
    std::vector<BlockRun> free_runs_;  ///< free again and holes, to be taken first
    InodeNumber next_inode_ = 0;

    std::vector<std::byte> pending_;  ///< to be written at pending_at_
    std::uint64_t pending_at_ = 0;
};

}  // namespace banger::images

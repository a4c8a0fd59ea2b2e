#include "core/images/ext4_volume.hpp"

#include <et/com_err.h>
#include <ext2fs/ext3_extents.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "core/images/ext4_image.hpp"

namespace banger::images {
namespace {

constexpr std::uint32_t blocks_per_group = block_size * 8;
/// One inode for 16 KiB, as mke2fs has it: a guest that grows the disk must zero as many tables.
constexpr std::uint32_t inodes_per_group = 8192;
/// A descriptor takes 64 bytes, so that one block of them describes 8 GiB.
constexpr std::uint32_t descriptors_per_block = block_size / 64;
constexpr std::uint32_t descriptor_blocks_reserved = static_cast<std::uint32_t>(
    ext4_growth_limit.count() / block_size / blocks_per_group / descriptors_per_block);
constexpr std::uint32_t groups_per_flex = 16;
/// Where the size is not given: for the disk that it will be grown to, not for the image.
constexpr std::uint32_t usual_journal_blocks = (32 << 20) / block_size;
constexpr std::uint32_t largest_journal_blocks = (64 << 20) / block_size;
/// Of those that are kept for the next file: a megabyte of them.
constexpr std::size_t max_free_runs = std::size_t{1} << 16;
constexpr std::size_t pending_size = std::size_t{1} << 20;
/// From here on copying costs more than a system call.
constexpr std::size_t direct_size = std::size_t{256} << 10;
/// Checksums are seeded by a constant, because the UUID is known only at the end.
constexpr std::uint32_t checksum_seed = 0x62616e67;

ext2_inode* classic(DiskInode& inode) { return reinterpret_cast<ext2_inode*>(&inode.fields); }

ext2_super_block parameters(std::uint64_t blocks) {
    ext2_super_block super{};
    const std::uint64_t groups = (blocks + blocks_per_group - 1) / blocks_per_group;
    const std::uint64_t descriptors = (groups + descriptors_per_block - 1) / descriptors_per_block;
    ext2fs_blocks_count_set(&super, blocks);
    super.s_rev_level = EXT2_DYNAMIC_REV;
    super.s_log_block_size = 2;
    super.s_inode_size = sizeof(DiskInode);
    super.s_inodes_count = static_cast<std::uint32_t>(
        groups == 1 ? std::max<std::uint64_t>(blocks / 4, 64) : groups * inodes_per_group);
    super.s_log_groups_per_flex = 4;
    super.s_reserved_gdt_blocks = static_cast<std::uint16_t>(std::max<std::int64_t>(
        std::int64_t{descriptor_blocks_reserved} - static_cast<std::int64_t>(descriptors), 1));
    super.s_feature_compat = EXT2_FEATURE_COMPAT_EXT_ATTR | EXT2_FEATURE_COMPAT_RESIZE_INODE |
                             EXT2_FEATURE_COMPAT_DIR_INDEX;
    super.s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS |
                               EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG |
                               EXT4_FEATURE_INCOMPAT_CSUM_SEED;
    super.s_feature_ro_compat =
        EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
        EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_DIR_NLINK |
        EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE | EXT4_FEATURE_RO_COMPAT_METADATA_CSUM;
    super.s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
    return super;
}

/// What ext2fs_initialize() takes from the clock or leaves to mke2fs.
void settle(ext2_filsys fs, const std::string& label) {
    ext2_super_block& super = *fs->super;
    fs->now = Ext4Volume::epoch;
    super.s_mkfs_time = super.s_lastcheck = Ext4Volume::epoch;
    super.s_max_mnt_count = -1;
    super.s_kbytes_written = 1;
    super.s_checksum_type = EXT2_CRC32C_CHKSUM;
    super.s_checksum_seed = checksum_seed;
    super.s_def_hash_version = EXT2_HASH_HALF_MD4;
    super.s_flags =
        (super.s_flags & ~std::uint32_t{EXT2_FLAGS_SIGNED_HASH}) | EXT2_FLAGS_UNSIGNED_HASH;
    ext2fs_init_csum_seed(fs);
    std::memcpy(super.s_volume_name, label.data(), std::min<std::size_t>(label.size(), 16));
}

ext3_extent_header* extent_header(DiskInode& inode) {
    return reinterpret_cast<ext3_extent_header*>(inode.fields.i_block);
}

constexpr std::uint16_t extents_in_inode = 4;

}  // namespace

Error ext2_error(errcode_t code, std::string_view what) {
    if (code > 0 && code < 256) return Error::from_errno(static_cast<int>(code), what);
    initialize_ext2_error_table();
    std::string text = std::string(what) + ": " + error_message(code);
    switch (code) {
        case EXT2_ET_BLOCK_ALLOC_FAIL:
        case EXT2_ET_INODE_ALLOC_FAIL:
        case EXT2_ET_TOOSMALL:
        case EXT2_ET_JOURNAL_TOO_SMALL:
            return Error(Errc::no_space, std::move(text), "Ask for a larger size.");
        default:
            return Error(Errc::internal, std::move(text));
    }
}

Result<std::unique_ptr<Ext4Volume>> Ext4Volume::create(const UniqueFd& image,
                                                       const Layout& layout) {
    struct ::stat status {};
    if (::fstat(image.get(), &status) != 0) return Error::from_errno(errno, "looking at the image");
    if (!S_ISREG(status.st_mode))
        return Error(Errc::invalid_argument, "the image to write is no regular file");
    if (layout.label.size() > sizeof ext2_super_block{}.s_volume_name)
        return Error(Errc::invalid_argument, "the label of the file system is over 16 bytes");
    const std::uint64_t blocks = layout.size.value_or(ext4_growth_limit).count() / block_size;
    if (blocks < 2048 || blocks > std::numeric_limits<std::uint32_t>::max())
        return Error(Errc::invalid_argument, "a file system cannot have this size",
                     "Give between 8 MiB and 16 TiB.");
    std::unique_ptr<Ext4Volume> volume(new Ext4Volume(image.get(), layout.size));
    // The channel closes what it is given.
    const int copy = image.duplicate().release();
    if (copy < 0) return Error::from_errno(errno, "opening the image again");
    ext2_super_block super = parameters(blocks);
    const errcode_t code = ext2fs_initialize(std::to_string(copy).c_str(), EXT2_FLAG_64BITS, &super,
                                             unixfd_io_manager, &volume->fs_);
    if (code) return ext2_error(code, "laying out the file system");
    settle(volume->fs_, layout.label);
    volume->fs_->priv_data = volume.get();
    volume->free_at_first_ = ext2fs_free_blocks_count(volume->fs_->super);
    ext2fs_set_alloc_block_callback(volume->fs_, &Ext4Volume::allocate_for_library, nullptr);
    volume->pending_.reserve(pending_size);
    BANGER_TRY(volume->open_groups(0));
    for (InodeNumber i = 1; i < EXT2_GOOD_OLD_FIRST_INO; ++i)
        ext2fs_inode_alloc_stats2(volume->fs_, i, +1, i == EXT2_ROOT_INO);
    volume->next_inode_ = EXT2_GOOD_OLD_FIRST_INO;
    return volume;
}

Ext4Volume::~Ext4Volume() { drop(); }

void Ext4Volume::drop() {
    if (!fs_) return;
    // Not closed but dropped: an unfinished image is worth nothing.
    fs_->flags &= ~(EXT2_FLAG_DIRTY | EXT2_FLAG_IB_DIRTY | EXT2_FLAG_BB_DIRTY);
    ext2fs_free(fs_);
    fs_ = nullptr;
}

std::uint64_t Ext4Volume::scratch_begin(const Layout& layout) {
    constexpr std::uint64_t beside = std::uint64_t{1} << 30;
    return std::max(layout.size.value_or(ByteCount()), ext4_growth_limit).count() + beside;
}

Result<void> Ext4Volume::wipe() {
    pending_.clear();
    drop();  // before the rest, because the library writes its cache when it lets go
    return clear(0, std::uint64_t{opened_groups_} * blocks_per_group * block_size);
}

/// A hole, or zeros where the host's file system has no holes.
Result<void> Ext4Volume::clear(std::uint64_t position, std::uint64_t length) {
    if (::fallocate(image_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<::off_t>(position), static_cast<::off_t>(length)) == 0)
        return ok();
    if (errno != EOPNOTSUPP) return Error::from_errno(errno, "giving back a part of the image");
    const std::vector<std::byte> zeros(std::min<std::uint64_t>(length, pending_size));
    while (length > 0) {
        const std::size_t step =
            static_cast<std::size_t>(std::min<std::uint64_t>(length, zeros.size()));
        BANGER_TRY(write_now(position, std::span(zeros).first(step)));
        position += step;
        length -= step;
    }
    return ok();
}

/// Places the tables of all groups up to the end of the flexible group that `group` is in.
Result<void> Ext4Volume::open_groups(std::uint32_t group) {
    if (group < opened_groups_) return ok();
    const std::uint32_t last = std::min(group | (groups_per_flex - 1), fs_->group_desc_count - 1);
    for (; opened_groups_ <= last; ++opened_groups_) {
        if (const errcode_t code = ext2fs_allocate_group_table(fs_, opened_groups_, nullptr))
            return ext2_error(code, "placing inode tables");
        // The file is empty, so every table reads as zeros.
        ext2fs_bg_flags_set(fs_, opened_groups_, EXT2_BG_INODE_ZEROED);
        ext2fs_group_desc_csum_set(fs_, opened_groups_);
    }
    // The library reads what it has not written yet, and wants it to be there.
    const std::uint64_t end = std::uint64_t{opened_groups_} * blocks_per_group * block_size;
    struct ::stat status {};
    if (::fstat(image_, &status) != 0) return Error::from_errno(errno, "looking at the image");
    if (static_cast<std::uint64_t>(status.st_size) >= end) return ok();  // there is scratch behind
    if (::ftruncate(image_, static_cast<::off_t>(end)) != 0)
        return Error::from_errno(errno, "growing the image");
    return ok();
}

Result<InodeNumber> Ext4Volume::new_inode(bool is_folder) {
    if (next_inode_ > fs_->super->s_inodes_count)
        return Error(Errc::no_space, "the file system has no inode left", "Ask for a larger size.");
    BANGER_TRY(open_groups(ext2fs_group_of_ino(fs_, next_inode_)));
    ext2fs_inode_alloc_stats2(fs_, next_inode_, +1, is_folder);
    return next_inode_++;
}

Result<void> Ext4Volume::read_inode(InodeNumber number, DiskInode& inode) {
    if (const errcode_t code = ext2fs_read_inode_full(fs_, number, classic(inode), sizeof inode))
        return ext2_error(code, "reading an inode");
    return ok();
}

Result<void> Ext4Volume::write_inode(InodeNumber number, const DiskInode& inode) {
    DiskInode copy = inode;
    if (const errcode_t code = ext2fs_write_inode_full(fs_, number, classic(copy), sizeof copy))
        return ext2_error(code, "writing an inode");
    return ok();
}

/// The blocks of a file's data, all of them written by write().
Result<std::vector<BlockRun>> Ext4Volume::data_runs(InodeNumber number, DiskInode& inode) {
    std::vector<BlockRun> runs;
    ext2_extent_handle_t tree = nullptr;
    errcode_t code = ext2fs_extent_open2(fs_, number, classic(inode), &tree);
    if (code) return ext2_error(code, "reading a file's extents");
    ext2fs_extent extent{};
    for (int where = EXT2_EXTENT_ROOT; !code; where = EXT2_EXTENT_NEXT) {
        code = ext2fs_extent_get(tree, where, &extent);
        if (!code && (extent.e_flags & EXT2_EXTENT_FLAGS_LEAF))
            runs.push_back({.start = extent.e_pblk, .count = extent.e_len});
    }
    ext2fs_extent_free(tree);
    if (code != EXT2_ET_EXTENT_NO_NEXT && code != EXT2_ET_NO_CURRENT_NODE)
        return ext2_error(code, "reading a file's extents");
    return runs;
}

/// Not for blocks of the library's own (attributes, trees of extents): its cache may write them
/// later.
Result<void> Ext4Volume::give_back(BlockRun run) {
    // Files lie in the order of the archive and go in the order of their folder: often the same.
    if (given_back_.count > 0 && run.start == given_back_.start + given_back_.count &&
        given_back_.count < std::numeric_limits<std::uint32_t>::max() - run.count) {
        given_back_.count += run.count;
        return ok();
    }
    BANGER_TRY(clear_given_back());
    given_back_ = run;
    return ok();
}

Result<void> Ext4Volume::clear_given_back() {
    if (given_back_.count == 0) return ok();
    BANGER_TRY(flush());
    const BlockRun run = std::exchange(given_back_, BlockRun{});
    // Further ones are left for the guest.
    if (free_runs_.size() < max_free_runs) free_runs_.push_back(run);
    return clear(run.start * block_size, std::uint64_t{run.count} * block_size);
}

Result<void> Ext4Volume::free_inode(InodeNumber number, DiskInode& inode) {
    if (ext2fs_inode_has_valid_blocks2(fs_, classic(inode)) &&
        (inode.fields.i_flags & EXT4_EXTENTS_FL)) {
        for (const BlockRun& run : BANGER_TRY(data_runs(number, inode)))
            BANGER_TRY(give_back(run));
        if (const errcode_t code =
                ext2fs_punch(fs_, number, classic(inode), nullptr, 0, ~std::uint64_t{0}))
            return ext2_error(code, "freeing a file");
    }
    if (const errcode_t code = ext2fs_free_ext_attr(fs_, number, &inode.fields))
        return ext2_error(code, "freeing attributes");
    const bool is_folder = LINUX_S_ISDIR(inode.fields.i_mode);
    inode.fields.i_links_count = 0;
    inode.fields.i_dtime = epoch;
    BANGER_TRY(write_inode(number, inode));
    ext2fs_inode_alloc_stats2(fs_, number, -1, is_folder);
    return ok();
}

/// Makes [next_block_, free_end_) a row of free blocks whose groups are open.
Result<void> Ext4Volume::find_free_run() {
    const std::uint64_t total = ext2fs_blocks_count(fs_->super);
    while (next_block_ >= free_end_) {
        if (next_block_ >= total)
            return Error(Errc::no_space, "the content does not fit into the file system",
                         "Ask for a larger size.");
        BANGER_TRY(open_groups(ext2fs_group_of_blk2(fs_, next_block_)));
        const std::uint64_t last =
            std::min<std::uint64_t>(total, std::uint64_t{opened_groups_} * blocks_per_group) - 1;
        blk64_t found = 0;
        errcode_t code =
            ext2fs_find_first_zero_block_bitmap2(fs_->block_map, next_block_, last, &found);
        next_block_ = code ? last + 1 : found;
        if (code) continue;
        code = ext2fs_find_first_set_block_bitmap2(fs_->block_map, next_block_, last, &found);
        free_end_ = code ? last + 1 : found;
    }
    return ok();
}

Result<BlockRun> Ext4Volume::allocate(std::uint64_t count) {
    BANGER_TRY(clear_given_back());
    const bool is_used_before = !free_runs_.empty();
    if (!is_used_before) BANGER_TRY(find_free_run());
    const BlockRun from =
        is_used_before ? free_runs_.back()
                       : BlockRun{.start = next_block_,
                                  .count = static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                      free_end_ - next_block_, EXT_INIT_MAX_LEN))};
    const BlockRun run{.start = from.start,
                       .count = static_cast<std::uint32_t>(std::min<std::uint64_t>(
                           {count, from.count, std::uint64_t{EXT_INIT_MAX_LEN}}))};
    ext2fs_block_alloc_stats_range(fs_, run.start, run.count, +1);
    if (!is_used_before) {
        next_block_ += run.count;
    } else if (run.count == from.count) {
        free_runs_.pop_back();
    } else {
        free_runs_.back() = {.start = run.start + run.count, .count = from.count - run.count};
    }
    return run;
}

errcode_t Ext4Volume::allocate_for_library(ext2_filsys fs, blk64_t /*goal*/, blk64_t* block) {
    Ext4Volume& volume = *static_cast<Ext4Volume*>(fs->priv_data);
    if (!volume.find_free_run()) return EXT2_ET_BLOCK_ALLOC_FAIL;
    *block = volume.next_block_++;  // the library marks it
    return 0;
}

Result<void> Ext4Volume::map(Mapping& mapping, std::uint64_t first, BlockRun run) {
    ext3_extent_header* header = extent_header(*mapping.inode);
    mapping.blocks += run.count;
    if (first + run.count > std::uint64_t{1} << 32)
        return Error(Errc::corrupt, "a file is larger than ext4 can hold");
    if (!mapping.tree && !(mapping.inode->fields.i_flags & EXT4_EXTENTS_FL)) {
        mapping.inode->fields.i_flags |= EXT4_EXTENTS_FL;
        header->eh_magic = ext2fs_cpu_to_le16(EXT3_EXT_MAGIC);
        header->eh_max = ext2fs_cpu_to_le16(extents_in_inode);
    }
    const std::uint16_t entries = ext2fs_le16_to_cpu(header->eh_entries);
    if (!mapping.tree && header->eh_depth == 0 && entries < extents_in_inode) {
        ext3_extent& extent = EXT_FIRST_EXTENT(header)[entries];
        extent.ee_block = ext2fs_cpu_to_le32(static_cast<std::uint32_t>(first));
        extent.ee_len = ext2fs_cpu_to_le16(static_cast<std::uint16_t>(run.count));
        extent.ee_start = ext2fs_cpu_to_le32(static_cast<std::uint32_t>(run.start));
        extent.ee_start_hi = ext2fs_cpu_to_le16(static_cast<std::uint16_t>(run.start >> 32));
        header->eh_entries = ext2fs_cpu_to_le16(static_cast<std::uint16_t>(entries + 1));
        return ok();
    }
    if (!mapping.tree) {
        // The library reads the inode's other half from disk when it writes this one.
        BANGER_TRY(write_inode(mapping.number, *mapping.inode));
        if (const errcode_t code =
                ext2fs_extent_open2(fs_, mapping.number, classic(*mapping.inode), &mapping.tree))
            return ext2_error(code, "growing a file's extents");
        ext2fs_extent last{};
        if (const errcode_t code = ext2fs_extent_get(mapping.tree, EXT2_EXTENT_LAST_LEAF, &last))
            return ext2_error(code, "growing a file's extents");
    }
    ext2fs_extent extent{};
    extent.e_lblk = first;
    extent.e_pblk = run.start;
    extent.e_len = run.count;
    if (const errcode_t code =
            ext2fs_extent_insert(mapping.tree, EXT2_EXTENT_INSERT_AFTER, &extent))
        return ext2_error(code, "growing a file's extents");
    return ok();
}

Result<void> Ext4Volume::finish_mapping(Mapping& mapping) {
    if (mapping.tree) {
        const errcode_t code = ext2fs_extent_fix_parents(mapping.tree);
        ext2fs_extent_free(mapping.tree);
        mapping.tree = nullptr;
        if (code) return ext2_error(code, "growing a file's extents");
    }
    ext2fs_iblk_add_blocks(fs_, classic(*mapping.inode), mapping.blocks);
    mapping.blocks = 0;
    return ok();
}

Result<BlockNumber> Ext4Volume::find_block(InodeNumber number, DiskInode& inode,
                                           std::uint64_t index) {
    blk64_t block = 0;
    if (const errcode_t code =
            ext2fs_bmap2(fs_, number, classic(inode), nullptr, 0, index, nullptr, &block))
        return ext2_error(code, "reading a file's extents");
    return block;
}

Result<void> Ext4Volume::write_now(std::uint64_t position, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ::ssize_t count =
            ::pwrite(image_, bytes.data(), bytes.size(), static_cast<::off_t>(position));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "writing the image");
        position += static_cast<std::uint64_t>(count);
        bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return ok();
}

Result<void> Ext4Volume::flush() {
    BANGER_TRY(write_now(pending_at_, pending_));
    pending_.clear();
    return ok();
}

Result<void> Ext4Volume::write(std::uint64_t position, std::span<const std::byte> bytes) {
    const std::uint64_t end = pending_at_ + pending_.size();
    const std::uint64_t next_boundary = (end + block_size - 1) / block_size * block_size;
    // The rest of a file's last block is nobody's: fill it, and the next file continues the row.
    const std::uint64_t gap = position == next_boundary ? next_boundary - end : 0;
    const bool continues = !pending_.empty() && position == end + gap;
    if (!continues || pending_.size() + gap + bytes.size() > pending_size) {
        BANGER_TRY(flush());
        if (bytes.size() >= direct_size) return write_now(position, bytes);
        pending_at_ = position;
    } else {
        pending_.resize(pending_.size() + gap);
    }
    pending_.insert(pending_.end(), bytes.begin(), bytes.end());
    return ok();
}

Result<void> Ext4Volume::read(std::uint64_t position, std::span<std::byte> bytes) {
    BANGER_TRY(flush());
    while (!bytes.empty()) {
        const ::ssize_t count =
            ::pread(image_, bytes.data(), bytes.size(), static_cast<::off_t>(position));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "reading the image");
        if (count == 0) {  // the last block's rest may not be written yet
            std::ranges::fill(bytes, std::byte{0});
            return ok();
        }
        position += static_cast<std::uint64_t>(count);
        bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return ok();
}

Result<void> Ext4Volume::set_attributes(InodeNumber number,
                                        const std::map<std::string, std::string>& attributes) {
    ext2_xattr_handle* handle = nullptr;
    errcode_t code = ext2fs_xattrs_open(fs_, number, &handle);
    if (code) return ext2_error(code, "storing extended attributes");
    for (const auto& [name, value] : attributes) {
        if (code) break;
        code = ext2fs_xattr_set(handle, name.c_str(), value.data(), value.size());
    }
    if (!code) code = ext2fs_xattrs_write(handle);
    ext2fs_xattrs_close(&handle);
    if (code == EINVAL || code == EXT2_ET_EA_NO_SPACE)
        return Error(Errc::corrupt, "an entry has extended attributes that ext4 cannot hold",
                     "The archive is not one to make an image of.");
    if (code) return ext2_error(code, "storing extended attributes");
    return ok();
}

std::uint32_t Ext4Volume::journal_blocks() const {
    if (!size_) return usual_journal_blocks;
    const int usual = ext2fs_default_journal_size(ext2fs_blocks_count(fs_->super));
    return std::min(static_cast<std::uint32_t>(std::max(usual, 1024)), largest_journal_blocks);
}

/// How many groups hold the content with its headroom and the journal.
Result<std::uint32_t> Ext4Volume::groups_for_content(const Finish& how) const {
    const std::uint64_t table_blocks = 2 + fs_->inode_blocks_per_group;
    const std::uint64_t content =
        free_at_first_ - ext2fs_free_blocks_count(fs_->super) - opened_groups_ * table_blocks;
    const std::uint64_t wanted =
        std::max(content, content * how.headroom_percent / 100) + journal_blocks() + 64;
    const std::uint32_t inodes = fs_->super->s_inodes_count - fs_->super->s_free_inodes_count;
    const std::uint64_t groups = std::max<std::uint64_t>(
        (inodes + inodes_per_group - 1) / inodes_per_group,
        (how.at_least / block_size + blocks_per_group - 1) / blocks_per_group);
    std::uint64_t room = 0;
    for (std::uint32_t i = 0;; ++i) {
        if (i >= groups && room >= wanted) return i;
        if (i == fs_->group_desc_count)
            return Error(Errc::no_space, "the content does not fit into the largest image");
        room += blocks_per_group - table_blocks;
        if (ext2fs_bg_has_super(fs_, i))
            room -= 1 + fs_->desc_blocks + fs_->super->s_reserved_gdt_blocks;
    }
}

/// The least that hold every block and inode in use where they are.
std::uint32_t Ext4Volume::groups_in_use() const {
    BlockNumber last = std::max<BlockNumber>(next_block_, 1) - 1;
    while (last > 0 && !ext2fs_test_block_bitmap2(fs_->block_map, last))
        --last;
    return 1 + std::max(ext2fs_group_of_blk2(fs_, last), ext2fs_group_of_ino(fs_, next_inode_ - 1));
}

Result<bool> Ext4Volume::is_larger_than_needed(const Finish& how) const {
    return !size_ && groups_in_use() > BANGER_TRY(groups_for_content(how));
}

/// Drops all groups from `groups` on; nothing but their tables may be in use.
Result<void> Ext4Volume::cut_to(std::uint32_t groups) {
    BANGER_TRY(open_groups(groups - 1));
    ext2_super_block& super = *fs_->super;
    const std::uint64_t blocks = std::uint64_t{groups} * blocks_per_group;
    const auto free = [&](BlockNumber start, std::uint64_t count) {
        if (start >= blocks) return;
        ext2fs_block_alloc_stats_range(fs_, start,
                                       static_cast<blk_t>(std::min(count, blocks - start)), -1);
    };
    for (std::uint32_t group = groups; group < opened_groups_; ++group) {
        free(ext2fs_block_bitmap_loc(fs_, group), 1);
        free(ext2fs_inode_bitmap_loc(fs_, group), 1);
        free(ext2fs_inode_table_loc(fs_, group), fs_->inode_blocks_per_group);
    }
    const unsigned long descriptors = (groups + descriptors_per_block - 1) / descriptors_per_block;
    std::byte* table = reinterpret_cast<std::byte*>(fs_->group_desc);
    std::memset(table + std::size_t{groups} * 64, 0,
                fs_->desc_blocks * block_size - std::size_t{groups} * 64);
    // What the descriptors of the cut groups took stays reserved for growing.
    super.s_reserved_gdt_blocks =
        static_cast<std::uint16_t>(super.s_reserved_gdt_blocks + fs_->desc_blocks - descriptors);
    fs_->desc_blocks = descriptors;
    fs_->group_desc_count = groups;
    opened_groups_ = groups;
    ext2fs_blocks_count_set(&super, blocks);
    super.s_inodes_count = groups * super.s_inodes_per_group;
    // The last group's bitmap is always written.
    ext2fs_bg_flags_clear(fs_, groups - 1, EXT2_BG_BLOCK_UNINIT);
    ext2fs_group_desc_csum_set(fs_, groups - 1);
    std::uint64_t free_blocks = 0;
    std::uint32_t free_inodes = 0;
    for (std::uint32_t group = 0; group < groups; ++group) {
        free_blocks += ext2fs_bg_free_blocks_count(fs_, group);
        free_inodes += ext2fs_bg_free_inodes_count(fs_, group);
    }
    ext2fs_free_blocks_count_set(&super, free_blocks);
    super.s_free_inodes_count = free_inodes;
    errcode_t code = ext2fs_resize_block_bitmap2(blocks - 1, blocks - 1, fs_->block_map);
    if (!code)
        code =
            ext2fs_resize_inode_bitmap2(super.s_inodes_count, super.s_inodes_count, fs_->inode_map);
    if (code) return ext2_error(code, "cutting the file system to size");
    return ok();
}

Result<void> Ext4Volume::add_journal() {
    ext2fs_journal_params journal{};
    journal.num_journal_blocks = journal_blocks();
    const BlockNumber goal = next_block_ < ext2fs_blocks_count(fs_->super) ? next_block_ : 0;
    // The file is sparse, so the journal is zero without being zeroed.
    if (const errcode_t code = ext2fs_add_journal_inode3(
            fs_, &journal, goal, EXT2_MKJOURNAL_LAZYINIT | EXT2_MKJOURNAL_NO_MNT_CHECK))
        return ext2_error(code, "adding the journal");
    return ok();
}

Result<Ext4Volume::Finished> Ext4Volume::finish(const Finish& how) {
    BANGER_TRY(clear_given_back());
    BANGER_TRY(flush());
    if (size_) {
        BANGER_TRY(open_groups(fs_->group_desc_count - 1));
    } else {
        BANGER_TRY(cut_to(std::max(BANGER_TRY(groups_for_content(how)), groups_in_use())));
    }
    Finished finished;
    std::copy_n(how.digest.begin(), 16, finished.uuid.begin());
    // RFC 9562: version 8, made by a rule of our own.
    finished.uuid[6] = static_cast<std::uint8_t>((finished.uuid[6] & 0x0f) | 0x80);
    finished.uuid[8] = static_cast<std::uint8_t>((finished.uuid[8] & 0x3f) | 0x80);
    std::memcpy(fs_->super->s_uuid, finished.uuid.data(), 16);
    std::memcpy(fs_->super->s_hash_seed, how.digest.data() + 16, 16);
    // All data is written: from here on the library places things alone, and may fill gaps.
    ext2fs_set_alloc_block_callback(fs_, nullptr, nullptr);
    if (const errcode_t code = ext2fs_create_resize_inode(fs_))
        return ext2_error(code, "preparing to grow later");
    BANGER_TRY(add_journal());

    const std::uint64_t blocks = ext2fs_blocks_count(fs_->super);
    finished.size = size_ ? size_->count() : blocks * block_size;
    finished.used = (blocks - ext2fs_free_blocks_count(fs_->super)) * block_size;
    ext2fs_mark_super_dirty(fs_);
    const errcode_t code = ext2fs_close2(fs_, EXT2_FLAG_FLUSH_NO_SYNC);
    if (code) return ext2_error(code, "writing the file system's tables");
    fs_ = nullptr;
    if (::ftruncate(image_, static_cast<::off_t>(finished.size)) != 0)
        return Error::from_errno(errno, "setting the size of the image");
    return finished;
}

}  // namespace banger::images

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "banger/result.hpp"
#include "core/images/ext4_volume.hpp"

namespace banger::images {

/// One entry of a folder.
struct FolderEntry {
    InodeNumber inode = 0;
    std::uint8_t type = 0;     ///< EXT2_FT_*
    std::size_t position = 0;  ///< in the folder, for replace() and remove()
};

/// One folder in memory: its blocks as they go to disk, its inode, and an index of names once it is
/// larger than a block, so that ten thousands of entries take no quadratic time.
class Folder {
public:
    /// `blocks_of_all` counts the blocks of all folders in memory.
    Folder(InodeNumber number, InodeNumber parent, std::size_t& blocks_of_all);
    ~Folder();
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    [[nodiscard]] InodeNumber number() const { return number_; }
    [[nodiscard]] InodeNumber parent() const { return parent_; }
    /// Attributes are the caller's; size, links and mapping are set when the folder is stored.
    [[nodiscard]] DiskInode& inode() {
        is_changed_ = true;
        return inode_;
    }

    [[nodiscard]] std::optional<FolderEntry> find(std::string_view name) const;
    /// `name` is new here, not empty and at most 255 bytes. Errc::corrupt when the folder is full.
    Result<void> add(std::string_view name, InodeNumber inode, std::uint8_t type);
    void replace(const FolderEntry& entry, InodeNumber inode, std::uint8_t type);
    void remove(const FolderEntry& entry);
    /// All but "." and "..".
    [[nodiscard]] std::vector<FolderEntry> entries() const;
    [[nodiscard]] std::string_view name_at(std::size_t position) const;

private:
    friend class Folders;
    using Block = std::array<std::byte, block_size>;
    struct Record;

    [[nodiscard]] Record* record(std::size_t position) const;
    void append_block();
    void rescan();
    void index(std::size_t position);
    void rebuild_index();
    template <class Visitor>
    void visit(Visitor visitor) const;
    [[nodiscard]] std::optional<std::size_t> slot_of(std::string_view name) const;

    InodeNumber number_;
    InodeNumber parent_;
    std::size_t* blocks_of_all_;
    DiskInode inode_{};
    std::vector<std::unique_ptr<Block>> blocks_;
    std::vector<BlockNumber> stored_;   ///< where the first of them lie in the image
    std::vector<std::uint32_t> slots_;  ///< hash table of position / 4 + 1; empty for one block
    std::size_t slots_used_ = 0;        ///< also by names that are gone
    std::size_t count_ = 0;
    std::size_t subfolders_ = 0;
    std::size_t last_ = 0;  ///< position of the last record: its slack is where the next goes
    bool is_changed_ = true;
    std::uint64_t used_at_ = 0;
};

/// The folders of an image: those in use in memory, all others in the image.
///
/// A folder is stored when it falls out of memory or at the end, as one row of blocks where it was
/// not stored before. Archives come depth first, so a folder is rarely needed again after that.
class Folders {
public:
    explicit Folders(Ext4Volume& volume) : volume_(volume) {}

    /// The folder, from memory or the image. Valid until trim() or forget().
    Result<Folder*> get(InodeNumber number);
    /// A new and empty one for an inode that was taken for it.
    Folder& make(InodeNumber number, InodeNumber parent);
    /// Drops it unstored, because its inode is being freed.
    void forget(InodeNumber number);
    /// Keeps memory bounded. To be called between entries, where no folder is held.
    Result<void> trim();
    Result<void> store_all();

private:
    Result<void> load(Folder& folder);
    Result<void> store(Folder& folder);

    Ext4Volume& volume_;
    std::size_t blocks_ = 0;  ///< of folders_; must outlive them
    std::unordered_map<InodeNumber, std::unique_ptr<Folder>> folders_;
    std::uint64_t clock_ = 0;
    Folder* recent_ = nullptr;
};

}  // namespace banger::images

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "core/images/entry_journal.hpp"
#include "core/images/ext4_folders.hpp"
#include "core/images/ext4_image.hpp"
#include "core/images/ext4_volume.hpp"
#include "core/images/hash_set.hpp"
#include "core/images/tar_reader.hpp"

namespace banger::images {

/// SHA-512 over a stream of records, in chunks, because libext2fs offers no running one.
class RecordDigest {
public:
    void add(std::string_view text);
    void add_number(std::uint64_t number);
    std::array<std::uint8_t, 32> finish();

private:
    void fold();
    std::string buffer_;
    std::array<std::uint8_t, EXT2FS_SHA512_LENGTH> value_{};
};

/// Owner, mode and times; everything else of the inode stays as it is.
void set_attributes(DiskInode& inode, std::uint16_t type, std::uint32_t mode, std::uint32_t uid,
                    std::uint32_t gid, const TarTime& modified);

/// Applies the entries of layers to a volume, in order. The data of a file is in the volume before
/// its entry comes, or was left out.
///
/// A file whose data was left out gets no inode, only a name that leads to none. When all such
/// names are gone at the end, the image is what it would be had everything been written; else
/// lasts_without_data() says so and the image is worth nothing.
class ImageWriter {
public:
    ImageWriter(Ext4Volume& volume, const Ext4Options& options);

    Result<void> begin();
    void begin_layer();
    Result<void> apply(const TarEntry& entry, const FileContent& content);
    /// After the last entry; nothing but the volume's own tables is missing then.
    Result<void> end();
    std::array<std::uint8_t, 32> digest() { return digest_.finish(); }

    /// Is there a file whose data was left out by mistake?
    [[nodiscard]] bool lasts_without_data() const { return left_out_ > 0; }
    /// Was a file with data written that did not last?
    [[nodiscard]] bool wrote_in_vain() const { return wrote_in_vain_; }
    /// By the number of an entry in the order of application: did its file go again?
    [[nodiscard]] const std::vector<bool>& gone() const { return gone_; }
    /// Entries applied so far.
    [[nodiscard]] std::uint32_t applied() const { return applied_; }

private:
    /// The folder that an entry is in, and its name there; an empty name is the root folder itself.
    struct Place {
        InodeNumber folder = EXT2_ROOT_INO;
        std::string name{};
    };
    /// A path before any of it was looked up.
    struct Split {
        std::string_view folder;
        std::string_view name;
    };
    enum class Missing { make, leave };

    void add_to_digest(const TarEntry& entry);
    [[nodiscard]] Result<Split> split(std::string_view path) const;
    Result<Place> make_place(std::string_view path);
    Result<std::optional<Place>> find_place(std::string_view path);
    Result<InodeNumber> walk(std::string_view path, std::string_view whole, Missing missing);
    Result<std::string> read_symlink(InodeNumber number);
    Result<InodeNumber> make_folder(Folder& parent, std::string_view name);
    Result<void> set_folder(InodeNumber number, const TarEntry& entry);
    Result<void> put(const Place& place, const TarEntry& entry, const FileContent& content);
    Result<void> put_hard_link(const TarEntry& entry);
    Result<void> add_link(const FolderEntry& to, std::string_view path);
    Result<void> enter(const Place& place, InodeNumber number, std::uint8_t type);
    Result<InodeNumber> make_inode(const TarEntry& entry, const FileContent& content);
    Result<void> write_symlink(Mapping& mapping, const TarEntry& entry);
    Result<void> store_attributes(InodeNumber number, const TarEntry& entry);
    Result<void> release(const FolderEntry& entry);
    Result<void> unlink(InodeNumber number);
    void unlink_left_out(std::uint32_t ordinal);
    Result<void> remove_tree(InodeNumber folder);
    Result<void> whiteout(const Split& path, std::string_view whole);
    Result<void> remove_lower(InodeNumber folder);
    [[nodiscard]] bool is_lower(InodeNumber number) const;
    [[nodiscard]] bool is_lower(const Folder& folder, const FolderEntry& entry) const;
    Result<void> touch(InodeNumber folder);
    void mark_gone(std::uint32_t ordinal);

    Ext4Volume& volume_;
    Folders folders_;
    const Ext4Options& options_;
    RecordDigest digest_;
    std::uint32_t applied_ = 0;

    /// The folder of the entry before, because most entries share it.
    std::string recent_path_;
    InodeNumber recent_folder_ = 0;

    /// Inodes and entries below these were made by layers below.
    InodeNumber first_of_layer_ = EXT2_GOOD_OLD_FIRST_INO;
    std::uint32_t first_applied_of_layer_ = 0;
    /// Folders that this layer names, by number.
    std::vector<bool> touched_;
    /// Names that this layer gave to files of layers below: folder and name, hashed.
    HashSet linked_;

    std::uint64_t left_out_ = 0;             ///< files without data that have a name
    std::vector<std::uint16_t> more_links_;  ///< of them, by ordinal: names but the first
    bool wrote_in_vain_ = false;
    std::vector<bool> gone_;
};

}  // namespace banger::images

#include "core/images/ext4_folders.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

namespace banger::images {
namespace {

constexpr std::size_t tail_size = 12;  // ext2_dir_entry_tail, the block's checksum
constexpr std::size_t room_in_block = block_size - tail_size;
/// Some hundred thousand entries: larger folders are slow in the guest too.
constexpr std::size_t max_blocks = (std::size_t{12} << 20) / block_size;
/// Of all folders in memory together.
constexpr std::size_t blocks_in_memory = (std::size_t{12} << 20) / block_size;
constexpr std::uint32_t gone = std::numeric_limits<std::uint32_t>::max();

std::size_t length_for(std::size_t name) { return (8 + name + 3) / 4 * 4; }

}  // namespace

/// ext2_dir_entry_2 as on disk.
struct Folder::Record {
    std::uint32_t inode;
    std::uint16_t length;
    std::uint8_t name_length;
    std::uint8_t type;

    /// Stands right behind.
    [[nodiscard]] char* name() { return reinterpret_cast<char*>(this) + sizeof *this; }
    [[nodiscard]] const char* name() const {
        return reinterpret_cast<const char*>(this) + sizeof *this;
    }
    [[nodiscard]] InodeNumber number() const { return ext2fs_le32_to_cpu(inode); }
    [[nodiscard]] std::size_t size() const { return ext2fs_le16_to_cpu(length); }
    [[nodiscard]] std::size_t used() const { return inode == 0 ? 0 : length_for(name_length); }
    [[nodiscard]] std::string_view text() const { return {name(), name_length}; }
    void set_number(InodeNumber value) { inode = ext2fs_cpu_to_le32(value); }
    void set_size(std::size_t value) {
        length = ext2fs_cpu_to_le16(static_cast<std::uint16_t>(value));
    }
    void set(InodeNumber to, std::size_t whole, std::string_view called, std::uint8_t kind) {
        set_number(to);
        set_size(whole);
        name_length = static_cast<std::uint8_t>(called.size());
        type = kind;
        std::memcpy(name(), called.data(), called.size());
    }
};

Folder::Folder(InodeNumber number, InodeNumber parent, std::size_t& blocks_of_all)
    : number_(number), parent_(parent), blocks_of_all_(&blocks_of_all) {
    append_block();
    record(0)->set(number, length_for(1), ".", EXT2_FT_DIR);
    last_ = length_for(1);
    record(last_)->set(parent, room_in_block - last_, "..", EXT2_FT_DIR);
}

Folder::~Folder() { *blocks_of_all_ -= blocks_.size(); }

Folder::Record* Folder::record(std::size_t position) const {
    return reinterpret_cast<Record*>(blocks_[position / block_size]->data() +
                                     position % block_size);
}

std::string_view Folder::name_at(std::size_t position) const { return record(position)->text(); }

void Folder::append_block() {
    blocks_.push_back(std::make_unique<Block>());
    ++*blocks_of_all_;
    blocks_.back()->fill(std::byte{0});
    last_ = (blocks_.size() - 1) * block_size;
    record(last_)->set_size(room_in_block);
}

std::optional<std::size_t> Folder::slot_of(std::string_view name) const {
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t i = std::hash<std::string_view>{}(name)&mask; slots_[i] != 0;
         i = (i + 1) & mask) {
        if (slots_[i] != gone && name_at((slots_[i] - 1) * std::size_t{4}) == name) return i;
    }
    return std::nullopt;
}

std::optional<FolderEntry> Folder::find(std::string_view name) const {
    if (!slots_.empty()) {
        const std::optional<std::size_t> slot = slot_of(name);
        if (!slot) return std::nullopt;
        const std::size_t position = (slots_[*slot] - 1) * std::size_t{4};
        const Record* found = record(position);
        return FolderEntry{.inode = found->number(), .type = found->type, .position = position};
    }
    for (std::size_t at = 0; at < room_in_block;) {
        const Record* each = record(at);
        if (each->inode != 0 && each->text() == name)
            return FolderEntry{.inode = each->number(), .type = each->type, .position = at};
        at += each->size();
    }
    return std::nullopt;
}

void Folder::index(std::size_t position) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t i = std::hash<std::string_view>{}(name_at(position)) & mask;
    while (slots_[i] != 0 && slots_[i] != gone)
        i = (i + 1) & mask;
    if (slots_[i] == 0) ++slots_used_;
    slots_[i] = static_cast<std::uint32_t>(position / 4 + 1);
}

void Folder::rebuild_index() {
    std::size_t size = 1024;
    while (size < count_ * 2)
        size *= 2;
    slots_.assign(size, 0);
    slots_used_ = 0;
    visit([&](const FolderEntry& entry) { index(entry.position); });
}

Result<void> Folder::add(std::string_view name, InodeNumber inode, std::uint8_t type) {
    const std::size_t needed = length_for(name.size());
    if (record(last_)->size() - record(last_)->used() < needed) {
        if (blocks_.size() == max_blocks)
            return Error(Errc::corrupt, "a folder has more entries than an image may have",
                         "The archive is not one to make an image of.");
        append_block();
    }
    Record* before = record(last_);
    const std::size_t used = before->used();
    const std::size_t left = before->size() - used;
    if (used > 0) before->set_size(used);
    last_ += used;
    record(last_)->set(inode, left, name, type);
    ++count_;
    if (type == EXT2_FT_DIR) ++subfolders_;
    is_changed_ = true;
    if (blocks_.size() == 1) return ok();
    if (slots_used_ * 4 >= slots_.size() * 3) {
        rebuild_index();
    } else {
        index(last_);
    }
    return ok();
}

void Folder::replace(const FolderEntry& entry, InodeNumber inode, std::uint8_t type) {
    Record* old = record(entry.position);
    if (old->type == EXT2_FT_DIR) --subfolders_;
    if (type == EXT2_FT_DIR) ++subfolders_;
    old->set_number(inode);
    old->type = type;
    is_changed_ = true;
}

void Folder::remove(const FolderEntry& entry) {
    Record* old = record(entry.position);
    if (!slots_.empty()) slots_[slot_of(old->text()).value()] = gone;
    if (old->type == EXT2_FT_DIR) --subfolders_;
    old->set_number(0);
    --count_;
    is_changed_ = true;
}

template <class Visitor>
void Folder::visit(Visitor visitor) const {
    for (std::size_t block = 0; block < blocks_.size(); ++block) {
        for (std::size_t at = 0; at < room_in_block;) {
            const std::size_t position = block * block_size + at;
            const Record* each = record(position);
            if (each->inode != 0 && each->text() != "." && each->text() != "..")
                visitor({.inode = each->number(), .type = each->type, .position = position});
            at += each->size();
        }
    }
}

std::vector<FolderEntry> Folder::entries() const {
    std::vector<FolderEntry> all;
    all.reserve(count_);
    visit([&](const FolderEntry& entry) { all.push_back(entry); });
    return all;
}

/// Finds out what is not stored: after the blocks have been read back.
void Folder::rescan() {
    parent_ = record(record(0)->size())->number();
    count_ = subfolders_ = 0;
    visit([&](const FolderEntry& entry) {
        ++count_;
        if (entry.type == EXT2_FT_DIR) ++subfolders_;
    });
    last_ = (blocks_.size() - 1) * block_size;
    while (last_ % block_size + record(last_)->size() < room_in_block)
        last_ += record(last_)->size();
    slots_.clear();
    if (blocks_.size() > 1) rebuild_index();
}

Result<Folder*> Folders::get(InodeNumber number) {
    if (!recent_ || recent_->number() != number) {
        std::unique_ptr<Folder>& folder = folders_[number];
        if (!folder) {
            folder = std::make_unique<Folder>(number, number, blocks_);
            if (Result<void> loaded = load(*folder); !loaded) {
                folders_.erase(number);
                return loaded.error();
            }
        }
        recent_ = folder.get();
    }
    recent_->used_at_ = ++clock_;
    return recent_;
}

Folder& Folders::make(InodeNumber number, InodeNumber parent) {
    std::unique_ptr<Folder>& folder = folders_[number];
    folder = std::make_unique<Folder>(number, parent, blocks_);
    folder->used_at_ = ++clock_;
    recent_ = folder.get();
    return *folder;
}

void Folders::forget(InodeNumber number) {
    if (recent_ && recent_->number() == number) recent_ = nullptr;
    folders_.erase(number);
}

Result<void> Folders::load(Folder& folder) {
    BANGER_TRY(volume_.read_inode(folder.number_, folder.inode_));
    const std::size_t count = folder.inode_.fields.i_size / block_size;
    blocks_ -= folder.blocks_.size();
    folder.blocks_.clear();
    for (std::size_t i = 0; i < count; ++i) {
        folder.stored_.push_back(BANGER_TRY(volume_.find_block(folder.number_, folder.inode_, i)));
        folder.append_block();
        BANGER_TRY(volume_.read(folder.stored_.back() * block_size, *folder.blocks_.back()));
    }
    folder.rescan();
    folder.is_changed_ = false;
    return ok();
}

Result<void> Folders::store(Folder& folder) {
    if (!folder.is_changed_) return ok();
    Mapping mapping(folder.number_, folder.inode_);
    const std::size_t count = folder.blocks_.size();
    while (folder.stored_.size() < count) {
        const BlockRun run = BANGER_TRY(volume_.allocate(count - folder.stored_.size()));
        BANGER_TRY(volume_.map(mapping, folder.stored_.size(), run));
        for (std::uint32_t i = 0; i < run.count; ++i)
            folder.stored_.push_back(run.start + i);
    }
    BANGER_TRY(volume_.finish_mapping(mapping));
    folder.inode_.fields.i_size = static_cast<std::uint32_t>(count * block_size);
    // A count that does not fit is 1 (feature dir_nlink).
    const std::size_t links = folder.subfolders_ + 2;
    folder.inode_.fields.i_links_count =
        static_cast<std::uint16_t>(links > EXT2_LINK_MAX ? 1 : links);
    BANGER_TRY(volume_.write_inode(folder.number_, folder.inode_));
    for (std::size_t i = 0; i < count; ++i) {
        std::byte* block = folder.blocks_[i]->data();
        ext2fs_initialize_dirent_tail(
            volume_.handle(), reinterpret_cast<ext2_dir_entry_tail*>(block + room_in_block));
        if (const errcode_t code = ext2fs_dir_block_csum_set(
                volume_.handle(), folder.number_, reinterpret_cast<ext2_dir_entry*>(block)))
            return ext2_error(code, "storing a folder");
        BANGER_TRY(volume_.write(folder.stored_[i] * block_size, *folder.blocks_[i]));
    }
    folder.is_changed_ = false;
    return ok();
}

Result<void> Folders::trim() {
    if (blocks_ <= blocks_in_memory) return ok();
    // By age, and not by number, so that the same archive always gives the same image.
    std::vector<Folder*> by_age;
    for (const auto& [number, folder] : folders_)
        by_age.push_back(folder.get());
    std::ranges::sort(by_age, {}, [](const Folder* folder) { return folder->used_at_; });
    for (Folder* folder : by_age) {
        if (blocks_ <= blocks_in_memory / 2) break;
        BANGER_TRY(store(*folder));
        forget(folder->number());
    }
    return ok();
}

Result<void> Folders::store_all() {
    std::vector<Folder*> all;
    for (const auto& [number, folder] : folders_)
        all.push_back(folder.get());
    std::ranges::sort(all, {}, [](const Folder* folder) { return folder->number(); });
    for (Folder* folder : all)
        BANGER_TRY(store(*folder));
    return ok();
}

}  // namespace banger::images

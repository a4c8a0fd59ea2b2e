#include "core/images/ext4_image.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>
#include <vector>

#include "core/images/ext4_folders.hpp"
#include "core/images/ext4_volume.hpp"
#include "core/images/layer_stream.hpp"
#include "core/images/tar_reader.hpp"

namespace banger::images {
namespace {

using namespace std::string_view_literals;

constexpr std::uint64_t report_every = std::uint64_t{1} << 20;
constexpr int max_symlinks = 40;  // as Linux has it
constexpr std::size_t max_name = 255;
constexpr std::size_t max_symlink = block_size - 1;
constexpr std::uint64_t max_file =
    std::uint64_t{std::numeric_limits<std::uint32_t>::max()} * block_size;
constexpr std::size_t digest_buffer = std::size_t{64} << 10;

Error corrupt(std::string_view path, std::string_view why) {
    return Error(Errc::corrupt, "entry '" + std::string(path) + "' " + std::string(why),
                 "The archive is not one to make an image of.");
}

/// The next component, "" at the end.
std::string_view next_component(std::string_view& path) {
    while (path.starts_with('/'))
        path.remove_prefix(1);
    const std::string_view component = path.substr(0, path.find('/'));
    path.remove_prefix(component.size());
    return component;
}

/// SHA-512 over a stream of records, in chunks, because libext2fs offers no running one.
class RecordDigest {
public:
    void add(std::string_view text) {
        add_number(text.size());
        buffer_ += text;
        if (buffer_.size() >= digest_buffer) fold();
    }
    void add_number(std::uint64_t number) {
        for (int i = 0; i < 8; ++i)
            buffer_.push_back(static_cast<char>(number >> (8 * i)));
    }
    std::array<std::uint8_t, 32> finish() {
        fold();
        std::array<std::uint8_t, 32> head{};
        std::copy_n(value_.begin(), head.size(), head.begin());
        return head;
    }

private:
    void fold() {
        buffer_.append(reinterpret_cast<const char*>(value_.data()), value_.size());
        ext2fs_sha512(reinterpret_cast<const unsigned char*>(buffer_.data()), buffer_.size(),
                      value_.data());
        buffer_.clear();
    }
    std::string buffer_;
    std::array<std::uint8_t, EXT2FS_SHA512_LENGTH> value_{};
};

/// Low 32 bits of the seconds, and the extra word: two more bits of them, then nanoseconds.
struct DiskTime {
    std::uint32_t seconds;
    std::uint32_t extra;
};

DiskTime disk_time(const TarTime& time) {
    constexpr std::int64_t earliest = std::numeric_limits<std::int32_t>::min();
    constexpr std::int64_t latest = (std::int64_t{1} << 34) + earliest - 1;
    const std::int64_t seconds = std::clamp(time.seconds, earliest, latest);
    const std::int64_t low = static_cast<std::int32_t>(static_cast<std::uint32_t>(seconds));
    const std::uint32_t epoch = static_cast<std::uint32_t>((seconds - low) >> 32) & 3;
    return {.seconds = static_cast<std::uint32_t>(seconds), .extra = epoch | time.nanoseconds << 2};
}

/// Owner, mode and times; everything else of the inode stays as it is.
void set_attributes(DiskInode& inode, std::uint16_t type, std::uint32_t mode, std::uint32_t uid,
                    std::uint32_t gid, const TarTime& modified) {
    ext2_inode_large& fields = inode.fields;
    fields.i_mode = static_cast<std::uint16_t>(type | (mode & 07777));
    fields.i_uid = static_cast<std::uint16_t>(uid);
    fields.osd2.linux2.l_i_uid_high = static_cast<std::uint16_t>(uid >> 16);
    fields.i_gid = static_cast<std::uint16_t>(gid);
    fields.osd2.linux2.l_i_gid_high = static_cast<std::uint16_t>(gid >> 16);
    fields.i_extra_isize = sizeof(ext2_inode_large) - EXT2_GOOD_OLD_INODE_SIZE;
    const DiskTime time = disk_time(modified);
    fields.i_atime = fields.i_ctime = fields.i_mtime = fields.i_crtime = time.seconds;
    fields.i_atime_extra = fields.i_ctime_extra = fields.i_mtime_extra = fields.i_crtime_extra =
        time.extra;
}

/// In the inode behind its fields, or in a block of their own.
bool has_attributes(const DiskInode& inode) {
    std::uint32_t magic = 0;
    std::memcpy(&magic, inode.bytes.data() + sizeof inode.fields, sizeof magic);
    return magic != 0 || inode.fields.i_file_acl != 0;
}

struct TypeBits {
    std::uint16_t mode;
    std::uint8_t entry;
};

TypeBits type_bits(TarEntry::Type type) {
    switch (type) {
        case TarEntry::Type::file:
        case TarEntry::Type::hard_link:
            return {LINUX_S_IFREG, EXT2_FT_REG_FILE};
        case TarEntry::Type::symlink:
            return {LINUX_S_IFLNK, EXT2_FT_SYMLINK};
        case TarEntry::Type::character_device:
            return {LINUX_S_IFCHR, EXT2_FT_CHRDEV};
        case TarEntry::Type::block_device:
            return {LINUX_S_IFBLK, EXT2_FT_BLKDEV};
        case TarEntry::Type::folder:
            return {LINUX_S_IFDIR, EXT2_FT_DIR};
        case TarEntry::Type::fifo:
            return {LINUX_S_IFIFO, EXT2_FT_FIFO};
    }
    return {LINUX_S_IFREG, EXT2_FT_REG_FILE};
}

/// What Linux's ext4 has handlers for; others (of other file systems) mean nothing in the guest.
bool is_known_attribute(std::string_view name) {
    for (const std::string_view prefix : {"user."sv, "trusted."sv, "security."sv})
        if (name.starts_with(prefix) && name.size() > prefix.size()) return true;
    return name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

/// The folder that an entry is in, and its name there; an empty name is the root folder itself.
struct Place {
    InodeNumber folder = EXT2_ROOT_INO;
    std::string name;
};

/// Applies entries of tar streams to a volume.
class ImageWriter {
public:
    ImageWriter(Ext4Volume& volume, const Ext4Options& options, std::stop_token stop)
        : volume_(volume), folders_(volume), options_(options), stop_(std::move(stop)) {
        digest_.add(options.identity);
    }

    Result<void> start();
    Result<void> apply_layer(const UniqueFd& layer, bool has_whiteouts);
    Result<Ext4Summary> finish();

private:
    enum class Missing { make, refuse };

    Result<void> tick();
    void add_to_digest(const TarEntry& entry);
    Result<void> apply(const TarEntry& entry, bool has_whiteouts);
    Result<Place> locate(std::string_view path, Missing missing);
    Result<InodeNumber> walk(std::string_view path, std::string_view whole, Missing missing);
    Result<std::string> read_symlink(InodeNumber number);
    Result<InodeNumber> make_folder(Folder& parent, std::string_view name);
    Result<void> set_folder(InodeNumber number, const TarEntry& entry);
    Result<void> put(const Place& place, const TarEntry& entry);
    Result<void> put_hard_link(const Place& place, const TarEntry& entry);
    Result<void> enter(const Place& place, InodeNumber number, std::uint8_t type);
    Result<InodeNumber> make_inode(const TarEntry& entry);
    Result<void> write_content(Mapping& mapping, const TarEntry& entry);
    Result<void> write_symlink(Mapping& mapping, const TarEntry& entry);
    Result<void> store_attributes(InodeNumber number, const TarEntry& entry);
    Result<void> release(const FolderEntry& entry);
    Result<void> unlink(InodeNumber number);
    Result<void> remove_tree(InodeNumber folder);
    Result<void> whiteout(const Place& place, std::string_view path);
    Result<void> remove_lower(InodeNumber folder);
    [[nodiscard]] bool is_lower(InodeNumber number) const;
    void touch(InodeNumber number);

    Ext4Volume& volume_;
    Folders folders_;
    const Ext4Options& options_;
    std::stop_token stop_;
    RecordDigest digest_;
    Ext4Progress progress_;
    std::uint64_t read_before_ = 0;  ///< bytes of the layers that are done
    std::uint64_t reported_ = 0;
    LayerStream* stream_ = nullptr;
    TarReader* reader_ = nullptr;

    /// The folder of the entry before, because most entries share it.
    std::string recent_path_;
    InodeNumber recent_folder_ = 0;

    /// Inodes below this one were made by layers below.
    InodeNumber first_of_layer_ = EXT2_GOOD_OLD_FIRST_INO;
    /// Those of them that this layer names too, by number.
    std::vector<bool> touched_;
};

Result<void> ImageWriter::start() {
    Folder& root = folders_.make(EXT2_ROOT_INO, EXT2_ROOT_INO);
    set_attributes(root.inode(), LINUX_S_IFDIR, 0755, 0, 0, {.seconds = Ext4Volume::epoch});
    return volume_.write_inode(EXT2_ROOT_INO, root.inode());
}

Result<void> ImageWriter::tick() {
    progress_.bytes_read = read_before_ + stream_->bytes_read();
    if (stop_.stop_requested()) return Error(Errc::cancelled, "writing the image was cancelled");
    if (!options_.on_progress || progress_.bytes_read - reported_ < report_every) return ok();
    reported_ = progress_.bytes_read;
    options_.on_progress(progress_);
    return ok();
}

Result<void> ImageWriter::apply_layer(const UniqueFd& layer, bool has_whiteouts) {
    const std::unique_ptr<LayerStream> stream = BANGER_TRY(LayerStream::open(layer, stop_));
    TarReader reader(*stream);
    stream_ = stream.get();
    reader_ = &reader;
    touched_.clear();
    recent_folder_ = 0;
    TarEntry entry;
    while (BANGER_TRY(reader.next(entry))) {
        if (++progress_.entries > options_.limits.entries)
            return Error(Errc::corrupt, "the archive has more entries than an image may have");
        add_to_digest(entry);
        BANGER_TRY(apply(entry, has_whiteouts));
        BANGER_TRY(folders_.trim());
        BANGER_TRY(tick());
    }
    read_before_ += stream->bytes_read();
    first_of_layer_ = volume_.next_inode();
    return ok();
}

void ImageWriter::add_to_digest(const TarEntry& entry) {
    digest_.add(entry.path);
    digest_.add(entry.link_target);
    digest_.add_number(static_cast<std::uint64_t>(entry.type) << 32 | entry.mode);
    digest_.add_number(std::uint64_t{entry.uid} << 32 | entry.gid);
    digest_.add_number(static_cast<std::uint64_t>(entry.modified.seconds));
    digest_.add_number(std::uint64_t{entry.device_major} << 32 | entry.device_minor);
    digest_.add_number(entry.size << 10 ^ entry.modified.nanoseconds);
    for (const auto& [name, value] : entry.attributes) {
        digest_.add(name);
        digest_.add(value);
    }
}

Result<void> ImageWriter::apply(const TarEntry& entry, bool has_whiteouts) {
    const Place place = BANGER_TRY(locate(entry.path, Missing::make));
    if (place.name.empty()) {
        if (entry.type != TarEntry::Type::folder)
            return corrupt(entry.path, "would replace the root folder");
        return set_folder(EXT2_ROOT_INO, entry);
    }
    if (has_whiteouts && place.name.starts_with(".wh.")) return whiteout(place, entry.path);
    if (entry.type == TarEntry::Type::hard_link) return put_hard_link(place, entry);
    return put(place, entry);
}

/// Where `path` belongs. Folders on the way are made, or their lack is Errc::corrupt.
Result<Place> ImageWriter::locate(std::string_view path, Missing missing) {
    std::size_t depth = 0;
    std::string_view name;
    const char* parent_end = path.data();
    for (std::string_view rest = path; !rest.empty();) {
        const std::string_view component = next_component(rest);
        if (component.empty() || component == ".") continue;
        if (component == "..") return corrupt(path, "leads out with '..'");
        if (component.size() > max_name) return corrupt(path, "has a name over 255 bytes");
        if (++depth > options_.limits.depth) return corrupt(path, "is nested too deep");
        parent_end = component.data();
        name = component;
    }
    if (name.empty()) return Place{};
    const std::string_view parent =
        path.substr(0, static_cast<std::size_t>(parent_end - path.data()));
    if (recent_folder_ == 0 || parent != recent_path_) {
        const InodeNumber folder = BANGER_TRY(walk(parent, path, missing));
        recent_path_ = parent;
        recent_folder_ = folder;
    }
    return Place{.folder = recent_folder_, .name = std::string(name)};
}

/// The folder that `path` leads to, with symbolic links followed as the guest would: inside the
/// image.
Result<InodeNumber> ImageWriter::walk(std::string_view path, std::string_view whole,
                                      Missing missing) {
    InodeNumber current = EXT2_ROOT_INO;
    int symlinks = 0;
    std::vector<std::string> targets;  // of the links followed; never moved, `rest` points there
    std::vector<std::string_view> behind;  // what comes after each of them
    targets.reserve(max_symlinks);
    std::string_view rest = path;
    while (true) {
        const std::string_view component = next_component(rest);
        if (component.empty()) {
            if (behind.empty()) return current;
            rest = behind.back();
            behind.pop_back();
            continue;
        }
        if (component == ".") continue;
        if (component.size() > max_name) return corrupt(whole, "has a name over 255 bytes");
        Folder* folder = BANGER_TRY(folders_.get(current));
        if (missing == Missing::make) touch(current);
        if (component == "..") {
            current = folder->parent();
            continue;
        }
        const std::optional<FolderEntry> found = folder->find(component);
        if (!found) {
            if (missing == Missing::refuse) return corrupt(whole, "leads nowhere");
            current = BANGER_TRY(make_folder(*folder, component));
        } else if (found->type == EXT2_FT_DIR) {
            current = found->inode;
        } else if (found->type == EXT2_FT_SYMLINK) {
            if (++symlinks > max_symlinks) return corrupt(whole, "follows too many symbolic links");
            targets.push_back(BANGER_TRY(read_symlink(found->inode)));
            behind.push_back(rest);
            rest = targets.back();
            if (rest.starts_with('/')) current = EXT2_ROOT_INO;
        } else {
            return corrupt(whole, "goes through something that is no folder");
        }
    }
}

Result<std::string> ImageWriter::read_symlink(InodeNumber number) {
    DiskInode inode;
    BANGER_TRY(volume_.read_inode(number, inode));
    std::string target(std::min<std::size_t>(inode.fields.i_size, max_symlink), '\0');
    if (target.size() < sizeof inode.fields.i_block) {
        std::memcpy(target.data(), inode.fields.i_block, target.size());
        return target;
    }
    const BlockNumber block = BANGER_TRY(volume_.find_block(number, inode, 0));
    BANGER_TRY(volume_.read(block * block_size,
                            std::as_writable_bytes(std::span(target.data(), target.size()))));
    return target;
}

Result<InodeNumber> ImageWriter::make_folder(Folder& parent, std::string_view name) {
    const InodeNumber number = BANGER_TRY(volume_.new_inode(true));
    BANGER_TRY(parent.add(name, number, EXT2_FT_DIR));
    Folder& folder = folders_.make(number, parent.number());
    set_attributes(folder.inode(), LINUX_S_IFDIR, 0755, 0, 0, {.seconds = Ext4Volume::epoch});
    BANGER_TRY(volume_.write_inode(number, folder.inode()));
    return number;
}

Result<void> ImageWriter::set_folder(InodeNumber number, const TarEntry& entry) {
    Folder* folder = BANGER_TRY(folders_.get(number));
    touch(number);
    set_attributes(folder->inode(), LINUX_S_IFDIR, entry.mode, entry.uid, entry.gid,
                   entry.modified);
    if (entry.attributes.empty() && !has_attributes(folder->inode())) return ok();
    BANGER_TRY(volume_.write_inode(number, folder->inode()));
    BANGER_TRY(store_attributes(number, entry));
    return volume_.read_inode(number, folder->inode());
}

Result<void> ImageWriter::put(const Place& place, const TarEntry& entry) {
    if (entry.type == TarEntry::Type::folder) {
        Folder* folder = BANGER_TRY(folders_.get(place.folder));
        const std::optional<FolderEntry> old = folder->find(place.name);
        if (old && old->type == EXT2_FT_DIR) return set_folder(old->inode, entry);
        InodeNumber number = 0;
        if (old) {
            number = BANGER_TRY(volume_.new_inode(true));
            Folder& made = folders_.make(number, place.folder);
            set_attributes(made.inode(), LINUX_S_IFDIR, entry.mode, entry.uid, entry.gid,
                           entry.modified);
            BANGER_TRY(volume_.write_inode(number, made.inode()));
            BANGER_TRY(enter(place, number, EXT2_FT_DIR));
        } else {
            number = BANGER_TRY(make_folder(*folder, place.name));
        }
        return set_folder(number, entry);
    }
    const InodeNumber number = BANGER_TRY(make_inode(entry));
    return enter(place, number, type_bits(entry.type).entry);
}

Result<void> ImageWriter::put_hard_link(const Place& place, const TarEntry& entry) {
    const std::string recent_path = recent_path_;
    const Result<Place> target = locate(entry.link_target, Missing::refuse);
    recent_path_ = recent_path;
    recent_folder_ = place.folder;
    if (!target) return target.error();
    std::optional<FolderEntry> found;
    if (!target->name.empty()) found = BANGER_TRY(folders_.get(target->folder))->find(target->name);
    if (!found)
        return corrupt(entry.path, "is a hard link to '" + entry.link_target +
                                       "', which is not in the archive before it");
    if (found->type == EXT2_FT_DIR) return corrupt(entry.path, "is a hard link to a folder");

    const std::optional<FolderEntry> old = BANGER_TRY(folders_.get(place.folder))->find(place.name);
    if (old && old->inode == found->inode) return ok();
    DiskInode inode;
    BANGER_TRY(volume_.read_inode(found->inode, inode));
    if (inode.fields.i_links_count >= EXT2_LINK_MAX)
        return corrupt(entry.path, "is one hard link more than ext4 can hold");
    ++inode.fields.i_links_count;
    BANGER_TRY(volume_.write_inode(found->inode, inode));
    touch(found->inode);
    return enter(place, found->inode, found->type);
}

/// Names the inode, in place of whatever had the name.
Result<void> ImageWriter::enter(const Place& place, InodeNumber number, std::uint8_t type) {
    Folder* folder = BANGER_TRY(folders_.get(place.folder));
    touch(place.folder);
    const std::optional<FolderEntry> old = folder->find(place.name);
    if (!old) return folder->add(place.name, number, type);
    folder->replace(*old, number, type);
    return release(*old);
}

Result<InodeNumber> ImageWriter::make_inode(const TarEntry& entry) {
    const InodeNumber number = BANGER_TRY(volume_.new_inode(false));
    DiskInode inode{};
    set_attributes(inode, type_bits(entry.type).mode, entry.mode, entry.uid, entry.gid,
                   entry.modified);
    inode.fields.i_links_count = 1;
    Mapping mapping(number, inode);
    if (entry.type == TarEntry::Type::file) BANGER_TRY(write_content(mapping, entry));
    if (entry.type == TarEntry::Type::symlink) BANGER_TRY(write_symlink(mapping, entry));
    if (entry.type == TarEntry::Type::character_device ||
        entry.type == TarEntry::Type::block_device) {
        // Linux's old encoding where it fits, else the new one in the next word.
        const std::uint32_t major = entry.device_major;
        const std::uint32_t minor = entry.device_minor;
        if (major < 256 && minor < 256)
            inode.fields.i_block[0] = major << 8 | minor;
        else
            inode.fields.i_block[1] = (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
    }
    BANGER_TRY(volume_.finish_mapping(mapping));
    BANGER_TRY(volume_.write_inode(number, inode));
    if (!entry.attributes.empty()) BANGER_TRY(store_attributes(number, entry));
    return number;
}

Result<void> ImageWriter::write_content(Mapping& mapping, const TarEntry& entry) {
    if (entry.size > max_file) return corrupt(entry.path, "is larger than ext4 can hold");
    ext2_inode_large& fields = mapping.inode->fields;
    fields.i_size = static_cast<std::uint32_t>(entry.size);
    fields.i_size_high = static_cast<std::uint32_t>(entry.size >> 32);
    std::uint64_t first = 0;  // block of the file at which `run` begins
    BlockRun run;
    while (true) {
        TarData data = BANGER_TRY(reader_->read());
        if (data.bytes.empty()) return ok();
        progress_.bytes_written += data.bytes.size();
        if (progress_.bytes_written > options_.limits.data.count())
            return Error(Errc::corrupt, "the archive has more data than an image may have");
        while (!data.bytes.empty()) {
            const std::uint64_t index = data.offset / block_size;
            if (index < first || index >= first + run.count) {
                const std::uint64_t end =
                    (data.offset + data.left_in_run + block_size - 1) / block_size;
                run = BANGER_TRY(volume_.allocate(end - index));
                first = index;
                BANGER_TRY(volume_.map(mapping, first, run));
            }
            const std::uint64_t room = (first + run.count) * block_size - data.offset;
            const std::size_t count =
                static_cast<std::size_t>(std::min<std::uint64_t>(room, data.bytes.size()));
            BANGER_TRY(volume_.write(run.start * block_size + (data.offset - first * block_size),
                                     data.bytes.first(count)));
            data.bytes = data.bytes.subspan(count);
            data.offset += count;
            data.left_in_run -= count;
        }
        BANGER_TRY(tick());
    }
}

Result<void> ImageWriter::write_symlink(Mapping& mapping, const TarEntry& entry) {
    const std::string& target = entry.link_target;
    if (target.empty()) return corrupt(entry.path, "is a symbolic link to nothing");
    if (target.size() > max_symlink) return corrupt(entry.path, "is too long a symbolic link");
    ext2_inode_large& fields = mapping.inode->fields;
    fields.i_size = static_cast<std::uint32_t>(target.size());
    if (target.size() < sizeof fields.i_block) {
        std::memcpy(fields.i_block, target.data(), target.size());
        return ok();
    }
    const BlockRun run = BANGER_TRY(volume_.allocate(1));
    BANGER_TRY(volume_.map(mapping, 0, run));
    return volume_.write(run.start * block_size,
                         std::as_bytes(std::span(target.data(), target.size())));
}

Result<void> ImageWriter::store_attributes(InodeNumber number, const TarEntry& entry) {
    std::map<std::string, std::string> known;
    for (const auto& [name, value] : entry.attributes) {
        if (!is_known_attribute(name)) continue;
        if (name.size() > max_name) return corrupt(entry.path, "has an attribute name too long");
        known.emplace(name, value);
    }
    return volume_.set_attributes(number, known).context("writing '" + entry.path + "'");
}

/// What an entry named is no longer named by it.
Result<void> ImageWriter::release(const FolderEntry& entry) {
    recent_folder_ = 0;
    return entry.type == EXT2_FT_DIR ? remove_tree(entry.inode) : unlink(entry.inode);
}

Result<void> ImageWriter::unlink(InodeNumber number) {
    DiskInode inode;
    BANGER_TRY(volume_.read_inode(number, inode));
    if (inode.fields.i_links_count <= 1) return volume_.free_inode(number, inode);
    --inode.fields.i_links_count;
    return volume_.write_inode(number, inode);
}

Result<void> ImageWriter::remove_tree(InodeNumber top) {
    std::vector<InodeNumber> left{top};
    while (!left.empty()) {
        const InodeNumber number = left.back();
        left.pop_back();
        Folder* folder = BANGER_TRY(folders_.get(number));
        for (const FolderEntry& entry : folder->entries()) {
            if (entry.type == EXT2_FT_DIR)
                left.push_back(entry.inode);
            else
                BANGER_TRY(unlink(entry.inode));
        }
        DiskInode inode = folder->inode();
        folders_.forget(number);
        BANGER_TRY(volume_.free_inode(number, inode));
    }
    return ok();
}

bool ImageWriter::is_lower(InodeNumber number) const {
    return number < first_of_layer_ && (number >= touched_.size() || !touched_[number]);
}

void ImageWriter::touch(InodeNumber number) {
    if (number >= first_of_layer_) return;
    if (number >= touched_.size()) touched_.resize(first_of_layer_);
    touched_[number] = true;
}

/// OCI image layer specification, "Whiteouts".
Result<void> ImageWriter::whiteout(const Place& place, std::string_view path) {
    if (place.name == ".wh..wh..opq") return remove_lower(place.folder);
    if (place.name.starts_with(".wh..wh.")) return ok();  // aufs's own notes
    const std::string_view name = std::string_view(place.name).substr(4);
    if (name.empty() || name == "." || name == "..")
        return corrupt(path, "removes no possible name");
    Folder* folder = BANGER_TRY(folders_.get(place.folder));
    const std::optional<FolderEntry> old = folder->find(name);
    if (!old) return ok();
    if (is_lower(old->inode)) {
        folder->remove(*old);
        return release(*old);
    }
    // Named by this layer as well: it stays, without what layers below put into it.
    return old->type == EXT2_FT_DIR ? remove_lower(old->inode) : ok();
}

Result<void> ImageWriter::remove_lower(InodeNumber top) {
    std::vector<InodeNumber> left{top};
    while (!left.empty()) {
        const InodeNumber number = left.back();
        left.pop_back();
        const std::vector<FolderEntry> entries = BANGER_TRY(folders_.get(number))->entries();
        for (const FolderEntry& entry : entries) {
            if (is_lower(entry.inode)) {
                BANGER_TRY(folders_.get(number))->remove(entry);
                BANGER_TRY(release(entry));
            } else if (entry.type == EXT2_FT_DIR && entry.inode < first_of_layer_) {
                left.push_back(entry.inode);
            }
        }
    }
    return ok();
}

Result<Ext4Summary> ImageWriter::finish() {
    BANGER_TRY(folders_.store_all());
    const Ext4Volume::Finished finished =
        BANGER_TRY(volume_.finish({.digest = digest_.finish(),
                                   .headroom_percent = options_.headroom_percent,
                                   .at_least = options_.at_least.count()}));
    progress_.bytes_read = read_before_;
    if (options_.on_progress) options_.on_progress(progress_);
    return Ext4Summary{.size = ByteCount::bytes(finished.size),
                       .used = ByteCount::bytes(finished.used),
                       .entries = progress_.entries,
                       .uuid = finished.uuid};
}

}  // namespace

Result<Ext4Summary> write_ext4_from_layers(std::span<const UniqueFd> layers, const UniqueFd& image,
                                           const Ext4Options& options, std::stop_token stop) {
    const std::unique_ptr<Ext4Volume> volume =
        BANGER_TRY(Ext4Volume::create(image, {.size = options.size, .label = options.label}));
    ImageWriter writer(*volume, options, std::move(stop));
    BANGER_TRY(writer.start());
    for (const UniqueFd& layer : layers)
        BANGER_TRY(writer.apply_layer(layer, &layer != layers.data()));
    return writer.finish();
}

Result<void> make_empty_ext4(const UniqueFd& image, const EmptyExt4& request) {
    const std::unique_ptr<Ext4Volume> volume =
        BANGER_TRY(Ext4Volume::create(image, {.size = request.size, .label = request.label}));
    Folders folders(*volume);
    Folder& root = folders.make(EXT2_ROOT_INO, EXT2_ROOT_INO);
    set_attributes(root.inode(), LINUX_S_IFDIR, request.root_mode, request.root_uid,
                   request.root_gid, {.seconds = Ext4Volume::epoch});
    BANGER_TRY(folders.store_all());
    RecordDigest digest;
    digest.add("empty");
    digest.add(request.identity);
    digest.add(request.label);
    BANGER_TRY(volume->finish({.digest = digest.finish()}));
    return ok();
}

}  // namespace banger::images

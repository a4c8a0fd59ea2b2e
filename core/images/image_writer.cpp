#include "core/images/image_writer.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>

#include "core/images/upper_names.hpp"

namespace banger::images {
namespace {

using namespace std::string_view_literals;

constexpr int max_symlinks = 40;  // as Linux has it
constexpr std::size_t max_name = 255;
constexpr std::size_t max_symlink = block_size - 1;
constexpr std::uint64_t max_file =
    std::uint64_t{std::numeric_limits<std::uint32_t>::max()} * block_size;
constexpr std::size_t digest_buffer = std::size_t{64} << 10;
/// Real images have none: what they change is copied up first.
constexpr std::size_t max_links_to_lower = std::size_t{1} << 19;

/// The inode number that stands in a folder for a file whose data was left out. Real ones are
/// smaller, as a file system of 16 TiB has 2^30.
constexpr InodeNumber left_out_bit = InodeNumber{1} << 31;

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

std::uint64_t hash_of_name(InodeNumber folder, std::string_view name) {
    const std::string_view number(reinterpret_cast<const char*>(&folder), sizeof folder);
    return hash_on(hash_on(hash_of_nothing, number), name);
}

bool is_folder(const FolderEntry& entry) { return entry.type == EXT2_FT_DIR; }

}  // namespace

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

void RecordDigest::add(std::string_view text) {
    add_number(text.size());
    buffer_ += text;
    if (buffer_.size() >= digest_buffer) fold();
}

void RecordDigest::add_number(std::uint64_t number) {
    for (int i = 0; i < 8; ++i)
        buffer_.push_back(static_cast<char>(number >> (8 * i)));
}

std::array<std::uint8_t, 32> RecordDigest::finish() {
    fold();
    std::array<std::uint8_t, 32> head{};
    std::copy_n(value_.begin(), head.size(), head.begin());
    return head;
}

void RecordDigest::fold() {
    buffer_.append(reinterpret_cast<const char*>(value_.data()), value_.size());
    ext2fs_sha512(reinterpret_cast<const unsigned char*>(buffer_.data()), buffer_.size(),
                  value_.data());
    buffer_.clear();
}

ImageWriter::ImageWriter(Ext4Volume& volume, const Ext4Options& options)
    : volume_(volume), folders_(volume), options_(options), linked_(max_links_to_lower) {
    digest_.add(options.identity);
}

Result<void> ImageWriter::begin() {
    Folder& root = folders_.make(EXT2_ROOT_INO, EXT2_ROOT_INO);
    set_attributes(root.inode(), LINUX_S_IFDIR, 0755, 0, 0, {.seconds = Ext4Volume::epoch});
    return volume_.write_inode(EXT2_ROOT_INO, root.inode());
}

void ImageWriter::begin_layer() {
    first_of_layer_ = volume_.next_inode();
    first_applied_of_layer_ = applied_;
    touched_.clear();
    linked_.clear();
    recent_folder_ = 0;
}

Result<void> ImageWriter::end() { return folders_.store_all(); }

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

Result<void> ImageWriter::apply(const TarEntry& entry, const FileContent& content) {
    add_to_digest(entry);
    const Split path = BANGER_TRY(split(entry.path));
    if (is_whiteout(entry.path)) {
        BANGER_TRY(whiteout(path, entry.path));
    } else if (path.name.empty()) {
        if (entry.type != TarEntry::Type::folder)
            return corrupt(entry.path, "would replace the root folder");
        BANGER_TRY(set_folder(EXT2_ROOT_INO, entry));
    } else if (entry.type == TarEntry::Type::hard_link) {
        BANGER_TRY(put_hard_link(entry));
    } else {
        BANGER_TRY(put(BANGER_TRY(make_place(entry.path)), entry, content));
    }
    ++applied_;
    return folders_.trim();
}

Result<ImageWriter::Split> ImageWriter::split(std::string_view path) const {
    std::size_t depth = 0;
    Split parts{.folder = path.substr(0, 0), .name = {}};
    for (std::string_view rest = path; !rest.empty();) {
        const std::string_view component = next_component(rest);
        if (component.empty() || component == ".") continue;
        if (component == "..") return corrupt(path, "leads out with '..'");
        if (component.size() > max_name) return corrupt(path, "has a name over 255 bytes");
        if (++depth > options_.limits.depth) return corrupt(path, "is nested too deep");
        parts.folder = path.substr(0, static_cast<std::size_t>(component.data() - path.data()));
        parts.name = component;
    }
    return parts;
}

/// Where `path` belongs. Folders on the way are made.
Result<ImageWriter::Place> ImageWriter::make_place(std::string_view path) {
    const Split parts = BANGER_TRY(split(path));
    if (recent_folder_ == 0 || parts.folder != recent_path_) {
        const InodeNumber folder = BANGER_TRY(walk(parts.folder, path, Missing::make));
        recent_path_ = parts.folder;
        recent_folder_ = folder;
    }
    return Place{.folder = recent_folder_, .name = std::string(parts.name)};
}

/// Where `path` would be, if its folder is there.
Result<std::optional<ImageWriter::Place>> ImageWriter::find_place(std::string_view path) {
    const Split parts = BANGER_TRY(split(path));
    const InodeNumber folder = BANGER_TRY(walk(parts.folder, path, Missing::leave));
    if (folder == 0) return std::optional<Place>{};
    return std::optional(Place{.folder = folder, .name = std::string(parts.name)});
}

/// The folder that `path` leads to, with symbolic links followed as the guest would: inside the
/// image. 0 when there is none and none is to be made.
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
            if (behind.empty()) {
                if (missing == Missing::make) BANGER_TRY(touch(current));
                return current;
            }
            rest = behind.back();
            behind.pop_back();
            continue;
        }
        if (component == ".") continue;
        if (component.size() > max_name) return corrupt(whole, "has a name over 255 bytes");
        Folder* folder = BANGER_TRY(folders_.get(current));
        if (component == "..") {
            current = folder->parent();
            continue;
        }
        const std::optional<FolderEntry> found = folder->find(component);
        if (found && found->type == EXT2_FT_SYMLINK) {
            if (++symlinks > max_symlinks) return corrupt(whole, "follows too many symbolic links");
            targets.push_back(BANGER_TRY(read_symlink(found->inode)));
            behind.push_back(rest);
            rest = targets.back();
            if (rest.starts_with('/')) current = EXT2_ROOT_INO;
            continue;
        }
        if (missing == Missing::leave && (!found || !is_folder(*found))) return InodeNumber{0};
        if (found && !is_folder(*found))
            return corrupt(whole, "goes through something that is no folder");
        current = found ? found->inode : BANGER_TRY(make_folder(*folder, component));
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
    BANGER_TRY(touch(number));
    set_attributes(folder->inode(), LINUX_S_IFDIR, entry.mode, entry.uid, entry.gid,
                   entry.modified);
    if (entry.attributes.empty() && !has_attributes(folder->inode())) return ok();
    BANGER_TRY(volume_.write_inode(number, folder->inode()));
    BANGER_TRY(store_attributes(number, entry));
    return volume_.read_inode(number, folder->inode());
}

Result<void> ImageWriter::put(const Place& place, const TarEntry& entry,
                              const FileContent& content) {
    if (entry.type != TarEntry::Type::folder) {
        const InodeNumber number = BANGER_TRY(make_inode(entry, content));
        return enter(place, number, type_bits(entry.type).entry);
    }
    Folder* folder = BANGER_TRY(folders_.get(place.folder));
    const std::optional<FolderEntry> old = folder->find(place.name);
    if (old && is_folder(*old)) return set_folder(old->inode, entry);
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

Result<void> ImageWriter::put_hard_link(const TarEntry& entry) {
    const std::optional<Place> target = BANGER_TRY(find_place(entry.link_target));
    std::optional<FolderEntry> found;
    if (target && !target->name.empty())
        found = BANGER_TRY(folders_.get(target->folder))->find(target->name);
    if (!found)
        return corrupt(entry.path, "is a hard link to '" + entry.link_target +
                                       "', which is not in the archive before it");
    if (is_folder(*found)) return corrupt(entry.path, "is a hard link to a folder");

    const Place place = BANGER_TRY(make_place(entry.path));
    Folder* folder = BANGER_TRY(folders_.get(place.folder));
    if (is_lower(found->inode) && !linked_.insert(hash_of_name(place.folder, place.name)))
        return corrupt(entry.path, "is one hard link too many into layers below");
    const std::optional<FolderEntry> old = folder->find(place.name);
    if (old && old->inode == found->inode) return ok();
    BANGER_TRY(add_link(*found, entry.path));
    return enter(place, found->inode, found->type);
}

Result<void> ImageWriter::add_link(const FolderEntry& to, std::string_view path) {
    const Error too_many = corrupt(path, "is one hard link more than ext4 can hold");
    if (to.inode & left_out_bit) {
        const std::uint32_t ordinal = to.inode & ~left_out_bit;
        if (ordinal >= more_links_.size()) more_links_.resize(ordinal + 1);
        if (more_links_[ordinal] + 1 >= EXT2_LINK_MAX) return too_many;
        ++more_links_[ordinal];
        return ok();
    }
    DiskInode inode;
    BANGER_TRY(volume_.read_inode(to.inode, inode));
    if (inode.fields.i_links_count >= EXT2_LINK_MAX) return too_many;
    ++inode.fields.i_links_count;
    return volume_.write_inode(to.inode, inode);
}

/// Names the inode, in place of whatever had the name.
Result<void> ImageWriter::enter(const Place& place, InodeNumber number, std::uint8_t type) {
    Folder* folder = BANGER_TRY(folders_.get(place.folder));
    const std::optional<FolderEntry> old = folder->find(place.name);
    if (!old) return folder->add(place.name, number, type);
    folder->replace(*old, number, type);
    return release(*old);
}

Result<InodeNumber> ImageWriter::make_inode(const TarEntry& entry, const FileContent& content) {
    if (entry.size > max_file) return corrupt(entry.path, "is larger than ext4 can hold");
    if (content.is_left_out) {
        ++left_out_;
        return left_out_bit | applied_;
    }
    const InodeNumber number = BANGER_TRY(volume_.new_inode(false));
    DiskInode inode{};
    set_attributes(inode, type_bits(entry.type).mode, entry.mode, entry.uid, entry.gid,
                   entry.modified);
    inode.fields.i_links_count = 1;
    Mapping mapping(number, inode);
    if (entry.type == TarEntry::Type::file) {
        inode.fields.i_size = static_cast<std::uint32_t>(entry.size);
        inode.fields.i_size_high = static_cast<std::uint32_t>(entry.size >> 32);
        // A count of changes for network file systems, which is any number to begin with: which
        // entry this is, for the day the file goes.
        inode.fields.osd1.linux1.l_i_version = applied_;
        for (const FileRun& each : content.runs)
            BANGER_TRY(volume_.map(mapping, each.first, each.run));
    }
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
    return is_folder(entry) ? remove_tree(entry.inode) : unlink(entry.inode);
}

Result<void> ImageWriter::unlink(InodeNumber number) {
    if (number & left_out_bit) return unlink_left_out(number & ~left_out_bit), ok();
    DiskInode inode;
    BANGER_TRY(volume_.read_inode(number, inode));
    if (inode.fields.i_links_count > 1) {
        --inode.fields.i_links_count;
        return volume_.write_inode(number, inode);
    }
    if (LINUX_S_ISREG(inode.fields.i_mode)) {
        wrote_in_vain_ = true;
        mark_gone(inode.fields.osd1.linux1.l_i_version);
    }
    return volume_.free_inode(number, inode);
}

void ImageWriter::unlink_left_out(std::uint32_t ordinal) {
    if (ordinal < more_links_.size() && more_links_[ordinal] > 0) {
        --more_links_[ordinal];
        return;
    }
    --left_out_;
    mark_gone(ordinal);
}

void ImageWriter::mark_gone(std::uint32_t ordinal) {
    if (ordinal >= gone_.size()) gone_.resize(std::max(applied_, ordinal) + std::size_t{1});
    gone_[ordinal] = true;
}

Result<void> ImageWriter::remove_tree(InodeNumber top) {
    std::vector<InodeNumber> left{top};
    while (!left.empty()) {
        const InodeNumber number = left.back();
        left.pop_back();
        Folder* folder = BANGER_TRY(folders_.get(number));
        for (const FolderEntry& entry : folder->entries()) {
            if (is_folder(entry))
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
    return number & left_out_bit ? (number & ~left_out_bit) < first_applied_of_layer_
                                 : number < first_of_layer_;
}

/// Is this name of layers below, and not of this one as well?
bool ImageWriter::is_lower(const Folder& folder, const FolderEntry& entry) const {
    if (!is_lower(entry.inode)) return false;
    if (is_folder(entry)) return entry.inode >= touched_.size() || !touched_[entry.inode];
    return !linked_.contains(hash_of_name(folder.number(), folder.name_at(entry.position)));
}

/// This layer names the folder, and so all that it is in.
Result<void> ImageWriter::touch(InodeNumber folder) {
    while (folder >= touched_.size() || !touched_[folder]) {
        if (folder >= touched_.size()) touched_.resize(volume_.next_inode());
        touched_[folder] = true;
        folder = BANGER_TRY(folders_.get(folder))->parent();  // that of the root is the root
    }
    return ok();
}

/// OCI image layer specification, "Whiteouts".
Result<void> ImageWriter::whiteout(const Split& path, std::string_view whole) {
    const bool is_opaque = path.name == ".wh..wh..opq";
    if (!is_opaque && path.name.starts_with(".wh..wh.")) return ok();  // aufs's own notes
    const std::string_view name = path.name.substr(4);
    if (name.empty() || name == "." || name == "..")
        return corrupt(whole, "removes no possible name");
    const InodeNumber number = BANGER_TRY(walk(path.folder, whole, Missing::leave));
    if (number == 0) return ok();
    if (is_opaque) return remove_lower(number);
    Folder* folder = BANGER_TRY(folders_.get(number));
    const std::optional<FolderEntry> old = folder->find(name);
    if (!old) return ok();
    if (is_lower(*folder, *old)) {
        folder->remove(*old);
        return release(*old);
    }
    // Named by this layer as well: it stays, without what layers below put into it.
    return is_folder(*old) ? remove_lower(old->inode) : ok();
}

Result<void> ImageWriter::remove_lower(InodeNumber top) {
    std::vector<InodeNumber> left{top};
    while (!left.empty()) {
        const InodeNumber number = left.back();
        left.pop_back();
        for (const FolderEntry& entry : BANGER_TRY(folders_.get(number))->entries()) {
            Folder* folder = BANGER_TRY(folders_.get(number));
            if (is_lower(*folder, entry)) {
                folder->remove(entry);
                BANGER_TRY(release(entry));
            } else if (is_folder(entry) && is_lower(entry.inode)) {
                left.push_back(entry.inode);
            }
        }
    }
    return ok();
}

}  // namespace banger::images

#pragma once

#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/child.hpp"

namespace banger::images {

/// Looks at an image with libext2fs's own reading half.
class Ext4Reader {
public:
    explicit Ext4Reader(const std::string& path) {
        EXPECT_EQ(ext2fs_open(path.c_str(), EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs_), 0);
    }
    ~Ext4Reader() {
        if (fs_) ext2fs_close(fs_);
    }
    Ext4Reader(const Ext4Reader&) = delete;
    Ext4Reader& operator=(const Ext4Reader&) = delete;

    [[nodiscard]] const ext2_super_block& super() const { return *fs_->super; }
    [[nodiscard]] ext2_filsys handle() const { return fs_; }

    /// The inode that a path leads to, symbolic links not followed; 0 when there is none.
    [[nodiscard]] ext2_ino_t find(const std::string& path) const {
        ext2_ino_t number = EXT2_ROOT_INO;
        for (std::size_t at = 0; at < path.size();) {
            const std::size_t end = std::min(path.find('/', at), path.size());
            if (end > at) {
                ext2_ino_t next = 0;
                if (ext2fs_lookup(fs_, number, path.data() + at, static_cast<int>(end - at),
                                  nullptr, &next) != 0)
                    return 0;
                number = next;
            }
            at = end + 1;
        }
        return number;
    }
    [[nodiscard]] ext2_inode_large inode(const std::string& path) const {
        ext2_inode_large inode{};
        const ext2_ino_t number = find(path);
        EXPECT_NE(number, 0U) << path;
        if (number != 0) {
            EXPECT_EQ(ext2fs_read_inode_full(fs_, number, reinterpret_cast<ext2_inode*>(&inode),
                                             sizeof inode),
                      0);
        }
        return inode;
    }
    [[nodiscard]] std::uint64_t size(const std::string& path) const {
        const ext2_inode_large found = inode(path);
        return std::uint64_t{found.i_size_high} << 32 | found.i_size;
    }
    [[nodiscard]] std::uint32_t uid(const std::string& path) const {
        const ext2_inode_large found = inode(path);
        return inode_uid(found);
    }
    [[nodiscard]] std::uint32_t gid(const std::string& path) const {
        const ext2_inode_large found = inode(path);
        return inode_gid(found);
    }
    [[nodiscard]] std::string content(const std::string& path, std::uint64_t offset = 0,
                                      std::size_t count = std::size_t{1} << 20) const {
        ext2_file_t file = nullptr;
        if (ext2fs_file_open(fs_, find(path), 0, &file) != 0) return "<cannot open>";
        std::string bytes(count, '\0');
        unsigned got = 0;
        ext2fs_file_llseek(file, offset, EXT2_SEEK_SET, nullptr);
        const errcode_t code =
            ext2fs_file_read(file, bytes.data(), static_cast<unsigned>(count), &got);
        ext2fs_file_close(file);
        bytes.resize(code ? 0 : got);
        return bytes;
    }
    [[nodiscard]] std::string link_target(const std::string& path) const {
        const ext2_inode_large found = inode(path);
        if (found.i_size < sizeof found.i_block)
            return {reinterpret_cast<const char*>(found.i_block), found.i_size};
        blk64_t block = 0;
        ext2fs_bmap2(fs_, find(path), nullptr, nullptr, 0, 0, nullptr, &block);
        std::string bytes(fs_->blocksize, '\0');
        EXPECT_EQ(io_channel_read_blk64(fs_->io, block, 1, bytes.data()), 0);
        return bytes.substr(0, found.i_size);
    }
    [[nodiscard]] std::map<std::string, std::string> attributes(const std::string& path) const {
        std::map<std::string, std::string> all;
        ext2_xattr_handle* handle = nullptr;
        EXPECT_EQ(ext2fs_xattrs_open(fs_, find(path), &handle), 0);
        EXPECT_EQ(ext2fs_xattrs_read(handle), 0);
        ext2fs_xattrs_iterate(
            handle,
            [](char* name, char* value, size_t size, void* to) {
                static_cast<std::map<std::string, std::string>*>(to)->emplace(
                    name, std::string(value, size));
                return 0;
            },
            &all);
        ext2fs_xattrs_close(&handle);
        return all;
    }
    /// Names in a folder, without "." and "..", in the order on disk.
    [[nodiscard]] std::vector<std::string> list(const std::string& path) const {
        std::vector<std::string> names;
        ext2fs_dir_iterate2(
            fs_, find(path), 0, nullptr,
            [](ext2_ino_t, int, ext2_dir_entry* entry, int, int, char*, void* to) {
                const std::string name(entry->name,
                                       static_cast<std::size_t>(ext2fs_dirent_name_len(entry)));
                if (name != "." && name != "..")
                    static_cast<std::vector<std::string>*>(to)->push_back(name);
                return 0;
            },
            &names);
        return names;
    }

private:
    ext2_filsys fs_ = nullptr;
};

/// Empty when `e2fsck -fn` finds nothing to say, else what it says.
inline std::string fsck(const std::string& path) {
    const Result<std::string> program = find_program("/sbin/e2fsck");
    if (!program) return program.error().text();
    Command command;
    command.program = *program;
    command.arguments = {"-fn", path};
    command.environment = minimal_environment();
    const Result<CommandOutput> done =
        run_command(command, std::chrono::minutes(5), ByteCount::mib(1), {});
    if (!done) return done.error().text();
    return done->status.is_success() ? std::string{} : done->standard_output;
}

}  // namespace banger::images

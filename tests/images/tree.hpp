#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <map>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include "tests/images/ext4_reader.hpp"

namespace banger::images {

/// Everything that a name of a file system has, to compare trees from wherever they come.
struct TreeNode {
    std::uint32_t mode = 0;  ///< with the type
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t seconds = 0;
    std::uint32_t nanoseconds = 0;
    std::uint64_t size = 0;    ///< of files
    std::string content{};     ///< of a file, or its hash where it is long
    std::string target{};      ///< of a symbolic link
    std::uint32_t links = 1;   ///< names of what is no folder
    std::string first_name{};  ///< of a file with several names: which others it is
    std::uint32_t device_major = 0;
    std::uint32_t device_minor = 0;
    std::map<std::string, std::string> attributes{};

    friend bool operator==(const TreeNode&, const TreeNode&) = default;
    friend std::ostream& operator<<(std::ostream& out, const TreeNode& node) {
        out << std::oct << node.mode << std::dec << " " << node.uid << ":" << node.gid << " t"
            << node.seconds << "." << node.nanoseconds << " links " << node.links << " size "
            << node.size;
        if (!node.content.empty()) out << " \"" << node.content.substr(0, 40) << "\"";
        if (!node.target.empty()) out << " -> " << node.target;
        if (!node.first_name.empty()) out << " is " << node.first_name;
        if (S_ISCHR(node.mode) || S_ISBLK(node.mode))
            out << " device " << node.device_major << "," << node.device_minor;
        for (const auto& [name, value] : node.attributes)
            out << " " << name << "=" << testing::PrintToString(value);
        return out;
    }
};

/// By path, "" for the root.
using Tree = std::map<std::string, TreeNode>;

inline std::string content_or_hash(const std::string& content) {
    return content.size() <= 64 ? content : "#" + std::to_string(std::hash<std::string>{}(content));
}

/// Joins names of one inode: `by_inode` maps it to the first name in order of paths.
template <class Key>
void name_links(Tree& tree, const std::map<std::string, Key>& inodes) {
    std::map<Key, std::string> firsts;
    for (const auto& [path, key] : inodes) {
        TreeNode& node = tree.at(path);
        if (S_ISDIR(node.mode) || node.links < 2) continue;
        node.first_name = firsts.emplace(key, path).first->second;
    }
}

inline Tree read_tree(const Ext4Reader& image) {
    Tree tree;
    std::map<std::string, ext2_ino_t> inodes;
    std::vector<std::string> left{""};
    while (!left.empty()) {
        const std::string path = left.back();
        left.pop_back();
        const ext2_inode_large inode = image.inode(path);
        TreeNode& node = tree[path];
        node.mode = inode.i_mode;
        node.uid = inode_uid(inode);
        node.gid = inode_gid(inode);
        node.seconds = static_cast<std::int32_t>(inode.i_mtime) +
                       (std::int64_t{inode.i_mtime_extra & 3} << 32);
        node.nanoseconds = inode.i_mtime_extra >> 2;
        node.attributes = image.attributes(path);
        inodes[path] = image.find(path);
        if (S_ISDIR(node.mode)) {
            for (const std::string& name : image.list(path))
                if (!path.empty() || name != "lost+found")
                    left.push_back(path.empty() ? name : path + "/" + name);
            continue;
        }
        node.links = inode.i_links_count;
        if (S_ISREG(node.mode)) {
            node.size = image.size(path);
            if (node.size <= std::uint64_t{1} << 30)
                node.content =
                    content_or_hash(image.content(path, 0, static_cast<std::size_t>(node.size)));
        }
        if (S_ISLNK(node.mode)) node.target = image.link_target(path);
        if (S_ISCHR(node.mode) || S_ISBLK(node.mode)) {
            const std::uint32_t old = inode.i_block[0];
            const std::uint32_t wide = inode.i_block[1];
            node.device_major = old != 0 ? old >> 8 : (wide & 0xfff00) >> 8;
            node.device_minor = old != 0 ? old & 0xff : (wide & 0xff) | (wide >> 12 & 0xfff00);
        }
    }
    name_links(tree, inodes);
    return tree;
}

/// The tree below a folder of the host; as root, else not everything can be seen.
inline Tree read_tree(const std::string& folder) {
    Tree tree;
    std::map<std::string, std::uint64_t> inodes;
    std::vector<std::string> left{""};
    while (!left.empty()) {
        const std::string path = left.back();
        left.pop_back();
        const std::string whole = path.empty() ? folder : folder + "/" + path;
        struct ::stat status {};
        EXPECT_EQ(::lstat(whole.c_str(), &status), 0) << whole;
        TreeNode& node = tree[path];
        node.mode = status.st_mode;
        node.uid = status.st_uid;
        node.gid = status.st_gid;
        node.seconds = status.st_mtim.tv_sec;
        node.nanoseconds = static_cast<std::uint32_t>(status.st_mtim.tv_nsec);
        inodes[path] = status.st_ino;
        std::vector<char> names(1 << 16);
        const ::ssize_t length = ::llistxattr(whole.c_str(), names.data(), names.size());
        for (::ssize_t at = 0; at < length;) {
            const std::string name(names.data() + at);
            std::vector<char> value(1 << 16);
            const ::ssize_t size =
                ::lgetxattr(whole.c_str(), name.c_str(), value.data(), value.size());
            if (size >= 0)
                node.attributes[name] = std::string(value.data(), static_cast<std::size_t>(size));
            at += static_cast<::ssize_t>(name.size()) + 1;
        }
        if (S_ISDIR(status.st_mode)) {
            DIR* entries = ::opendir(whole.c_str());
            EXPECT_NE(entries, nullptr) << whole;
            while (const ::dirent* entry = entries ? ::readdir(entries) : nullptr) {
                const std::string name = entry->d_name;
                if (name != "." && name != "..")
                    left.push_back(path.empty() ? name : path + "/" + name);
            }
            if (entries) ::closedir(entries);
            continue;
        }
        node.links = static_cast<std::uint32_t>(status.st_nlink);
        if (S_ISREG(status.st_mode)) {
            node.size = static_cast<std::uint64_t>(status.st_size);
            std::string content(node.size, '\0');
            const int fd = ::open(whole.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
            for (std::size_t at = 0; fd >= 0 && at < content.size();) {
                const ::ssize_t got = ::read(fd, content.data() + at, content.size() - at);
                if (got <= 0) break;
                at += static_cast<std::size_t>(got);
            }
            if (fd >= 0) ::close(fd);
            node.content = content_or_hash(content);
        }
        if (S_ISLNK(status.st_mode)) {
            std::array<char, 4096> target{};
            const ::ssize_t size = ::readlink(whole.c_str(), target.data(), target.size());
            node.target.assign(target.data(),
                               static_cast<std::size_t>(std::max<::ssize_t>(size, 0)));
        }
        if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {
            node.device_major = major(status.st_rdev);
            node.device_minor = minor(status.st_rdev);
        }
    }
    name_links(tree, inodes);
    return tree;
}

/// Where two trees differ, a line each; empty when they do not.
inline std::string difference(const Tree& ours, const Tree& theirs) {
    std::string lines;
    const auto say = [&](const std::string& path, const std::string& what) {
        if (lines.size() < 4000) lines += "'" + path + "': " + what + "\n";
    };
    for (const auto& [path, node] : ours) {
        const Tree::const_iterator other = theirs.find(path);
        if (other == theirs.end())
            say(path, "only ours: " + testing::PrintToString(node));
        else if (!(node == other->second))
            say(path, "\n  ours   " + testing::PrintToString(node) + "\n  theirs " +
                          testing::PrintToString(other->second));
    }
    for (const auto& [path, node] : theirs)
        if (!ours.contains(path)) say(path, "only theirs: " + testing::PrintToString(node));
    return lines;
}

/// A tree in one line a name, in the order of paths, for expectations in tables: folders end in
/// "/", "name=content", "name->target", "name==first name", "name c1,3", "name|"; then what is not
/// usual: mode, owner, attributes.
inline std::string outline(const Tree& tree) {
    std::string lines;
    for (const auto& [path, node] : tree) {
        const std::uint32_t mode = node.mode & 07777;
        std::uint32_t usual = 0644;
        std::string line = path;
        if (!node.first_name.empty() && node.first_name != path) {
            lines += line + "==" + node.first_name + "\n";
            continue;
        }
        if (S_ISDIR(node.mode)) line += "/", usual = 0755;
        if (S_ISREG(node.mode)) line += "=" + node.content;
        if (S_ISLNK(node.mode)) line += "->" + node.target, usual = mode;
        if (S_ISFIFO(node.mode)) line += "|";
        if (S_ISCHR(node.mode) || S_ISBLK(node.mode))
            line += (S_ISCHR(node.mode) ? " c" : " b") + std::to_string(node.device_major) + "," +
                    std::to_string(node.device_minor);
        if (mode != usual) {
            std::array<char, 8> text{};
            std::snprintf(text.data(), text.size(), "%04o", mode);
            line += std::string(" ") + text.data();
        }
        if (node.uid != 0 || node.gid != 0)
            line += " " + std::to_string(node.uid) + ":" + std::to_string(node.gid);
        for (const auto& [name, value] : node.attributes)
            line += " " + name + "=" + value;
        if (path.empty() && line == "/") continue;
        lines += line + "\n";
    }
    return lines;
}

}  // namespace banger::images

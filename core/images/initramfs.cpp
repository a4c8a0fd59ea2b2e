#include "core/images/initramfs.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <utility>

namespace banger::images {

namespace {

bool is_plain_path(std::string_view path) {
    if (path.empty() || path.size() > 4000 || path.find('\0') != std::string_view::npos)
        return false;
    for (std::size_t from = 0; from <= path.size();) {
        const std::size_t to = std::min(path.find('/', from), path.size());
        const std::string_view component = path.substr(from, to - from);
        if (component.empty() || component == "." || component == "..") return false;
        from = to + 1;
    }
    return true;
}

void pad(std::string& bytes, std::size_t alignment) {
    bytes.append((alignment - bytes.size() % alignment) % alignment, '\0');
}

void append_entry(std::string& bytes, std::uint32_t inode, std::uint32_t mode,
                  std::string_view path, std::string_view content) {
    const auto size = static_cast<std::uint32_t>(content.size());
    const auto name_size = static_cast<std::uint32_t>(path.size() + 1);
    const std::uint32_t links = S_ISDIR(mode) ? 2 : 1;
    // inode, mode, uid, gid, links, mtime, size, device major and minor twice, name, checksum
    const std::array<std::uint32_t, 13> fields{inode, mode, 0, 0, links,     0, size,
                                               0,     0,    0, 0, name_size, 0};
    bytes += "070701";
    for (const std::uint32_t field : fields) {
        std::array<char, 9> text{};
        std::snprintf(text.data(), text.size(), "%08x", field);
        bytes.append(text.data(), 8);
    }
    bytes += path;
    bytes += '\0';
    pad(bytes, 4);
    bytes += content;
    pad(bytes, 4);
}

}  // namespace

Result<void> CpioWriter::add(std::string_view path, std::uint32_t mode, std::string_view content) {
    if (!is_plain_path(path))
        return Error(Errc::invalid_argument,
                     "\"" + std::string(path) + "\" cannot be a path in an initramfs");
    if (content.size() > std::numeric_limits<std::uint32_t>::max())
        return Error(Errc::invalid_argument, std::string(path) + " is too large for an initramfs");
    if (seen_.contains(path))
        return Error(Errc::invalid_argument, std::string(path) + " is given twice");
    const std::size_t slash = path.rfind('/');
    const std::string_view parent = path.substr(0, slash == std::string_view::npos ? 0 : slash);
    if (!parent.empty() && !seen_.contains(parent)) BANGER_TRY(add_folder(parent, 0755));
    seen_.emplace(path);
    append_entry(bytes_, next_inode_++, mode, path, content);
    return {};
}

Result<void> CpioWriter::add_folder(std::string_view path, std::uint32_t mode) {
    return add(path, S_IFDIR | (mode & 07777), {});
}

Result<void> CpioWriter::add_file(std::string_view path, std::uint32_t mode,
                                  std::string_view content) {
    return add(path, S_IFREG | (mode & 07777), content);
}

std::string CpioWriter::finish() && {
    append_entry(bytes_, 0, 0, "TRAILER!!!", {});
    pad(bytes_, 512);
    return std::move(bytes_);
}

}  // namespace banger::images

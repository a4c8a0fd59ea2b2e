#include "core/plugins/inspect.hpp"

#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

namespace banger {

namespace {

constexpr std::size_t max_segments = 128;
constexpr std::size_t max_entries = 4096;  // of the dynamic section
constexpr std::size_t max_name = 4096;

Error not_whole() {
    return {Errc::corrupt, "it is not a whole 64-bit library",
            "Install the plugin again from the source you trust."};
}

template <class T>
Result<T> read_at(const UniqueFd& fd, std::uint64_t offset) {
    T value{};
    if (offset > INT64_MAX || ::pread(fd.get(), &value, sizeof value, static_cast<off_t>(offset)) !=
                                  static_cast<ssize_t>(sizeof value))
        return not_whole();
    return value;
}

/// Where in the file the byte is that will be at `address` in memory.
std::optional<std::uint64_t> offset_of(const std::vector<Elf64_Phdr>& segments,
                                       std::uint64_t address) {
    for (const Elf64_Phdr& segment : segments)
        if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
            address - segment.p_vaddr < segment.p_filesz)
            return segment.p_offset + (address - segment.p_vaddr);
    return std::nullopt;
}

Result<std::string> name_at(const UniqueFd& fd, std::uint64_t offset) {
    std::string name(max_name, '\0');
    if (offset > INT64_MAX) return not_whole();
    const ssize_t count = ::pread(fd.get(), name.data(), name.size(), static_cast<off_t>(offset));
    const std::size_t end = name.find('\0');
    if (count <= 0 || end >= static_cast<std::size_t>(count)) return not_whole();
    name.resize(end);
    return name;
}

}  // namespace

Result<Linkage> linkage_of(const UniqueFd& library) {
    const Elf64_Ehdr header = BANGER_TRY(read_at<Elf64_Ehdr>(library, 0));
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(Elf64_Phdr) ||
        header.e_phnum > max_segments)
        return not_whole();
    std::vector<Elf64_Phdr> segments;
    for (std::size_t i = 0; i < header.e_phnum; ++i)
        segments.push_back(
            BANGER_TRY(read_at<Elf64_Phdr>(library, header.e_phoff + i * sizeof(Elf64_Phdr))));
    const auto dynamic =
        std::ranges::find(segments, std::uint32_t{PT_DYNAMIC}, &Elf64_Phdr::p_type);
    Linkage linkage;
    if (dynamic == segments.end()) return linkage;

    std::vector<std::uint64_t> wanted;  // offsets into the string table
    std::optional<std::uint64_t> path;
    std::optional<std::uint64_t> strings;
    const std::size_t count =
        std::min<std::uint64_t>(dynamic->p_filesz / sizeof(Elf64_Dyn), max_entries);
    for (std::size_t i = 0; i < count; ++i) {
        const Elf64_Dyn entry =
            BANGER_TRY(read_at<Elf64_Dyn>(library, dynamic->p_offset + i * sizeof(Elf64_Dyn)));
        if (entry.d_tag == DT_NULL) break;
        if (entry.d_tag == DT_NEEDED) wanted.push_back(entry.d_un.d_val);
        if (entry.d_tag == DT_RUNPATH || entry.d_tag == DT_RPATH) path = entry.d_un.d_val;
        if (entry.d_tag == DT_STRTAB) strings = offset_of(segments, entry.d_un.d_ptr);
    }
    if ((path || !wanted.empty()) && !strings) return not_whole();
    for (const std::uint64_t offset : wanted)
        linkage.needed.push_back(BANGER_TRY(name_at(library, *strings + offset)));
    if (path) linkage.search_path = BANGER_TRY(name_at(library, *strings + *path));
    return linkage;
}

}  // namespace banger

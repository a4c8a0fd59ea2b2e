#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace banger::images {

template <class T>
void put(std::string& bytes, std::size_t offset, T value) {
    std::memcpy(bytes.data() + offset, &value, sizeof value);
}

/// An ELF with one segment of notes that holds the PVH entry point, or not.
inline std::string fake_vmlinux(bool has_pvh) {
    std::string bytes(sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr), '\0');
    std::string note(sizeof(Elf64_Nhdr) + 8, '\0');
    put(note, 0, Elf64_Nhdr{4, 4, has_pvh ? 18U : 17U});
    note.replace(sizeof(Elf64_Nhdr), 3, "Xen");
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_machine = EM_X86_64;
    header.e_phoff = sizeof header;
    header.e_phnum = 1;
    Elf64_Phdr segment{};
    segment.p_type = PT_NOTE;
    segment.p_offset = bytes.size();
    segment.p_filesz = note.size();
    put(bytes, 0, header);
    put(bytes, sizeof header, segment);
    return bytes + note + std::string(100'000, 'k');
}

/// Packed by libarchive's own writer.
inline std::string packed(const std::string& content, int filter) {
    std::string out(content.size() + 65536, '\0');
    std::size_t used = 0;
    archive* writer = archive_write_new();
    archive_write_set_format_raw(writer);
    EXPECT_EQ(archive_write_add_filter(writer, filter), ARCHIVE_OK);
    archive_write_set_bytes_per_block(writer, 0);
    EXPECT_EQ(archive_write_open_memory(writer, out.data(), out.size(), &used), ARCHIVE_OK);
    archive_entry* entry = archive_entry_new();
    archive_entry_set_filetype(entry, AE_IFREG);
    EXPECT_EQ(archive_write_header(writer, entry), ARCHIVE_OK);
    archive_entry_free(entry);
    EXPECT_EQ(archive_write_data(writer, content.data(), content.size()),
              static_cast<la_ssize_t>(content.size()));
    EXPECT_EQ(archive_write_close(writer), ARCHIVE_OK);
    archive_write_free(writer);
    out.resize(used);
    return out;
}

/// A bzImage around the payload, as boot.rst describes it.
inline std::string fake_bzimage(const std::string& payload) {
    constexpr std::size_t setup_sectors = 3;
    constexpr std::size_t payload_offset = 0x60;
    std::string bytes((setup_sectors + 1) * 512 + payload_offset, '\x90');
    put<std::uint8_t>(bytes, 0x1f1, setup_sectors);
    put<std::uint32_t>(bytes, 0x202, 0x53726448);
    put<std::uint16_t>(bytes, 0x206, 0x020f);
    put<std::uint32_t>(bytes, 0x248, payload_offset);
    put(bytes, 0x24c, static_cast<std::uint32_t>(payload.size()));
    return bytes + payload + "trailing";
}

}  // namespace banger::images

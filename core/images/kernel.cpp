#include "core/images/kernel.hpp"

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "core/images/unpack.hpp"

namespace banger::images {

namespace {

/// A fixed-size value at an offset, if it lies inside. The host is little-endian, as the files are.
template <class T>
std::optional<T> value_at(std::string_view bytes, std::uint64_t offset) {
    if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
    T value{};
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

bool is_elf(std::string_view bytes) { return bytes.starts_with(ELFMAG); }

Result<void> check_elf(std::string_view bytes) {
    const std::optional<Elf64_Ehdr> header = value_at<Elf64_Ehdr>(bytes, 0);
    if (!header || !is_elf(bytes) || header->e_ident[EI_CLASS] != ELFCLASS64 ||
        header->e_machine != EM_X86_64)
        return Error(Errc::corrupt, "the kernel is not an x86-64 ELF");
    for (unsigned index = 0; index < header->e_phnum; ++index) {
        const std::optional<Elf64_Phdr> segment =
            value_at<Elf64_Phdr>(bytes, header->e_phoff + index * sizeof(Elf64_Phdr));
        if (!segment || segment->p_offset > bytes.size() ||
            segment->p_filesz > bytes.size() - segment->p_offset)
            return Error(Errc::corrupt, "the kernel is cut off");
    }
    return {};
}

/// Documentation/arch/x86/boot.rst of Linux, "The Real-Mode Kernel Header".
Result<std::string_view> payload_of(std::string_view image) {
    const std::optional<std::uint32_t> magic = value_at<std::uint32_t>(image, 0x202);
    if (!magic || *magic != 0x53726448)  // "HdrS"
        return Error(Errc::corrupt, "not a Linux kernel: no setup header");
    if (value_at<std::uint16_t>(image, 0x206).value_or(0) < 0x0208)
        return Error(Errc::unsupported, "the kernel's boot protocol is older than 2.08");
    const std::optional<std::uint8_t> sectors = value_at<std::uint8_t>(image, 0x1f1);
    const std::optional<std::uint32_t> offset = value_at<std::uint32_t>(image, 0x248);
    const std::optional<std::uint32_t> length = value_at<std::uint32_t>(image, 0x24c);
    if (!sectors || !offset || !length) return Error(Errc::corrupt, "the kernel is cut off");
    const std::uint64_t start = (std::uint64_t{*sectors == 0 ? 4U : *sectors} + 1) * 512 + *offset;
    if (start > image.size() || *length > image.size() - start || *length < 8)
        return Error(Errc::corrupt, "the kernel is cut off");
    return image.substr(start, *length);
}

constexpr std::uint64_t align4(std::uint64_t size) { return (size + 3) & ~std::uint64_t{3}; }

bool has_pvh_note(std::string_view notes) {
    constexpr std::uint32_t phys32_entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
    while (const std::optional<Elf64_Nhdr> note = value_at<Elf64_Nhdr>(notes, 0)) {
        const std::uint64_t size = sizeof *note + align4(note->n_namesz) + align4(note->n_descsz);
        if (size > notes.size()) return false;
        const std::string_view name = notes.substr(sizeof *note, note->n_namesz);
        if (note->n_type == phys32_entry && name.starts_with("Xen")) return true;
        notes.remove_prefix(size);
    }
    return false;
}

}  // namespace

Result<std::string> extract_vmlinux(std::string_view kernel_image) {
    if (is_elf(kernel_image)) {
        BANGER_TRY(check_elf(kernel_image));
        return std::string(kernel_image);
    }
    std::string_view payload = BANGER_TRY(payload_of(kernel_image));
    // The build appends the unpacked size in four bytes; in gzip they are the format's own.
    const bool is_gzip = payload.starts_with("\x1f\x8b");
    if (!is_gzip) payload.remove_suffix(4);
    std::string vmlinux = BANGER_TRY(unpack(payload, max_vmlinux).context("unpacking the kernel"));
    BANGER_TRY(check_elf(vmlinux));
    return vmlinux;
}

std::optional<std::string> kernel_version(std::string_view kernel_image) {
    constexpr std::string_view banner = "Linux version ";
    std::string_view text;
    if (is_elf(kernel_image)) {
        const std::size_t at = kernel_image.find(banner);
        if (at == kernel_image.npos) return std::nullopt;
        text = kernel_image.substr(at + banner.size());
    } else {
        const std::optional<std::uint16_t> offset = value_at<std::uint16_t>(kernel_image, 0x20e);
        if (!payload_of(kernel_image) || !offset || *offset == 0) return std::nullopt;
        if (std::size_t{*offset} + 0x200 >= kernel_image.size()) return std::nullopt;
        text = kernel_image.substr(std::size_t{*offset} + 0x200);
    }
    const std::size_t end = text.find_first_not_of(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-+_~");
    // uname(2) has 65 bytes for it.
    if (end == text.npos || end == 0 || end > 64 || text[0] == '.') return std::nullopt;
    return std::string(text.substr(0, end));
}

bool has_pvh_entry(std::string_view vmlinux) {
    if (!check_elf(vmlinux)) return false;
    const Elf64_Ehdr header = *value_at<Elf64_Ehdr>(vmlinux, 0);
    for (unsigned index = 0; index < header.e_phnum; ++index) {
        const Elf64_Phdr segment =
            *value_at<Elf64_Phdr>(vmlinux, header.e_phoff + index * sizeof(Elf64_Phdr));
        if (segment.p_type == PT_NOTE &&
            has_pvh_note(vmlinux.substr(segment.p_offset, segment.p_filesz)))
            return true;
    }
    return false;
}

}  // namespace banger::images

#pragma once

#include <elf.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/images/tar_builder.hpp"

namespace banger::images {

/// A module of which there is nothing but its section .modinfo.
inline std::string module_of(const std::vector<std::string>& fields) {
    std::string info;
    for (const std::string& field : fields)
        info += field + '\0';
    const std::string names = std::string("\0.modinfo\0.shstrtab\0", 20);
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_REL;
    header.e_machine = EM_X86_64;
    header.e_ehsize = sizeof header;
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = 3;
    header.e_shstrndx = 2;
    header.e_shoff = sizeof header + info.size() + names.size();
    Elf64_Shdr sections[3]{};
    sections[1].sh_name = 1;
    sections[1].sh_type = SHT_PROGBITS;
    sections[1].sh_offset = sizeof header;
    sections[1].sh_size = info.size();
    sections[2].sh_name = 10;
    sections[2].sh_type = SHT_STRTAB;
    sections[2].sh_offset = sizeof header + info.size();
    sections[2].sh_size = names.size();
    return std::string(reinterpret_cast<const char*>(&header), sizeof header) + info + names +
           std::string(reinterpret_cast<const char*>(sections), sizeof sections);
}

/// An ELF that says which Linux it is, and boots nothing.
inline std::string vmlinux_of(const std::string& version) {
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_ehsize = sizeof header;
    return std::string(reinterpret_cast<const char*>(&header), sizeof header) +
           std::string(1, '\0') + "Linux version " + version + " (somebody@somewhere) #1 SMP" +
           std::string(4096, '\0');
}

/// Name and content.
using Files = std::vector<std::pair<std::string, std::string>>;

/// What a kernel package brings: modules that depmod has never seen.
inline Files kernel_files(const std::string& version) {
    const std::string modules = "lib/modules/" + version + "/";
    return {
        {"boot/vmlinuz-" + version, vmlinux_of(version)},
        {modules + "kernel/net/virtio_net.ko",
         module_of({"alias=virtio:d00000001v*", "depends=net_failover", "license=GPL"})},
        {modules + "kernel/net/net_failover.ko", module_of({"depends=failover", "license=GPL"})},
        {modules + "kernel/net/failover.ko", module_of({"depends=", "license=GPL"})},
        {modules + "kernel/drivers/virtio-pci.ko",
         module_of({"alias=pci:v00001AF4d*sv*sd*bc*sc*i*", "depends="})},
        {modules + "kernel/fs/fuse.ko",
         module_of({"alias=fs-fuse", "alias=devname:fuse", "alias=char-major-10-229", "depends="})},
        {modules + "modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/lib/crc-x.ko\n"},
        {modules + "modules.order",
         "kernel/drivers/virtio-pci.ko\nkernel/net/failover.ko\nkernel/net/net_failover.ko\n"
         "kernel/net/virtio_net.ko\nkernel/fs/fuse.ko\n"},
    };
}

inline std::string tar_of(const Files& files, int filter = ARCHIVE_FILTER_NONE,
                          const std::string& prefix = "./") {
    TarBuilder tar(ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE, filter);
    for (const auto& [name, content] : files)
        tar.file(prefix + name, content);
    return tar.finish();
}

/// deb(5), by hand.
inline std::string package_of(const std::string& data_name, const std::string& data) {
    std::string package = "!<arch>\n";
    const auto add = [&](const std::string& name, const std::string& content) {
        std::array<char, 61> header{};
        std::snprintf(header.data(), header.size(), "%-16s%-12d%-6d%-6d%-8s%-10zu`\n", name.c_str(),
                      0, 0, 0, "100644", content.size());
        package.append(header.data(), 60);
        package += content;
        if (content.size() % 2 != 0) package += '\n';
    };
    add("debian-binary", "2.0\n");
    add("control.tar.xz", "not read");
    add(data_name, data);
    return package;
}

}  // namespace banger::images

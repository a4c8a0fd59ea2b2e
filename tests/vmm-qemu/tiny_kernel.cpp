#include "tests/vmm-qemu/tiny_kernel.hpp"

#include <elf.h>
#include <sys/mman.h>

#include <cstdlib>

#include "core/base/file.hpp"

namespace banger::qemu {

namespace {

constexpr std::uint32_t load_address = 0x100000;
constexpr std::size_t code_offset = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
constexpr std::size_t note_offset = code_offset + 512;

template <class T>
void put(std::string& file, std::size_t offset, const T& value) {
    std::memcpy(file.data() + offset, &value, sizeof value);
}

}  // namespace

std::string tiny_kernel(TinyGuest guest, std::string_view greeting) {
    // 0: mov esi, greeting   5: lodsb   6: test al, al   8: jz 17   10: mov dx, 0x3f8
    // 14: out dx, al         15: jmp 5  17: cli; hlt; jmp 17 — or jmp 0
    unsigned char code[21] = {0xbe, 0,    0,    0,    0,    0xac, 0x84, 0xc0, 0x74, 0x07, 0x66,
                              0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf4, 0xfa, 0xf4, 0xeb, 0xfc};
    if (guest == TinyGuest::talks) {
        code[17] = 0xeb;
        code[18] = 0xed;
    }
    const std::uint32_t text_address = load_address + sizeof code;
    std::memcpy(code + 1, &text_address, sizeof text_address);

    struct {
        Elf64_Nhdr header{4, 8, 18};
        char name[4] = {'X', 'e', 'n', 0};
        std::uint64_t entry = load_address;
    } const note;
    std::string file(note_offset + sizeof note, '\0');
    Elf64_Ehdr elf{};
    std::memcpy(elf.e_ident, ELFMAG, SELFMAG);
    elf.e_ident[EI_CLASS] = ELFCLASS64;
    elf.e_ident[EI_DATA] = ELFDATA2LSB;
    elf.e_ident[EI_VERSION] = EV_CURRENT;
    elf.e_type = ET_EXEC;
    elf.e_machine = EM_X86_64;
    elf.e_version = EV_CURRENT;
    elf.e_entry = load_address;
    elf.e_phoff = sizeof elf;
    elf.e_ehsize = sizeof elf;
    elf.e_phentsize = sizeof(Elf64_Phdr);
    elf.e_phnum = 2;
    put(file, 0, elf);
    const Elf64_Phdr load{PT_LOAD,      PF_R | PF_X, code_offset, load_address,
                          load_address, 512,         512,         4096};
    put(file, sizeof elf, load);
    const Elf64_Phdr notes{
        PT_NOTE,     PF_R, note_offset, load_address + 4096, load_address + 4096, sizeof note,
        sizeof note, 4};
    put(file, sizeof elf + sizeof load, notes);
    put(file, code_offset, code);
    std::memcpy(file.data() + code_offset + sizeof code, greeting.data(), greeting.size());
    put(file, note_offset, note);
    return file;
}

UniqueFd tiny_kernel_fd(TinyGuest guest, std::string_view greeting) {
    UniqueFd fd(::memfd_create("tiny-kernel", MFD_CLOEXEC));
    if (!fd || !write_all(fd.get(), tiny_kernel(guest, greeting))) std::abort();
    return fd;
}

}  // namespace banger::qemu

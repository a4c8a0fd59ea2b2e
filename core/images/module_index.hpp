#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "banger/result.hpp"

/// What depmod(8) makes of a folder of modules, made without it: a Debian kernel package brings the
/// modules alone and has depmod run when it is installed, which nobody does on the host.
namespace banger::images {

/// What a module says about itself.
struct ModuleInfo {
    std::string path;                                         ///< relative to lib/modules/VERSION
    std::vector<std::pair<std::string, std::string>> fields;  ///< of its section .modinfo, in order
};

/// `elf` is the unpacked module. Errc::corrupt for anything that is not a 64-bit ELF whose sections
/// lie inside it; a module without .modinfo has no fields. Pure.
Result<ModuleInfo> read_module_info(std::string path, std::string_view elf);

/// The files that modprobe and udev read, by name: modules.dep, .alias, .softdep and .devname as
/// text (modules.dep(5)), and dep, alias, symbols, builtin and builtin.alias as indexes (.bin, the
/// format of libkmod-index.c, version 2.1). Symbols are left out: what a module needs of others is
/// in its `depends`. `modules` come in the order in which they are to be preferred; `builtin` is
/// the content of modules.builtin. The same input gives the same bytes. Errc::corrupt when a module
/// needs one that is not there, or modules need each other in a circle.
Result<std::map<std::string, std::string>> make_module_indexes(std::span<const ModuleInfo> modules,
                                                               std::string_view builtin);

/// Key, value and priority of an index: the lowest comes first.
struct IndexEntry {
    std::string key;
    std::string value;
    std::uint32_t priority = 0;
};
/// The bytes of a .bin file. Keys are at most 4096 bytes of 7-bit ASCII; others are left out, as
/// nobody could ask for them.
std::string make_index(std::vector<IndexEntry> entries);

}  // namespace banger::images

#include "core/images/module_index.hpp"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

#include "core/images/modules.hpp"

namespace banger::images {

namespace {

constexpr std::size_t max_key = 4096;
/// Of modules.dep, and of what modules say about themselves: Debian's largest kernel has 1 MiB.
constexpr std::size_t max_text = 64U << 20;

template <class T>
std::optional<T> value_at(std::string_view bytes, std::uint64_t offset) {
    if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
    T value{};
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

Error damaged(const std::string& path) {
    return {Errc::corrupt, "the module " + path + " is no whole 64-bit ELF"};
}

std::optional<std::string_view> content_of(std::string_view elf, const Elf64_Shdr& section) {
    if (section.sh_type == SHT_NOBITS) return std::string_view();
    if (section.sh_offset > elf.size() || section.sh_size > elf.size() - section.sh_offset)
        return std::nullopt;
    return elf.substr(section.sh_offset, section.sh_size);
}

/// Up to the first NUL.
std::string_view word_at(std::string_view text, std::size_t at) {
    if (at >= text.size()) return {};
    text.remove_prefix(at);
    return text.substr(0, text.find('\0'));
}

// ---- the index file ----------------------------------------------------------------------------

constexpr std::uint32_t index_magic = 0xb007f457;
constexpr std::uint32_t index_version = 0x00020001;
constexpr std::uint32_t has_prefix = 0x80000000;
constexpr std::uint32_t has_values = 0x40000000;
constexpr std::uint32_t has_children = 0x20000000;

void append_number(std::string& bytes, std::uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8)
        bytes += static_cast<char>(value >> shift & 0xff);
}

/// A trie over sorted entries, each node after its children, as the reader expects no other order
/// than what the offsets say.
class IndexWriter {
public:
    explicit IndexWriter(std::span<const IndexEntry> entries) : entries_(entries) {
        append_number(bytes_, index_magic);
        append_number(bytes_, index_version);
        append_number(bytes_, 0);
        const std::uint32_t root = write(0, entries_.size(), 0);
        std::string offset;
        append_number(offset, root);
        bytes_.replace(8, 4, offset);
    }
    std::string bytes() && { return std::move(bytes_); }

private:
    /// Entries [begin, end) agree in their first `depth` characters. The node's offset and flags.
    std::uint32_t write(std::size_t begin, std::size_t end, std::size_t depth) {
        std::string prefix;
        if (begin < end) {
            // Sorted, so the first and the last have the least in common.
            const std::string& first = entries_[begin].key;
            const std::string& last = entries_[end - 1].key;
            std::size_t same = depth;
            while (same < first.size() && same < last.size() && first[same] == last[same])
                ++same;
            prefix = first.substr(depth, same - depth);
            depth = same;
        }
        const std::size_t values = begin;
        while (begin < end && entries_[begin].key.size() == depth)
            ++begin;
        const std::size_t values_end = begin;

        std::vector<std::pair<char, std::uint32_t>> children;
        while (begin < end) {
            const char next = entries_[begin].key[depth];
            std::size_t child_end = begin;
            while (child_end < end && entries_[child_end].key[depth] == next)
                ++child_end;
            children.emplace_back(next, write(begin, child_end, depth + 1));
            begin = child_end;
        }

        std::uint32_t offset = static_cast<std::uint32_t>(bytes_.size());
        if (!prefix.empty()) {
            bytes_ += prefix;
            bytes_ += '\0';
            offset |= has_prefix;
        }
        if (!children.empty()) {
            const char first = children.front().first;
            const char last = children.back().first;
            bytes_ += first;
            bytes_ += last;
            std::size_t child = 0;
            for (int c = first; c <= last; ++c)
                append_number(bytes_, children[child].first == c ? children[child++].second : 0);
            offset |= has_children;
        }
        if (values < values_end) {
            append_number(bytes_, static_cast<std::uint32_t>(values_end - values));
            for (std::size_t i = values; i < values_end; ++i) {
                append_number(bytes_, entries_[i].priority);
                bytes_ += entries_[i].value;
                bytes_ += '\0';
            }
            offset |= has_values;
        }
        return offset;
    }

    std::span<const IndexEntry> entries_;
    std::string bytes_;
};

bool is_key(std::string_view key) {
    return key.size() <= max_key && std::ranges::all_of(key, [](char c) { return c > 0; });
}

// ---- what goes in ------------------------------------------------------------------------------

/// '-' and '_' are the same outside of brackets. Nothing for brackets that do not close.
std::optional<std::string> normal_alias(std::string_view alias) {
    std::string normal;
    bool in_brackets = false;
    for (const char c : alias) {
        if (c == '[') in_brackets = true;
        if (c == ']' && !std::exchange(in_brackets, false)) return std::nullopt;
        if (c == '\n' || c == ' ') return std::nullopt;  // the text is lines of words
        normal += c == '-' && !in_brackets ? '_' : c;
    }
    if (in_brackets) return std::nullopt;
    return normal;
}

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> words;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(separator), text.size());
        if (end > 0) words.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return words;
}

class Dependencies {
public:
    explicit Dependencies(std::span<const ModuleInfo> modules) {
        for (const ModuleInfo& module : modules)
            path_of_.emplace(module_name(module.path), module.path);
        for (const ModuleInfo& module : modules)
            for (const auto& [key, value] : module.fields)
                if (key == "depends")
                    for (std::string& need : split(value, ','))
                        needs_[module_name(module.path)].push_back(module_name(need + ".ko"));
    }

    /// Paths of all that `path` needs, what is needed by others last: modprobe begins at the end.
    Result<std::vector<std::string>> of(const std::string& path) const {
        std::vector<std::string> order;
        std::set<std::string> done;
        std::set<std::string> open;
        // Depth first with a stack of our own: the files are foreign and may make a long chain.
        std::vector<std::pair<std::string, std::size_t>> stack{{module_name(path), 0}};
        open.insert(stack.back().first);
        while (!stack.empty()) {
            const std::string name = stack.back().first;
            const auto needs = needs_.find(name);
            const std::size_t index = stack.back().second++;
            if (needs == needs_.end() || index >= needs->second.size()) {
                stack.pop_back();
                open.erase(name);
                done.insert(name);
                if (!stack.empty()) order.push_back(path_of_.at(name));
                continue;
            }
            const std::string& need = needs->second[index];
            if (done.contains(need)) continue;
            if (!path_of_.contains(need))
                return Error(Errc::corrupt,
                             "the module " + name + " needs " + need + ", which is not there");
            if (!open.insert(need).second)
                return Error(Errc::corrupt, "the modules need each other in a circle: " + need);
            stack.emplace_back(need, 0);
        }
        std::ranges::reverse(order);
        return order;
    }

private:
    std::map<std::string, std::string> path_of_;
    std::map<std::string, std::vector<std::string>> needs_;
};

/// "char-major-10-229" → "c10:229".
std::optional<std::string> device_number(std::string_view alias) {
    std::string number;
    if (alias.starts_with("char-major-"))
        number = "c" + std::string(alias.substr(11));
    else if (alias.starts_with("block-major-"))
        number = "b" + std::string(alias.substr(12));
    else
        return std::nullopt;
    const std::size_t dash = number.find('-');
    if (dash == number.npos || number.find_first_not_of("0123456789", dash + 1) != number.npos)
        return std::nullopt;
    number[dash] = ':';
    return number;
}

std::string devname_line(const ModuleInfo& module) {
    std::string device;
    std::string number;
    for (const auto& [key, value] : module.fields) {
        if (key != "alias") continue;
        if (value.starts_with("devname:")) device = value.substr(8);
        if (const std::optional<std::string> found = device_number(value)) number = *found;
    }
    if (device.empty() || number.empty()) return {};
    return module_name(module.path) + " " + device + " " + number + "\n";
}

}  // namespace

Result<ModuleInfo> read_module_info(std::string path, std::string_view elf) {
    ModuleInfo info{std::move(path), {}};
    const std::optional<Elf64_Ehdr> header = value_at<Elf64_Ehdr>(elf, 0);
    if (!header || !elf.starts_with(ELFMAG) || header->e_ident[EI_CLASS] != ELFCLASS64)
        return damaged(info.path);
    const auto section_at = [&](unsigned index) {
        return header->e_shoff > elf.size()
                   ? std::nullopt
                   : value_at<Elf64_Shdr>(elf, header->e_shoff + index * sizeof(Elf64_Shdr));
    };
    const std::optional<Elf64_Shdr> names_section = section_at(header->e_shstrndx);
    const std::optional<std::string_view> names =
        names_section ? content_of(elf, *names_section) : std::nullopt;
    if (!names) return damaged(info.path);
    for (unsigned index = 0; index < header->e_shnum; ++index) {
        const std::optional<Elf64_Shdr> section = section_at(index);
        if (!section) return damaged(info.path);
        if (word_at(*names, section->sh_name) != ".modinfo") continue;
        const std::optional<std::string_view> content = content_of(elf, *section);
        if (!content) return damaged(info.path);
        for (const std::string& field : split(*content, '\0')) {
            const std::size_t equals = field.find('=');
            if (equals == field.npos || field.find('\n') != field.npos) continue;
            info.fields.emplace_back(field.substr(0, equals), field.substr(equals + 1));
        }
    }
    return info;
}

std::string make_index(std::vector<IndexEntry> entries) {
    std::erase_if(entries, [](const IndexEntry& entry) { return !is_key(entry.key); });
    std::ranges::stable_sort(entries, [](const IndexEntry& a, const IndexEntry& b) {
        return a.key != b.key ? a.key < b.key : a.priority < b.priority;
    });
    return IndexWriter(entries).bytes();
}

Result<std::map<std::string, std::string>> make_module_indexes(std::span<const ModuleInfo> modules,
                                                               std::string_view builtin) {
    std::map<std::string, std::string> files;
    std::vector<IndexEntry> dep;
    std::vector<IndexEntry> alias;
    const Dependencies dependencies(modules);
    std::uint32_t priority = 0;
    for (const ModuleInfo& module : modules) {
        const std::string name = module_name(module.path);
        std::string line = module.path + ":";
        for (const std::string& need : BANGER_TRY(dependencies.of(module.path)))
            line += " " + need;
        files["modules.dep"] += line + "\n";
        if (files["modules.dep"].size() + files["modules.alias"].size() > max_text)
            return Error(Errc::corrupt, "the modules say more about themselves than can be true");
        dep.push_back({name, line, priority});
        for (const auto& [key, value] : module.fields) {
            if (key == "softdep")
                files["modules.softdep"] += "softdep " + name + " " + value + "\n";
            const std::optional<std::string> normal =
                key == "alias" ? normal_alias(value) : std::nullopt;
            if (!normal) continue;
            files["modules.alias"] += "alias " + *normal + " " + name + "\n";
            alias.push_back({*normal, name, priority});
        }
        files["modules.devname"] += devname_line(module);
        ++priority;
    }
    std::vector<IndexEntry> built;
    for (const std::string& path : split(builtin, '\n'))
        built.push_back({module_name(path), "", 0});
    files["modules.dep.bin"] = make_index(std::move(dep));
    files["modules.alias.bin"] = make_index(std::move(alias));
    files["modules.builtin.bin"] = make_index(std::move(built));
    files["modules.builtin.alias.bin"] = make_index({});
    files["modules.symbols.bin"] = make_index({});
    for (const char* name : {"modules.dep", "modules.alias", "modules.softdep", "modules.devname"})
        files.try_emplace(name);
    return files;
}

}  // namespace banger::images

#include "plugins/vmm-firecracker/snapshot_file.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <optional>

#include "core/base/kvm.hpp"
#include "plugins/vmm-firecracker/lines.hpp"

namespace banger::firecracker {

namespace {

constexpr std::string_view magic = "banger firecracker snapshot 1\n";
constexpr std::uint64_t block = 4096;

Error corrupt() {
    return {Errc::corrupt, "that is no snapshot of a Firecracker machine", "Take another one."};
}

std::uint64_t rounded(std::uint64_t size) { return (size + block - 1) / block * block; }

bool is_plain(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

/// The first processor's line of that name.
std::string_view line_of(std::string_view cpuinfo, std::string_view name) {
    const std::size_t at = cpuinfo.find(name);
    if (at == cpuinfo.npos) return {};
    std::string_view line = cpuinfo.substr(at, cpuinfo.find('\n', at) - at);
    line.remove_prefix(std::min(line.size(), line.find(':') + 1));
    while (line.starts_with(' ') || line.starts_with('\t'))
        line.remove_prefix(1);
    return line;
}

}  // namespace

std::uint64_t SnapshotHead::state_offset() const { return snapshot_head_size; }
std::uint64_t SnapshotHead::memory_offset() const { return state_offset() + rounded(state_size); }

Result<std::string> encode(const SnapshotHead& head) {
    std::string text = std::string(magic) + "firecracker " + head.firecracker + "\nhost " +
                       head.host + "\nstate " + std::to_string(head.state_size) + "\nmemory " +
                       std::to_string(head.memory_size) + "\nconfig " +
                       std::to_string(head.config.size()) + "\n" + head.config;
    if (text.size() > snapshot_head_size)
        return Error(Errc::invalid_argument, "the machine's configuration is too long to save",
                     "Report it: banger should not make that.");
    text.resize(snapshot_head_size, '\0');
    return text;
}

Result<SnapshotHead> decode_snapshot_head(std::string_view bytes) {
    if (bytes.size() != snapshot_head_size || !bytes.starts_with(magic)) return corrupt();
    bytes.remove_prefix(magic.size());
    const auto firecracker = take(bytes, "firecracker");
    const auto host = take(bytes, "host");
    const auto state = take_number<std::uint64_t>(bytes, "state", largest_snapshot_state);
    const auto memory = take_number<std::uint64_t>(bytes, "memory", largest_snapshot_memory);
    const auto config = take_number<std::uint64_t>(bytes, "config", bytes.size());
    if (!firecracker || !is_plain(*firecracker) || !host || !is_plain(*host) || !state || !memory ||
        !config || *config > bytes.size())
        return corrupt();
    const std::string_view padding = bytes.substr(*config);
    if (padding.find_first_not_of('\0') != padding.npos) return corrupt();
    return SnapshotHead{std::string(*firecracker), std::string(*host),
                        std::string(bytes.substr(0, *config)), *state, *memory};
}

std::string host_words(std::string_view cpuinfo, std::string_view kernel_release) {
    std::string words;
    for (const std::string_view name : {"vendor_id", "model name", "stepping", "microcode"})
        words += std::string(line_of(cpuinfo, name)) + ", ";
    words += "Linux " + std::string(kernel_release);
    std::ranges::replace_if(
        words, [](char c) { return c < ' ' || c > '~'; }, '?');
    return words;
}

std::string host_of_snapshots() {
    utsname names{};
    (void)::uname(&names);
    return host_words(cpuinfo_of_host(), names.release);
}

}  // namespace banger::firecracker

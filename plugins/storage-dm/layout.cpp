#include "plugins/storage-dm/layout.hpp"

#include <charconv>
#include <map>

namespace banger::dm {

namespace {

constexpr std::string_view uuid_prefix = "BANGER-";

std::uint64_t sectors(ByteCount size) { return size.count() / sector_size; }

Error damaged(const std::string& what) {
    return {Errc::corrupt, "the record of a disk is damaged: " + what,
            "Delete the machine and create it again."};
}

/// "1/2 3": allocated, total, of them metadata.
bool is_fill_level(std::string_view text) {
    return !text.empty() && text.find('/') != std::string_view::npos &&
           text.find_first_not_of("0123456789/ ") == std::string_view::npos;
}

std::uint64_t rounded_up(std::uint64_t value, std::uint64_t unit) {
    return (value + unit - 1) / unit;
}

}  // namespace

std::string DeviceNumber::text() const {
    return std::to_string(major) + ":" + std::to_string(minor);
}

std::string encode(const DiskRecord& record) {
    std::string text = "banger-disk 1\n";
    const auto line = [&text](std::string_view name, std::uint64_t value) {
        text.append(name).append(" ").append(std::to_string(value)).append("\n");
    };
    line("size", record.size.count());
    line("base-size", record.base_size.count());
    line("base-changed", record.base_changed);
    line("owner", record.owner_uid);
    line("chunk", record.chunk_sectors);
    return text;
}

Result<DiskRecord> decode(std::string_view text) {
    std::map<std::string, std::uint64_t, std::less<>> numbers;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        if (end == std::string_view::npos) return damaged("it ends in the middle of a line");
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(end + 1);
        const std::size_t space = line.find(' ');
        if (space == std::string_view::npos) return damaged("a line without a value");
        std::uint64_t value = 0;
        const char* const last = line.data() + line.size();
        const auto [stop, error] = std::from_chars(line.data() + space + 1, last, value);
        if (error != std::errc() || stop != last) return damaged("a value that is no number");
        if (!numbers.emplace(line.substr(0, space), value).second) return damaged("a line twice");
    }
    DiskRecord record;
    const auto take = [&numbers](std::string_view name, std::uint64_t max) {
        const auto found = numbers.find(name);
        if (found == numbers.end() || found->second > max) return std::optional<std::uint64_t>();
        const std::uint64_t value = found->second;
        numbers.erase(found);
        return std::optional(value);
    };
    const auto version = take("banger-disk", 1);
    const auto size = take("size", max_size.count());
    const auto base_size = take("base-size", max_size.count());
    const auto base_changed = take("base-changed", UINT64_MAX);
    const auto owner = take("owner", UINT32_MAX);
    const auto chunk = take("chunk", 2048);
    if (version != 1 || !size || !base_size || !base_changed || !owner || !chunk ||
        !numbers.empty())
        return damaged("it does not have the lines it should");
    record.size = ByteCount::bytes(*size);
    record.base_size = ByteCount::bytes(*base_size);
    record.base_changed = *base_changed;
    record.owner_uid = static_cast<std::uint32_t>(*owner);
    record.chunk_sectors = static_cast<std::uint32_t>(*chunk);
    // What the kernel asks of a chunk: a power of two, at least a page (dm-exception-store.c).
    const bool is_chunk = *chunk >= 8 && (*chunk & (*chunk - 1)) == 0;
    if (!is_chunk || !check_size(record.size) || record.base_size > record.size ||
        *base_size % granularity != 0)
        return damaged("its sizes do not fit together");
    return record;
}

Result<void> check_size(ByteCount size) {
    if (size.count() == 0 || size.count() % granularity != 0)
        return Error(Errc::invalid_argument, "a disk cannot have " + size.text(),
                     "Give its size in whole MiB.");
    if (size > max_size)
        return Error(Errc::invalid_argument, "a disk of " + size.text() + " is too large",
                     "Ask for at most " + max_size.text() + ".");
    return ok();
}

std::uint64_t store_size(ByteCount base_size, std::uint32_t chunk_sectors) {
    // A header, then areas: one chunk of 16-byte entries before as many chunks as it has entries
    // (dm-snap-persistent.c). The next area is made when one is full, so there is one more.
    const std::uint64_t chunk = chunk_sectors * sector_size;
    const std::uint64_t chunks = rounded_up(base_size.count(), chunk);
    const std::uint64_t areas = rounded_up(chunks, chunk / 16) + 1;
    return (1 + chunks + areas) * chunk + margin;
}

std::uint64_t data_file_size(ByteCount data_size) { return margin + data_size.count() + margin; }

std::vector<Target> table_of(const DiskRecord& record, const Parts& parts) {
    std::vector<Target> table;
    if (record.base_size.count() != 0)
        table.push_back({0, sectors(record.base_size), "snapshot",
                         parts.base.text() + " " + parts.store.text() + " PO " +
                             std::to_string(record.chunk_sectors)});
    if (record.data_size().count() != 0)
        table.push_back({sectors(record.base_size), sectors(record.data_size()), "linear",
                         parts.data.text() + " " + std::to_string(margin / sector_size)});
    return table;
}

Result<SnapshotState> parse_snapshot_status(std::string_view text) {
    if (is_fill_level(text)) return SnapshotState::good;
    if (text == "Overflow") return SnapshotState::full;
    if (text == "Invalid" || text == "Merge failed" || text == "Unknown")
        return SnapshotState::broken;
    return Error(Errc::corrupt, "device-mapper says something unknown of a snapshot",
                 "Report this.");
}

std::string key_of(const VmId& vm, VolumeRole role) {
    return vm.str() + "-" + std::string(to_string(role));
}

std::string name_of(const VmId& vm, VolumeRole role, std::uint32_t owner_uid) {
    return "banger-" + std::to_string(owner_uid) + "-" + key_of(vm, role);
}

std::string uuid_of(const VmId& vm, VolumeRole role, std::uint32_t owner_uid) {
    return std::string(uuid_prefix) + std::to_string(owner_uid) + "-" + key_of(vm, role);
}

std::optional<Identity> parse_identity(std::string_view key, std::string_view uuid) {
    const std::size_t dash = key.find('-');
    if (dash == std::string_view::npos) return std::nullopt;
    const Result<VmId> vm = VmId::parse(key.substr(0, dash));
    const std::optional<VolumeRole> role = parse_volume_role(key.substr(dash + 1));
    if (!vm || !role || !uuid.starts_with(uuid_prefix)) return std::nullopt;
    std::uint32_t owner = 0;
    (void)std::from_chars(uuid.data() + uuid_prefix.size(), uuid.data() + uuid.size(), owner);
    if (uuid_of(*vm, *role, owner) != uuid) return std::nullopt;
    return Identity{*vm, *role, std::string(uuid)};
}

}  // namespace banger::dm

#include "core/images/tar_reader.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

namespace banger::images {
namespace {

constexpr std::size_t block = 512;
constexpr std::uint64_t max_extension = std::uint64_t{4} << 20;
constexpr std::size_t max_runs = 500'000;
constexpr std::uint64_t max_size = std::numeric_limits<std::int64_t>::max();

Error damaged(std::string what) {
    return Error(Errc::corrupt, "the tar stream is damaged: " + std::move(what), "Fetch it again.");
}

Error ends_early() { return damaged("it ends early"); }

std::uint64_t padding_of(std::uint64_t size) { return (block - size % block) % block; }

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
    Number number = 0;
    const std::from_chars_result end =
        std::from_chars(text.data(), text.data() + text.size(), number);
    if (end.ec != std::errc{} || end.ptr != text.data() + text.size()) return std::nullopt;
    return number;
}

Result<std::uint64_t> parse_unsigned(std::string_view text, std::string_view what,
                                     std::uint64_t limit = max_size) {
    const std::optional<std::uint64_t> number = parse_number<std::uint64_t>(text);
    if (!number || *number > limit) return damaged("impossible " + std::string(what));
    return *number;
}

/// "1700000000.123456789", "-1.5"; further digits are cut off.
Result<TarTime> parse_time(std::string_view text) {
    const std::size_t point = text.find('.');
    const std::string_view whole = text.substr(0, point);
    const std::optional<std::int64_t> seconds = parse_number<std::int64_t>(whole);
    if (!seconds) return damaged("impossible time");
    TarTime time{.seconds = *seconds, .nanoseconds = 0};
    if (point == std::string_view::npos) return time;
    std::string digits(text.substr(point + 1, 9));
    if (digits.find_first_not_of("0123456789") != std::string::npos)
        return damaged("impossible time");
    digits.resize(9, '0');
    time.nanoseconds = parse_number<std::uint32_t>(digits).value_or(0);
    if (whole.starts_with('-') && time.nanoseconds > 0 &&
        time.seconds > std::numeric_limits<std::int64_t>::min()) {
        time.seconds -= 1;
        time.nanoseconds = 1'000'000'000 - time.nanoseconds;
    }
    return time;
}

/// Removes and returns everything up to the first `mark`.
std::string_view take_until(std::string_view& text, char mark) {
    const std::size_t at = text.find(mark);
    const std::string_view head = text.substr(0, at);
    text = at == std::string_view::npos ? std::string_view{} : text.substr(at + 1);
    return head;
}

template <class Number>
void append_little_endian(std::string& out, Number number) {
    for (std::size_t i = 0; i < sizeof(Number); ++i)
        out.push_back(static_cast<char>(static_cast<std::uint64_t>(number) >> (8 * i)));
}

}  // namespace

Result<std::string> acl_attribute_from_text(std::string_view text) {
    struct Item {
        std::uint16_t tag, permissions;
        std::uint32_t id;
    };
    std::vector<Item> items;
    while (!text.empty()) {
        const std::size_t comma = text.find_first_of(",\n");
        std::string_view item = text.substr(0, comma);
        text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
        if (item.empty()) continue;
        const std::string_view kind = take_until(item, ':');
        const std::string_view who = take_until(item, ':');
        const std::string_view permissions = take_until(item, ':');
        const std::string_view number = item.empty() ? who : item;

        Item parsed{.tag = 0, .permissions = 0, .id = 0xffffffff};
        if (kind == "user" || kind == "u") parsed.tag = who.empty() ? 0x01 : 0x02;
        if (kind == "group" || kind == "g") parsed.tag = who.empty() ? 0x04 : 0x08;
        if (kind == "mask" || kind == "m") parsed.tag = 0x10;
        if (kind == "other" || kind == "o") parsed.tag = 0x20;
        if (parsed.tag == 0) return damaged("an access list names no one");
        if (parsed.tag == 0x02 || parsed.tag == 0x08)
            parsed.id = static_cast<std::uint32_t>(
                BANGER_TRY(parse_unsigned(number, "id in an access list", 0xfffffffe)));
        for (const char c : permissions) {
            if (c == 'r') parsed.permissions |= 4;
            if (c == 'w') parsed.permissions |= 2;
            if (c == 'x') parsed.permissions |= 1;
            if (std::strchr("rwx-", c) == nullptr || c == '\0')
                return damaged("an access list has an unknown permission");
        }
        items.push_back(parsed);
    }
    // The kernel refuses a list that is not in order of tag and id.
    std::ranges::sort(items, {}, [](const Item& i) { return std::pair(i.tag, i.id); });
    std::string value;
    append_little_endian(value, std::uint32_t{2});
    for (const Item& item : items) {
        append_little_endian(value, item.tag);
        append_little_endian(value, item.permissions);
        append_little_endian(value, item.id);
    }
    return value;
}

/// The 512 bytes before an entry, as POSIX and GNU lay them out.
struct TarReader::Header {
    std::array<char, block> bytes{};

    [[nodiscard]] std::string_view raw(std::size_t offset, std::size_t length) const {
        return std::string_view(bytes.data(), bytes.size()).substr(offset, length);
    }
    /// Up to the first NUL.
    [[nodiscard]] std::string_view text(std::size_t offset, std::size_t length) const {
        const std::string_view field = raw(offset, length);
        return field.substr(0, field.find('\0'));
    }
    [[nodiscard]] char type() const { return bytes[156]; }
    [[nodiscard]] bool is_posix() const { return raw(257, 6) == std::string_view("ustar\0", 6); }
    [[nodiscard]] bool is_gnu() const { return raw(257, 8) == std::string_view("ustar  \0", 8); }
    [[nodiscard]] bool is_zero() const {
        return std::ranges::all_of(bytes, [](char c) { return c == 0; });
    }

    /// Octal with blanks around it, or base 256 in two's complement (GNU).
    [[nodiscard]] Result<std::int64_t> number(std::size_t offset, std::size_t length,
                                              std::string_view what) const {
        const std::string_view field = raw(offset, length);
        const unsigned char first = static_cast<unsigned char>(field[0]);
        if (first & 0x80) return base_256(field, what);
        std::uint64_t value = 0;
        std::size_t i = field.find_first_not_of(' ');
        for (; i < field.size() && field[i] >= '0' && field[i] <= '7'; ++i) {
            if (value > max_size >> 3) return damaged("impossible " + std::string(what));
            value = value << 3 | static_cast<std::uint64_t>(field[i] - '0');
        }
        if (i < field.size() && field[i] != ' ' && field[i] != '\0')
            return damaged("impossible " + std::string(what));
        return static_cast<std::int64_t>(value);
    }

    [[nodiscard]] Result<std::uint64_t> count(std::size_t offset, std::size_t length,
                                              std::string_view what,
                                              std::uint64_t limit = max_size) const {
        const std::int64_t value = BANGER_TRY(number(offset, length, what));
        if (value < 0 || static_cast<std::uint64_t>(value) > limit)
            return damaged("impossible " + std::string(what));
        return static_cast<std::uint64_t>(value);
    }

    [[nodiscard]] bool has_right_checksum() const {
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
        return true;  // no mutation would get past it
#endif
        std::int64_t of_unsigned = 8 * ' ';
        std::int64_t of_signed = 8 * ' ';
        for (std::size_t i = 0; i < block; ++i) {
            if (i >= 148 && i < 156) continue;
            of_unsigned += static_cast<unsigned char>(bytes[i]);
            of_signed += static_cast<signed char>(bytes[i]);
        }
        const Result<std::int64_t> stated = number(148, 8, "checksum");
        return stated && (*stated == of_unsigned || *stated == of_signed);
    }

private:
    static Result<std::int64_t> base_256(std::string_view field, std::string_view what) {
        const bool negative = static_cast<unsigned char>(field[0]) & 0x40;
        std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
        for (std::size_t i = 0; i < field.size(); ++i) {
            const std::uint64_t sign_bits = value >> 55;
            if (sign_bits != (negative ? 0x1ff : 0))
                return damaged("impossible " + std::string(what));
            unsigned char octet = static_cast<unsigned char>(field[i]);
            if (i == 0) octet = static_cast<unsigned char>(negative ? octet | 0x80 : octet & 0x3f);
            value = value << 8 | octet;
        }
        return static_cast<std::int64_t>(value);
    }
};

TarReader::TarReader(LayerStream& stream, bool needs_end_mark)
    : stream_(stream), needs_end_mark_(needs_end_mark), global_allowance_(max_extension) {}

Result<void> TarReader::skip(std::uint64_t count) {
    while (count > 0) {
        const std::span<const std::byte> bytes = BANGER_TRY(stream_.peek(1));
        if (bytes.empty()) return ends_early();
        const std::size_t taken =
            static_cast<std::size_t>(std::min<std::uint64_t>(count, bytes.size()));
        stream_.consume(taken);
        count -= taken;
    }
    return ok();
}

Result<void> TarReader::drain() {
    while (true) {
        const std::span<const std::byte> bytes = BANGER_TRY(stream_.peek(1));
        if (bytes.empty()) return ok();
        stream_.consume(bytes.size());
    }
}

Result<std::string> TarReader::read_text(std::uint64_t size, std::uint64_t& allowance) {
    if (size > allowance) return damaged("extended headers are over 4 MiB");
    allowance -= size;
    std::string text;
    text.reserve(static_cast<std::size_t>(size));
    while (text.size() < size) {
        const std::span<const std::byte> bytes = BANGER_TRY(stream_.peek(1));
        if (bytes.empty()) return ends_early();
        const std::size_t taken =
            std::min(bytes.size(), static_cast<std::size_t>(size) - text.size());
        text.append(reinterpret_cast<const char*>(bytes.data()), taken);
        stream_.consume(taken);
    }
    BANGER_TRY(skip(padding_of(size)));
    return text;
}

/// Records are "LENGTH KEY=VALUE\n", where LENGTH counts all of it.
Result<void> TarReader::read_records(std::uint64_t size, Records& into, std::uint64_t& allowance) {
    const std::string all = BANGER_TRY(read_text(size, allowance));
    std::string_view rest = all;
    std::size_t runs = 0;
    while (!rest.empty()) {
        const std::size_t space = rest.find(' ');
        if (space == std::string_view::npos) return damaged("bad extended header");
        const std::uint64_t length =
            BANGER_TRY(parse_unsigned(rest.substr(0, space), "length of a record", rest.size()));
        if (length < space + 3 || rest[length - 1] != '\n') return damaged("bad extended header");
        std::string_view value = rest.substr(space + 1, length - space - 2);
        rest = rest.substr(length);
        const std::size_t equals = value.find('=');
        if (equals == std::string_view::npos || equals == 0) return damaged("bad extended header");
        const std::string_view key = value.substr(0, equals);
        value = value.substr(equals + 1);
        // GNU sparse format 0.0 says its map as pairs of records of the same names.
        if (key == "GNU.sparse.offset" || key == "GNU.sparse.numbytes") {
            if (++runs > 2 * max_runs) return damaged("a file has too many holes");
            std::string& map = into["GNU.sparse.map"];
            if (!map.empty()) map += ',';
            map += value;
            continue;
        }
        into.insert_or_assign(std::string(key), std::string(value));
    }
    return ok();
}

/// Reads headers up to and with that of an entry proper. False at the end mark.
Result<bool> TarReader::next_header(Header& header, bool may_end) {
    std::span<const std::byte> bytes = BANGER_TRY(stream_.peek(block));
    if (bytes.empty() && may_end) return false;
    if (bytes.size() < block) return ends_early();
    std::memcpy(header.bytes.data(), bytes.data(), block);
    stream_.consume(block);
    if (!header.is_zero()) {
        if (!header.has_right_checksum()) return damaged("a header has a wrong checksum");
        return true;
    }
    // The end mark is two blocks of zeros; some writers leave out the second.
    bytes = BANGER_TRY(stream_.peek(block));
    const std::size_t seen = std::min(bytes.size(), block);
    if (std::ranges::any_of(bytes.first(seen), [](std::byte b) { return b != std::byte{0}; }))
        return damaged("there is data after an end mark");
    BANGER_TRY(drain());
    return false;
}

Result<bool> TarReader::next(TarEntry& entry) {
    BANGER_TRY(skip(left_ + padding_));
    left_ = padding_ = 0;
    Records own;
    std::uint64_t allowance = max_extension;
    long_name_.reset();
    long_link_.reset();
    for (bool is_between_entries = true;; is_between_entries = false) {
        Header header;
        const bool may_end = is_between_entries && !needs_end_mark_;
        if (!BANGER_TRY(next_header(header, may_end))) return false;
        const std::uint64_t size = BANGER_TRY(header.count(124, 12, "size"));
        switch (header.type()) {
            case 'x':
            case 'X':
                BANGER_TRY(read_records(size, own, allowance));
                continue;
            case 'g':
                BANGER_TRY(read_records(size, global_, global_allowance_));
                continue;
            case 'L':
                long_name_ = BANGER_TRY(read_text(size, allowance));
                continue;
            case 'K':
                long_link_ = BANGER_TRY(read_text(size, allowance));
                continue;
            case 'V':  // a volume's label
                BANGER_TRY(skip(size + padding_of(size)));
                continue;
            default:
                BANGER_TRY(fill(header, own, entry));
                return true;
        }
    }
}

Result<void> TarReader::fill(const Header& header, const Records& own, TarEntry& entry) {
    entry = TarEntry{};
    entry.path = header.text(0, 100);
    if (header.is_posix() && !header.text(345, 155).empty())
        entry.path = std::string(header.text(345, 155)) + '/' + entry.path;
    entry.link_target = header.text(157, 100);
    if (long_name_) entry.path = long_name_->substr(0, long_name_->find('\0'));
    if (long_link_) entry.link_target = long_link_->substr(0, long_link_->find('\0'));

    constexpr std::uint64_t max_id = std::numeric_limits<std::uint32_t>::max();
    entry.mode = static_cast<std::uint32_t>(BANGER_TRY(header.number(100, 8, "mode"))) & 07777;
    // A PAX record replaces what would not fit here: only then may the field be nonsense.
    const auto id = [&](std::size_t offset, std::string_view key,
                        std::string_view what) -> Result<std::uint32_t> {
        if (own.contains(key) || global_.contains(key)) return std::uint32_t{0};
        return static_cast<std::uint32_t>(BANGER_TRY(header.count(offset, 8, what, max_id)));
    };
    entry.uid = BANGER_TRY(id(108, "uid", "owner"));
    entry.gid = BANGER_TRY(id(116, "gid", "group"));
    entry.modified.seconds = BANGER_TRY(header.number(136, 12, "time"));
    std::uint64_t stored = BANGER_TRY(header.count(124, 12, "size"));

    switch (header.type()) {
        case '0':
        case '\0':
        case '7':
        case 'S':
            entry.type = TarEntry::Type::file;
            break;
        case '1':
            entry.type = TarEntry::Type::hard_link;
            break;
        case '2':
            entry.type = TarEntry::Type::symlink;
            break;
        case '3':
            entry.type = TarEntry::Type::character_device;
            break;
        case '4':
            entry.type = TarEntry::Type::block_device;
            break;
        case '5':
        case 'D':
            entry.type = TarEntry::Type::folder;
            break;
        case '6':
            entry.type = TarEntry::Type::fifo;
            break;
        default:
            return damaged("an entry is of an unknown type");
    }
    if (header.type() == '3' || header.type() == '4') {
        entry.device_major =
            static_cast<std::uint32_t>(BANGER_TRY(header.count(329, 8, "device number", 0xfff)));
        entry.device_minor =
            static_cast<std::uint32_t>(BANGER_TRY(header.count(337, 8, "device number", 0xfffff)));
    }
    BANGER_TRY(apply_records(global_, entry, stored));
    BANGER_TRY(apply_records(own, entry, stored));
    // Before POSIX a folder was a file whose name ends so.
    if (header.type() == '\0' && entry.path.ends_with('/')) entry.type = TarEntry::Type::folder;
    if (entry.path.find('\0') != std::string::npos ||
        entry.link_target.find('\0') != std::string::npos)
        return damaged("a name has a zero byte");

    // Others than files have no data, whatever their size says; only GNU's dump folders do.
    if (entry.type != TarEntry::Type::file && header.type() != 'D') stored = 0;
    return find_runs(header, own, stored, entry);
}

Result<void> TarReader::apply_records(const Records& records, TarEntry& entry,
                                      std::uint64_t& stored) {
    constexpr std::uint64_t max_id = std::numeric_limits<std::uint32_t>::max();
    constexpr std::string_view attribute_prefix = "SCHILY.xattr.";
    for (const auto& [key, value] : records) {
        if (key.starts_with(attribute_prefix) && key.size() > attribute_prefix.size()) {
            entry.attributes.insert_or_assign(key.substr(attribute_prefix.size()), value);
            continue;
        }
        if (value.empty()) continue;  // "as if there were no such record"
        if (key == "path" || key == "GNU.sparse.name") {
            // GNU gives a sparse file a made-up path for readers that do not know about holes.
            if (key == "path" && records.contains("GNU.sparse.name")) continue;
            entry.path = value;
        } else if (key == "linkpath") {
            entry.link_target = value;
        } else if (key == "size") {
            stored = BANGER_TRY(parse_unsigned(value, "size"));
        } else if (key == "uid") {
            entry.uid = static_cast<std::uint32_t>(BANGER_TRY(parse_unsigned(value, key, max_id)));
        } else if (key == "gid") {
            entry.gid = static_cast<std::uint32_t>(BANGER_TRY(parse_unsigned(value, key, max_id)));
        } else if (key == "mtime") {
            entry.modified = BANGER_TRY(parse_time(value));
        } else if (key == "SCHILY.devmajor") {
            entry.device_major =
                static_cast<std::uint32_t>(BANGER_TRY(parse_unsigned(value, "device", 0xfff)));
        } else if (key == "SCHILY.devminor") {
            entry.device_minor =
                static_cast<std::uint32_t>(BANGER_TRY(parse_unsigned(value, "device", 0xfffff)));
        } else if (key == "SCHILY.acl.access") {
            entry.attributes.insert_or_assign("system.posix_acl_access",
                                              BANGER_TRY(acl_attribute_from_text(value)));
        } else if (key == "SCHILY.acl.default") {
            entry.attributes.insert_or_assign("system.posix_acl_default",
                                              BANGER_TRY(acl_attribute_from_text(value)));
        }
    }
    return ok();
}

Result<void> TarReader::find_runs(const Header& header, const Records& own, std::uint64_t stored,
                                  TarEntry& entry) {
    const auto record = [&](std::string_view key) -> std::string_view {
        const Records::const_iterator found = own.find(key);
        return found == own.end() ? std::string_view{} : std::string_view(found->second);
    };
    runs_.clear();
    const std::uint64_t in_archive = stored;
    entry.size = stored;
    if (header.type() == 'S' && header.is_gnu()) {
        BANGER_TRY(read_gnu_map(header, entry));
    } else if (record("GNU.sparse.major") == "1" && record("GNU.sparse.minor") == "0") {
        entry.size = BANGER_TRY(parse_unsigned(record("GNU.sparse.realsize"), "size"));
        BANGER_TRY(read_pax_map(stored));
    } else if (!record("GNU.sparse.map").empty()) {
        const std::string_view size = record("GNU.sparse.size");
        entry.size =
            BANGER_TRY(parse_unsigned(size.empty() ? record("GNU.sparse.realsize") : size, "size"));
        for (std::string_view map = record("GNU.sparse.map"); !map.empty();) {
            const std::uint64_t offset =
                BANGER_TRY(parse_unsigned(take_until(map, ','), "map of holes"));
            const std::uint64_t length =
                BANGER_TRY(parse_unsigned(take_until(map, ','), "map of holes"));
            BANGER_TRY(add_run(offset, length));
        }
    } else if (entry.type == TarEntry::Type::file) {
        BANGER_TRY(add_run(0, stored));
    }

    std::uint64_t end = 0;
    std::uint64_t total = 0;
    for (const DataRun& run : runs_) {
        if (run.offset < end || run.length > entry.size || run.offset > entry.size - run.length)
            return damaged("a file's map of holes is impossible");
        end = run.offset + run.length;
        total += run.length;
    }
    if (entry.type == TarEntry::Type::file && total != stored)
        return damaged("a file's map of holes does not fit its data");
    run_ = 0;
    run_done_ = 0;
    left_ = stored;
    padding_ = padding_of(in_archive);
    return ok();
}

Result<void> TarReader::add_run(std::uint64_t offset, std::uint64_t length) {
    if (runs_.size() >= max_runs) return damaged("a file has too many holes");
    if (length > 0) runs_.push_back({.offset = offset, .length = length});
    return ok();
}

/// Old GNU format: four runs in the header, then 21 in each block that says there is one more.
Result<void> TarReader::read_gnu_map(const Header& header, TarEntry& entry) {
    entry.size = BANGER_TRY(header.count(483, 12, "size"));
    Header current = header;
    std::size_t at = 386;
    std::size_t count = 4;
    while (true) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t field = at + i * 24;
            if (current.bytes[field] == '\0') break;
            const DataRun run{.offset = BANGER_TRY(current.count(field, 12, "map of holes")),
                              .length = BANGER_TRY(current.count(field + 12, 12, "map of holes"))};
            BANGER_TRY(add_run(run.offset, run.length));
        }
        if (current.bytes[at + count * 24] == '\0') return ok();
        const std::span<const std::byte> bytes = BANGER_TRY(stream_.peek(block));
        if (bytes.size() < block) return ends_early();
        std::memcpy(current.bytes.data(), bytes.data(), block);
        stream_.consume(block);
        at = 0;
        count = 21;
    }
}

/// GNU sparse format 1.0: the data begins with decimal lines (count, then offset and length of each
/// run), padded to a block.
Result<void> TarReader::read_pax_map(std::uint64_t& stored) {
    std::uint64_t used = 0;
    const auto line = [&]() -> Result<std::uint64_t> {
        std::string digits;
        while (true) {
            const std::span<const std::byte> bytes = BANGER_TRY(stream_.peek(1));
            if (bytes.empty()) return ends_early();
            if (used >= stored || digits.size() > 20) return damaged("bad map of holes");
            const char c = static_cast<char>(bytes[0]);
            stream_.consume(1);
            ++used;
            if (c == '\n') return parse_unsigned(digits, "map of holes");
            digits.push_back(c);
        }
    };
    const std::uint64_t count = BANGER_TRY(line());
    if (count > max_runs) return damaged("a file has too many holes");
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t offset = BANGER_TRY(line());
        const std::uint64_t length = BANGER_TRY(line());
        BANGER_TRY(add_run(offset, length));
    }
    const std::uint64_t padding = padding_of(used);
    if (used + padding > stored) return damaged("bad map of holes");
    BANGER_TRY(skip(padding));
    stored -= used + padding;
    return ok();
}

Result<TarData> TarReader::read() {
    if (left_ == 0 || run_ == runs_.size()) return TarData{};
    const DataRun& run = runs_[run_];
    const std::span<const std::byte> bytes = BANGER_TRY(stream_.peek(1));
    if (bytes.empty()) return ends_early();
    const std::uint64_t left_in_run = run.length - run_done_;
    const std::size_t taken =
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), left_in_run));
    const TarData data{
        .offset = run.offset + run_done_, .bytes = bytes.first(taken), .left_in_run = left_in_run};
    stream_.consume(taken);
    left_ -= taken;
    run_done_ += taken;
    if (run_done_ == run.length) {
        ++run_;
        run_done_ = 0;
    }
    return data;
}

}  // namespace banger::images

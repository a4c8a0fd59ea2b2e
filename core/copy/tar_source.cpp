#include "core/copy/tar_source.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

namespace banger::copy {

namespace {

constexpr std::uint64_t block_size = 512;
constexpr std::uint64_t max_text = std::uint64_t{1} << 20;
/// After the end mark, for the last record of a blocked writer.
constexpr std::uint64_t max_rest = std::uint64_t{1} << 20;

Error corrupt(const std::string& why) {
    return {Errc::corrupt, "the guest sent no proper tar stream: " + why,
            "Look at the tar of the guest."};
}

/// All of it, or 0 at the end of the stream.
Result<std::size_t> read_full(int fd, char* buffer, std::size_t size) {
    std::size_t done = 0;
    while (done < size) {
        const ssize_t count = ::read(fd, buffer + done, size - done);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "reading from the guest");
        if (count == 0) break;
        done += static_cast<std::size_t>(count);
    }
    return done;
}

/// Octal digits between blanks, or, with the high bit set, big-endian binary (GNU tar manual,
/// "Basic Tar Format"). Nothing for what is neither, is negative, or needs 63 bits or more.
std::optional<std::uint64_t> number(std::string_view field) {
    constexpr std::uint64_t most = std::uint64_t{1} << 62;
    std::uint64_t value = 0;
    if ((static_cast<unsigned char>(field[0]) & 0x80) != 0) {
        for (std::size_t i = 0; i < field.size(); ++i) {
            const auto byte = static_cast<unsigned char>(field[i]);
            if (value >= most >> 8) return std::nullopt;
            value = value << 8 | (i == 0 ? byte & 0x7fU : byte);
        }
        return value;
    }
    std::size_t at = 0;
    while (at < field.size() && field[at] == ' ')
        ++at;
    for (; at < field.size() && field[at] != ' ' && field[at] != '\0'; ++at) {
        if (field[at] < '0' || field[at] > '7' || value >= most >> 3) return std::nullopt;
        value = value << 3 | static_cast<std::uint64_t>(field[at] - '0');
    }
    for (; at < field.size(); ++at)
        if (field[at] != ' ' && field[at] != '\0') return std::nullopt;
    return value;
}

std::string text(std::string_view field) { return std::string(field.substr(0, field.find('\0'))); }

struct Records {
    std::optional<std::string> path;
    std::optional<std::string> link_path;
    std::optional<std::uint64_t> size;
};

/// "LENGTH KEY=VALUE\n", one after the other (POSIX.1-2017 pax).
Result<void> read_records(std::string_view all, Records& records) {
    while (!all.empty()) {
        const std::size_t space = all.find(' ');
        std::size_t length = 0;
        const char* const end = all.data() + std::min(space, all.size());
        const auto [at, error] = std::from_chars(all.data(), end, length);
        if (space == all.npos || error != std::errc() || at != end || length <= space + 1 ||
            length > all.size() || all[length - 1] != '\n')
            return corrupt("a damaged extended header");
        const std::string_view record = all.substr(space + 1, length - space - 2);
        all.remove_prefix(length);
        const std::size_t equals = record.find('=');
        if (equals == record.npos) return corrupt("a damaged extended header");
        const std::string_view key = record.substr(0, equals);
        const std::string_view value = record.substr(equals + 1);
        if (key.starts_with("GNU.sparse")) return corrupt("a sparse file");
        if (value.find('\0') != value.npos) return corrupt("a name with a NUL");
        if (key == "path") records.path = value;
        if (key == "linkpath") records.link_path = value;
        if (key == "size") {
            std::uint64_t size = 0;
            const char* const last = value.data() + value.size();
            const auto [stop, bad] = std::from_chars(value.data(), last, size);
            if (bad != std::errc() || stop != last || size >> 62 != 0)
                return corrupt("a size that is none");
            records.size = size;
        }
    }
    return ok();
}

Entry::Type type_of(char flag) {
    switch (flag) {
        case '0':
        case '\0':
        case '7':
            return Entry::Type::file;
        case '1':
            return Entry::Type::hard_link;
        case '2':
            return Entry::Type::symlink;
        case '5':
            return Entry::Type::folder;
        default:
            return Entry::Type::other;
    }
}

bool has_right_sum([[maybe_unused]] const std::array<char, block_size>& block) {
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    return true;
#else
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < block.size(); ++i)
        sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(block[i]);
    return number({block.data() + 148, 8}) == sum;
#endif
}

}  // namespace

Result<bool> TarSource::read_block(Block& block) {
    const std::size_t count = BANGER_TRY(read_full(fd_, block.data(), block.size()));
    if (count != 0 && count != block.size()) return corrupt("it ends in the middle");
    return count != 0;
}

Result<std::string> TarSource::read_text(std::uint64_t size) {
    if (size > max_text) return corrupt("an extended header of more than 1 MiB");
    const std::uint64_t padded = (size + block_size - 1) / block_size * block_size;
    std::string out(padded, '\0');
    if (BANGER_TRY(read_full(fd_, out.data(), out.size())) != padded)
        return corrupt("it ends in the middle");
    out.resize(size);
    return out;
}

Result<std::size_t> TarSource::read(char* buffer, std::size_t size) {
    size = static_cast<std::size_t>(std::min<std::uint64_t>(size, left_));
    if (size == 0) return std::size_t{0};
    if (BANGER_TRY(read_full(fd_, buffer, size)) != size) return corrupt("it ends in the middle");
    left_ -= size;
    return size;
}

Result<void> TarSource::skip() {
    left_ += padding_;
    padding_ = 0;
    std::array<char, 65536> buffer;
    while (BANGER_TRY(read(buffer.data(), buffer.size())) > 0) {
    }
    return ok();
}

Result<void> TarSource::drain() {
    std::array<char, 65536> buffer;
    std::uint64_t rest = 0;
    for (;;) {
        const std::size_t count = BANGER_TRY(read_full(fd_, buffer.data(), buffer.size()));
        rest += count;
        if (rest > max_rest) return corrupt("it goes on after its end");
        if (count < buffer.size()) return ok();
    }
}

Result<bool> TarSource::next(Entry& entry) {
    BANGER_TRY(skip());
    Records records;
    for (;;) {
        Block block;
        if (!BANGER_TRY(read_block(block))) return corrupt("it has no end mark");
        if (std::ranges::all_of(block, [](char c) { return c == '\0'; })) {
            BANGER_TRY(drain());
            return false;
        }
        if (!has_right_sum(block)) return corrupt("a header with a wrong checksum");
        const std::string_view header(block.data(), block.size());
        const std::optional<std::uint64_t> size = number(header.substr(124, 12));
        const std::optional<std::uint64_t> mode = number(header.substr(100, 8));
        // Before 1970 is of no interest, and no reason to refuse the rest.
        const std::uint64_t modified = number(header.substr(136, 12)).value_or(0);
        if (!size || !mode) return corrupt("a number that is none");
        const char flag = header[156];
        if (flag == 'L') {
            records.path = text(BANGER_TRY(read_text(*size)));
            continue;
        }
        if (flag == 'K') {
            records.link_path = text(BANGER_TRY(read_text(*size)));
            continue;
        }
        if (flag == 'x') {
            BANGER_TRY(read_records(BANGER_TRY(read_text(*size)), records));
            continue;
        }
        if (flag == 'g') {
            BANGER_TRY(read_text(*size));
            continue;
        }
        if (flag == 'S') return corrupt("a sparse file");
        entry = Entry{};
        entry.type = type_of(flag);
        entry.path = text(header.substr(0, 100));
        const std::string prefix = text(header.substr(345, 155));
        // GNU's own format has other things where ustar has a prefix.
        const bool is_ustar = header.substr(257, 6) == std::string_view("ustar\0", 6);
        if (is_ustar && !prefix.empty()) entry.path = prefix + "/" + entry.path;
        entry.path = records.path.value_or(entry.path);
        entry.link_target = records.link_path.value_or(text(header.substr(157, 100)));
        entry.mode = static_cast<std::uint32_t>(*mode & 07777);
        entry.modified = static_cast<std::int64_t>(modified);
        // Old writers say "file" of a folder, and mean it by the slash.
        if (entry.type == Entry::Type::file && entry.path.ends_with('/'))
            entry.type = Entry::Type::folder;
        const std::uint64_t stored = records.size.value_or(*size);
        left_ = entry.type == Entry::Type::file || entry.type == Entry::Type::other ? stored : 0;
        padding_ = (block_size - left_ % block_size) % block_size;
        entry.size = entry.type == Entry::Type::file ? left_ : 0;
        return true;
    }
}

}  // namespace banger::copy

#include "plugins/image-oci/tar_index.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "plugins/image-oci/regular_file.hpp"

namespace banger::image_oci {

namespace {

constexpr std::uint64_t block = 512;
constexpr std::size_t max_entries = 100'000;
constexpr std::uint64_t max_extension = 1 << 20;
constexpr std::uint64_t max_offset = std::numeric_limits<std::int64_t>::max() / 2;

Error damaged(const std::string& what) {
    return {Errc::corrupt, "the archive is damaged: " + what, "Write it again."};
}

std::string_view field(std::string_view header, std::size_t at, std::size_t length) {
    const std::string_view text = header.substr(at, length);
    return text.substr(0, text.find('\0'));
}

/// Octal with blanks around it, or base 256 (GNU); nothing for what is neither or is negative.
std::optional<std::uint64_t> number(std::string_view text) {
    std::uint64_t value = 0;
    if (static_cast<unsigned char>(text[0]) == 0x80) {
        for (const char c : text.substr(1)) {
            if (value > max_offset >> 8) return std::nullopt;
            value = value << 8 | static_cast<unsigned char>(c);
        }
        return value;
    }
    while (text.starts_with(' '))
        text.remove_prefix(1);
    const std::size_t end = std::min(text.find_first_of(std::string_view(" \0", 2)), text.size());
    const auto [rest, problem] = std::from_chars(text.data(), text.data() + end, value, 8);
    if (end == 0) return 0;
    if (problem != std::errc() || rest != text.data() + end || value > max_offset)
        return std::nullopt;
    return value;
}

bool has_right_checksum(std::string_view header) {
    std::uint64_t sum = 8 * ' ';
    for (std::size_t i = 0; i < block; ++i)
        if (i < 148 || i >= 156) sum += static_cast<unsigned char>(header[i]);
    return number(header.substr(148, 8)) == sum;
}

/// "a/../b" and "./b" as "b"; empty for what leads out.
std::string normal(std::string_view path) {
    std::vector<std::string_view> parts;
    while (!path.empty()) {
        const std::size_t slash = path.find('/');
        const std::string_view part = path.substr(0, slash);
        path = slash == path.npos ? std::string_view() : path.substr(slash + 1);
        if (part.empty() || part == ".") continue;
        if (part != "..") {
            parts.push_back(part);
            continue;
        }
        if (parts.empty()) return "";
        parts.pop_back();
    }
    std::string result;
    for (const std::string_view part : parts)
        result += (result.empty() ? "" : "/") + std::string(part);
    return result;
}

}  // namespace

/// One pass over the headers.
class TarIndex::Walk {
public:
    explicit Walk(const UniqueFd& archive) : archive_(archive) {}

    Result<TarIndex> run() {
        end_ = BANGER_TRY(size_of(archive_));
        TarIndex index;
        for (std::size_t count = 0;; ++count) {
            if (count > max_entries) return damaged("it has too many entries");
            if (end_ - at_ < block) {
                // Some writers leave the end mark out; what was cut off inside a file is noticed.
                if (at_ == end_ && count > 0) return index;
                return damaged("it ends early");
            }
            const std::string header = BANGER_TRY(read_range(archive_, at_, block));
            if (std::ranges::all_of(header, [](char c) { return c == 0; })) return index;
            BANGER_TRY(take(header, index));
        }
    }

private:
    Result<void> take(const std::string& header, TarIndex& index) {
        if (!has_right_checksum(header))
            return damaged(at_ == 0 ? "it is no tar archive" : "a header has a wrong checksum");
        const std::optional<std::uint64_t> stated =
            number(std::string_view(header).substr(124, 12));
        if (!stated) return damaged("an impossible size");
        const char type = header[156];
        // GNU and POSIX let links and folders state a size that is not there.
        const bool has_data = type != '1' && type != '2' && type != '5';
        const std::uint64_t size = has_data ? size_.value_or(*stated) : 0;
        at_ += block;
        if (size > end_ - at_) return damaged("it ends early");
        const std::uint64_t offset = at_;
        const std::uint64_t padded = (size + block - 1) / block * block;
        at_ = std::min(end_, at_ + padded);
        if (type == 'x' || type == 'g' || type == 'L' || type == 'K')
            return extend(type, offset, size);
        add(header, type, {offset, size}, index);
        path_.reset();
        link_.reset();
        size_.reset();
        return ok();
    }

    void add(std::string_view header, char type, const Entry& entry, TarIndex& index) {
        std::string path(field(header, 0, 100));
        if (header.substr(257, 6) == std::string_view("ustar\0", 6))
            if (const std::string_view prefix = field(header, 345, 155); !prefix.empty())
                path = std::string(prefix) + "/" + path;
        const std::string name = normal(path_.value_or(path));
        if (name.empty()) return;
        // A later entry takes the place of an earlier one of its name.
        index.files_.erase(name);
        index.links_.erase(name);
        const std::string target = link_.value_or(std::string(field(header, 157, 100)));
        if (type == '0' || type == '\0' || type == '7') index.files_[name] = entry;
        if (type == '1') index.links_[name] = normal(target);
        if (type == '2' && !target.starts_with('/'))
            index.links_[name] = normal(name.substr(0, name.rfind('/') + 1) + target);
    }

    Result<void> extend(char type, std::uint64_t offset, std::uint64_t size) {
        if (size > max_extension) return damaged("a header is too long");
        size_.reset();
        const std::string text = BANGER_TRY(read_range(archive_, offset, size));
        if (type == 'L') path_ = text.substr(0, text.find('\0'));
        if (type == 'K') link_ = text.substr(0, text.find('\0'));
        return type == 'x' ? take_records(text) : ok();
    }

    /// "LENGTH NAME=VALUE\n", POSIX.1-2017 pax.
    Result<void> take_records(std::string_view text) {
        while (!text.empty()) {
            std::size_t length = 0;
            const char* end = text.data() + text.size();
            const auto [rest, problem] = std::from_chars(text.data(), end, length);
            const auto digits = static_cast<std::size_t>(rest - text.data());
            if (problem != std::errc() || rest == end || *rest != ' ' || length > text.size() ||
                length < digits + 3 || text[length - 1] != '\n')
                return damaged("an extended header is malformed");
            const std::string_view record = text.substr(digits + 1, length - digits - 2);
            text.remove_prefix(length);
            const std::size_t equals = record.find('=');
            if (equals == record.npos) return damaged("an extended header is malformed");
            const std::string_view name = record.substr(0, equals);
            const std::string_view value = record.substr(equals + 1);
            if (name == "path") path_ = value;
            if (name == "linkpath") link_ = value;
            if (name != "size") continue;
            std::uint64_t size = 0;
            const auto parsed = std::from_chars(value.data(), value.data() + value.size(), size);
            if (parsed.ec != std::errc() || parsed.ptr != value.data() + value.size() ||
                size > max_offset)
                return damaged("an impossible size");
            size_ = size;
        }
        return ok();
    }

    const UniqueFd& archive_;
    std::uint64_t at_ = 0;
    std::uint64_t end_ = 0;
    // Said by extended headers of the entry that comes next.
    std::optional<std::string> path_;
    std::optional<std::string> link_;
    std::optional<std::uint64_t> size_;
};

Result<TarIndex> TarIndex::read(const UniqueFd& archive) { return Walk(archive).run(); }

const TarIndex::Entry* TarIndex::find(const std::string& name) const {
    std::string at = normal(name);
    constexpr int max_links = 8;
    for (int i = 0; i < max_links; ++i) {
        if (const auto file = files_.find(at); file != files_.end()) return &file->second;
        const auto link = links_.find(at);
        if (link == links_.end()) return nullptr;
        at = link->second;
    }
    return nullptr;
}

}  // namespace banger::image_oci

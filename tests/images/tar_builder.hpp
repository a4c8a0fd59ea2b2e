#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "banger/unique_fd.hpp"

namespace banger::images {

/// A file without a name that holds `bytes`, read from its beginning.
inline UniqueFd file_of(std::string_view bytes) {
    UniqueFd fd(::memfd_create("layer", MFD_CLOEXEC));
    for (std::size_t done = 0; done < bytes.size();) {
        const ::ssize_t count = ::write(fd.get(), bytes.data() + done, bytes.size() - done);
        if (count <= 0) return {};
        done += static_cast<std::size_t>(count);
    }
    ::lseek(fd.get(), 0, SEEK_SET);
    return fd;
}

/// Archives by libarchive, that is by code that is not ours.
class TarBuilder {
public:
    struct Item {
        std::string path{};
        unsigned type = AE_IFREG;
        std::string content{};
        std::string target{};  ///< of a symbolic link
        std::string hard_link{};
        unsigned mode = 0644;
        std::int64_t uid = 0;
        std::int64_t gid = 0;
        std::int64_t seconds = 1'700'000'000;
        long nanoseconds = 0;
        unsigned major = 0;
        unsigned minor = 0;
        std::map<std::string, std::string> attributes{};
        /// Offset and length of what is no hole; `content` is only what lies there.
        std::vector<std::pair<std::int64_t, std::int64_t>> runs{};
        std::int64_t size = -1;  ///< with holes; -1: that of content
    };

    explicit TarBuilder(int format = ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE,
                        int filter = ARCHIVE_FILTER_NONE)
        : archive_(archive_write_new()) {
        archive_write_set_format(archive_, format);
        archive_write_add_filter(archive_, filter);
        archive_write_set_bytes_in_last_block(archive_, 1);
        archive_write_open(archive_, this, nullptr, &TarBuilder::append, nullptr);
    }
    ~TarBuilder() { archive_write_free(archive_); }
    TarBuilder(const TarBuilder&) = delete;
    TarBuilder& operator=(const TarBuilder&) = delete;

    TarBuilder& add(const Item& item) {
        archive_entry* entry = archive_entry_new();
        archive_entry_set_pathname(entry, item.path.c_str());
        archive_entry_set_filetype(entry, item.type);
        archive_entry_set_perm(entry, static_cast<mode_t>(item.mode));
        archive_entry_set_uid(entry, item.uid);
        archive_entry_set_gid(entry, item.gid);
        archive_entry_set_mtime(entry, item.seconds, item.nanoseconds);
        if (!item.target.empty()) archive_entry_set_symlink(entry, item.target.c_str());
        if (!item.hard_link.empty()) archive_entry_set_hardlink(entry, item.hard_link.c_str());
        if (item.type == AE_IFCHR || item.type == AE_IFBLK) {
            archive_entry_set_rdevmajor(entry, item.major);
            archive_entry_set_rdevminor(entry, item.minor);
        }
        for (const auto& [name, value] : item.attributes)
            archive_entry_xattr_add_entry(entry, name.c_str(), value.data(), value.size());
        const bool has_content = item.type == AE_IFREG && item.hard_link.empty();
        const std::int64_t size =
            item.size >= 0 ? item.size : static_cast<std::int64_t>(item.content.size());
        archive_entry_set_size(entry, has_content ? size : 0);
        for (const auto& [offset, length] : item.runs)
            archive_entry_sparse_add_entry(entry, offset, length);
        ok_ = archive_write_header(archive_, entry) == ARCHIVE_OK && ok_;
        archive_entry_free(entry);
        if (has_content) write_content(item);
        return *this;
    }
    TarBuilder& folder(const std::string& path, unsigned mode = 0755) {
        return add({.path = path, .type = AE_IFDIR, .mode = mode});
    }
    TarBuilder& file(const std::string& path, const std::string& content) {
        return add({.path = path, .content = content});
    }
    TarBuilder& symlink(const std::string& path, const std::string& target) {
        return add({.path = path, .type = AE_IFLNK, .target = target, .mode = 0777});
    }
    TarBuilder& hard_link(const std::string& path, const std::string& target) {
        return add({.path = path, .hard_link = target});
    }

    /// The whole archive; empty when libarchive could not write it.
    std::string finish() {
        archive_write_close(archive_);
        return ok_ ? bytes_ : std::string{};
    }

private:
    void write_content(const Item& item) {
        if (item.runs.empty()) {
            archive_write_data(archive_, item.content.data(), item.content.size());
            return;
        }
        // The writer wants the bytes of the holes too, and drops them.
        const std::string zeros(std::size_t{1} << 20, '\0');
        std::int64_t at = 0;
        const auto fill_to = [&](std::int64_t end) {
            while (at < end) {
                const std::int64_t step =
                    std::min<std::int64_t>(end - at, static_cast<std::int64_t>(zeros.size()));
                archive_write_data(archive_, zeros.data(), static_cast<std::size_t>(step));
                at += step;
            }
        };
        std::size_t used = 0;
        for (const auto& [offset, length] : item.runs) {
            fill_to(offset);
            archive_write_data(archive_, item.content.data() + used,
                               static_cast<std::size_t>(length));
            used += static_cast<std::size_t>(length);
            at += length;
        }
        fill_to(item.size);
    }
    static ::ssize_t append(archive*, void* self, const void* bytes, std::size_t size) {
        static_cast<TarBuilder*>(self)->bytes_.append(static_cast<const char*>(bytes), size);
        return static_cast<::ssize_t>(size);
    }

    archive* archive_;
    bool ok_ = true;
    std::string bytes_;
};

/// A header made by hand, for what no writer would write.
struct RawHeader {
    std::string name = "file";
    char type = '0';
    std::string size = "00000000000";
    std::string link{};
    std::string mode = "0000644";
    std::string uid = "0000000";
    std::string mtime = "00000000000";
    std::string magic = std::string("ustar\0", 6) + "00";
    std::vector<std::pair<std::size_t, std::string>> patches{};  ///< written last: offset, bytes
    bool wrong_checksum = false;

    [[nodiscard]] std::string bytes() const {
        std::string header(512, '\0');
        const auto put = [&](std::size_t at, const std::string& text) {
            header.replace(at, text.size(), text);
        };
        put(0, name.substr(0, 100));
        put(100, mode);
        put(108, uid);
        put(116, "0000000");
        put(124, size);
        put(136, mtime);
        put(156, std::string(1, type));
        put(157, link.substr(0, 100));
        put(257, magic);
        for (const auto& [at, text] : patches)
            put(at, text);
        put(148, "        ");
        unsigned sum = wrong_checksum ? 1 : 0;
        for (const char c : header)
            sum += static_cast<unsigned char>(c);
        std::array<char, 8> text{};
        std::snprintf(text.data(), text.size(), "%06o", sum);
        put(148, std::string(text.data(), 7));
        return header;
    }
};

inline std::string padded(std::string data) {
    data.resize((data.size() + 511) / 512 * 512, '\0');
    return data;
}
inline std::string end_mark() { return std::string(1024, '\0'); }
inline std::string octal(std::size_t number) {
    std::array<char, 16> text{};
    std::snprintf(text.data(), text.size(), "%011zo", number);
    return text.data();
}
/// An extended header ('x' or 'g') of these records.
inline std::string pax(const std::vector<std::pair<std::string, std::string>>& records,
                       char type = 'x') {
    std::string body;
    for (const auto& [key, value] : records) {
        const std::size_t rest = 1 + key.size() + 1 + value.size() + 1;
        std::size_t length = rest + 1;
        while (std::to_string(length).size() + rest != length)
            ++length;
        body += std::to_string(length) + " " + key + "=" + value + "\n";
    }
    return RawHeader{.name = "pax", .type = type, .size = octal(body.size())}.bytes() +
           padded(body);
}

}  // namespace banger::images

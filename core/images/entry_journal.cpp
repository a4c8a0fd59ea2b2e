#include "core/images/entry_journal.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace banger::images {
namespace {

constexpr std::size_t chunk = std::size_t{512} << 10;

class Writer {
public:
    explicit Writer(std::vector<std::byte>& to) : to_(to) {}
    template <class Number>
    void number(Number value) {
        static_assert(std::is_trivially_copyable_v<Number>);
        const std::span<const std::byte> bytes = std::as_bytes(std::span(&value, 1));
        to_.insert(to_.end(), bytes.begin(), bytes.end());
    }
    void text(std::string_view value) {
        number(static_cast<std::uint32_t>(value.size()));
        const std::span<const std::byte> bytes = std::as_bytes(std::span(value));
        to_.insert(to_.end(), bytes.begin(), bytes.end());
    }

private:
    std::vector<std::byte>& to_;
};

/// Of bytes that a Writer wrote.
class Reader {
public:
    explicit Reader(std::span<const std::byte> from) : from_(from) {}
    template <class Number>
    void number(Number& value) {
        std::memcpy(&value, from_.data(), sizeof value);
        from_ = from_.subspan(sizeof value);
    }
    template <class Number>
    Number number() {
        Number value{};
        number(value);
        return value;
    }
    std::string text() {
        const std::uint32_t size = number<std::uint32_t>();
        std::string value(reinterpret_cast<const char*>(from_.data()), size);
        from_ = from_.subspan(size);
        return value;
    }

private:
    std::span<const std::byte> from_;
};

}  // namespace

Result<void> Scratch::append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ::ssize_t count =
            ::pwrite(file_, bytes.data(), bytes.size(), static_cast<::off_t>(end_));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "writing beside the image");
        end_ += static_cast<std::uint64_t>(count);
        bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return ok();
}

Result<void> EntryJournal::append(const TarEntry& entry, const FileContent& content) {
    const std::size_t at = buffer_.size();
    Writer to(buffer_);
    to.number(std::uint32_t{0});  // the record's length, known at its end
    to.number(entry.type);
    to.text(entry.path);
    to.text(entry.link_target);
    to.number(entry.mode);
    to.number(entry.uid);
    to.number(entry.gid);
    to.number(entry.modified.seconds);
    to.number(entry.modified.nanoseconds);
    to.number(entry.device_major);
    to.number(entry.device_minor);
    to.number(entry.size);
    to.number(static_cast<std::uint32_t>(entry.attributes.size()));
    for (const auto& [name, value] : entry.attributes) {
        to.text(name);
        to.text(value);
    }
    to.number(content.is_left_out);
    to.number(static_cast<std::uint32_t>(content.runs.size()));
    for (const FileRun& each : content.runs) {
        to.number(each.first);
        to.number(each.run.start);
        to.number(each.run.count);
    }
    const std::uint32_t length = static_cast<std::uint32_t>(buffer_.size() - at - sizeof length);
    std::memcpy(buffer_.data() + at, &length, sizeof length);
    if (buffer_.size() < chunk) return ok();
    BANGER_TRY(scratch_->append(buffer_));
    buffer_.clear();
    return ok();
}

Result<void> EntryJournal::close() {
    BANGER_TRY(scratch_->append(buffer_));
    buffer_ = {};
    end_ = scratch_->end();
    return ok();
}

/// The next `count` bytes, or none at the end.
Result<std::span<const std::byte>> EntryJournal::take(std::size_t count) {
    if (buffer_.size() - used_ < count) {
        buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(used_));
        used_ = 0;
        while (buffer_.size() < count && begin_ < end_) {
            const std::size_t have = buffer_.size();
            const std::size_t wanted = static_cast<std::size_t>(
                std::min<std::uint64_t>(std::max(chunk, count - have), end_ - begin_));
            buffer_.resize(have + wanted);
            const ::ssize_t got = ::pread(scratch_->file(), buffer_.data() + have, wanted,
                                          static_cast<::off_t>(begin_));
            if (got <= 0) {
                const int why = got < 0 ? errno : EIO;
                buffer_.resize(have);
                if (why == EINTR) continue;
                return Error::from_errno(why, "reading beside the image");
            }
            buffer_.resize(have + static_cast<std::size_t>(got));
            begin_ += static_cast<std::uint64_t>(got);
        }
    }
    if (buffer_.size() < count) return std::span<const std::byte>{};
    used_ += count;
    return std::span<const std::byte>(buffer_).subspan(used_ - count, count);
}

Result<bool> EntryJournal::next(TarEntry& entry, FileContent& content) {
    const std::span<const std::byte> head = BANGER_TRY(take(sizeof(std::uint32_t)));
    if (head.empty()) return false;
    Reader from(BANGER_TRY(take(Reader(head).number<std::uint32_t>())));
    from.number(entry.type);
    entry.path = from.text();
    entry.link_target = from.text();
    from.number(entry.mode);
    from.number(entry.uid);
    from.number(entry.gid);
    from.number(entry.modified.seconds);
    from.number(entry.modified.nanoseconds);
    from.number(entry.device_major);
    from.number(entry.device_minor);
    from.number(entry.size);
    entry.attributes.clear();
    for (std::uint32_t left = from.number<std::uint32_t>(); left > 0; --left) {
        std::string name = from.text();
        entry.attributes.insert_or_assign(std::move(name), from.text());
    }
    from.number(content.is_left_out);
    content.runs.resize(from.number<std::uint32_t>());
    for (FileRun& each : content.runs) {
        from.number(each.first);
        from.number(each.run.start);
        from.number(each.run.count);
    }
    return true;
}

}  // namespace banger::images

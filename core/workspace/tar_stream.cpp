#include "core/workspace/tar_stream.hpp"

#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace banger::workspace {

namespace {

constexpr std::size_t block = 512;
constexpr std::size_t chunk = 256 << 10;
/// Fast: the link into a guest is what is to be saved, and the host's processor is shared.
constexpr int text_level = 3;

/// A number in a field of `size` bytes: octal, or in base 256 when it does not fit.
void put_number(char* field, std::size_t size, std::uint64_t value) {
    if (value < (1ull << (3 * (size - 1)))) {
        std::snprintf(field, size, "%0*llo", static_cast<int>(size - 1),
                      static_cast<unsigned long long>(value));
        return;
    }
    for (std::size_t i = size; i-- > 1; value >>= 8)
        field[i] = static_cast<char>(value & 0xff);
    field[0] = static_cast<char>(0x80);
}

using Header = std::array<char, block>;

Header make_header(std::string_view path, std::string_view target, char type, unsigned mode,
                   std::uint64_t size, std::int64_t time) {
    Header header{};
    char* const at = header.data();
    std::memcpy(at, path.data(), std::min<std::size_t>(path.size(), 100));
    put_number(at + 100, 8, mode);
    put_number(at + 108, 8, 0);
    put_number(at + 116, 8, 0);
    put_number(at + 124, 12, size);
    put_number(at + 136, 12, time < 0 ? 0 : static_cast<std::uint64_t>(time));
    std::memset(at + 148, ' ', 8);
    at[156] = type;
    std::memcpy(at + 157, target.data(), std::min<std::size_t>(target.size(), 100));
    std::memcpy(at + 257, "ustar  ", 8);
    unsigned sum = 0;
    for (const char c : header)
        sum += static_cast<unsigned char>(c);
    std::snprintf(at + 148, 8, "%06o", sum);
    return header;
}

}  // namespace

/// A gzip stream whose level may change on the way.
class TarStream::Gzip {
public:
    explicit Gzip(Sink sink) : sink_(std::move(sink)) {
        // 31: the largest window, with a gzip header.
        is_ready_ =
            ::deflateInit2(&stream_, text_level, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK;
    }
    ~Gzip() { ::deflateEnd(&stream_); }
    Gzip(const Gzip&) = delete;
    Gzip& operator=(const Gzip&) = delete;

    Result<void> write(std::string_view bytes) {
        stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
        stream_.avail_in = static_cast<uInt>(bytes.size());
        return run(Z_NO_FLUSH);
    }
    Result<void> set_level(int level) {
        if (level == level_) return ok();
        BANGER_TRY(run(Z_BLOCK));  // what was taken in so far goes out at the old level
        ::deflateParams(&stream_, level, Z_DEFAULT_STRATEGY);
        level_ = level;
        return ok();
    }
    Result<void> finish() { return run(Z_FINISH); }

private:
    Result<void> run(int flush) {
        if (!is_ready_) return Error(Errc::internal, "zlib cannot be used");
        for (;;) {
            stream_.next_out = reinterpret_cast<Bytef*>(buffer_.data());
            stream_.avail_out = static_cast<uInt>(buffer_.size());
            const int status = ::deflate(&stream_, flush);
            if (status == Z_STREAM_ERROR) return Error(Errc::internal, "zlib does not go on");
            const std::size_t made = buffer_.size() - stream_.avail_out;
            if (made > 0) BANGER_TRY(sink_(std::string_view(buffer_.data(), made)));
            if (stream_.avail_out != 0) return ok();
        }
    }
    Sink sink_;
    z_stream stream_{};
    bool is_ready_ = false;
    int level_ = text_level;
    std::string buffer_ = std::string(chunk, '\0');
};

TarStream::TarStream(Sink sink, bool is_gzipped) : sink_(std::move(sink)) {
    if (is_gzipped) gzip_ = std::make_unique<Gzip>(sink_);
}
TarStream::~TarStream() = default;

Result<void> TarStream::write(std::string_view bytes) {
    return gzip_ ? gzip_->write(bytes) : sink_(bytes);
}

Result<void> TarStream::pad(std::uint64_t size) {
    static constexpr std::array<char, block> zeros{};
    const std::size_t rest = size % block;
    return rest == 0 ? ok() : write(std::string_view(zeros.data(), block - rest));
}

Result<void> TarStream::header(const std::string& path, const std::string& target, char type,
                               unsigned mode, std::uint64_t size, std::int64_t time) {
    const auto long_text = [&](const std::string& text, char kind) -> Result<void> {
        if (text.size() < 100) return ok();
        const std::string whole = text + '\0';
        const Header before = make_header("././@LongLink", "", kind, 0644, whole.size(), 0);
        BANGER_TRY(write(std::string_view(before.data(), block)));
        BANGER_TRY(write(whole));
        return pad(whole.size());
    };
    BANGER_TRY(long_text(target, 'K'));
    BANGER_TRY(long_text(path, 'L'));
    const Header entry = make_header(path, target, type, mode, size, time);
    return write(std::string_view(entry.data(), block));
}

Result<void> TarStream::add_file(const std::string& path, std::string_view content,
                                 bool is_executable) {
    BANGER_TRY(header(path, "", '0', is_executable ? 0755 : 0644, content.size(), ::time(nullptr)));
    BANGER_TRY(write(content));
    return pad(content.size());
}

Result<void> TarStream::add_link(const std::string& path, const std::string& target,
                                 std::int64_t time) {
    return header(path, target, '2', 0777, 0, time);
}

Result<void> TarStream::add_folder(const std::string& path) {
    return header(path + "/", "", '5', 0755, 0, ::time(nullptr));
}

Result<void> TarStream::add_descriptor(const std::string& path, int fd, std::uint64_t size,
                                       bool is_executable, std::int64_t time, bool is_packed,
                                       bool& is_torn, std::stop_token stop) {
    if (gzip_) BANGER_TRY(gzip_->set_level(is_packed ? 0 : text_level));
    BANGER_TRY(header(path, "", '0', is_executable ? 0755 : 0644, size, time));
    std::string buffer(std::min<std::uint64_t>(chunk, size), '\0');
    for (std::uint64_t left = size; left > 0;) {
        if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
        const std::size_t wanted = std::min<std::uint64_t>(left, buffer.size());
        ssize_t count = ::read(fd, buffer.data(), wanted);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "reading " + path);
        if (count == 0) {  // it has become shorter
            is_torn = true;
            std::fill(buffer.begin(), buffer.end(), '\0');
            count = static_cast<ssize_t>(wanted);
        }
        BANGER_TRY(write(std::string_view(buffer.data(), static_cast<std::size_t>(count))));
        left -= static_cast<std::uint64_t>(count);
    }
    char more = 0;
    if (::read(fd, &more, 1) > 0) is_torn = true;
    return pad(size);
}

Result<void> TarStream::finish() {
    static constexpr std::array<char, 2 * block> end{};
    BANGER_TRY(write(std::string_view(end.data(), end.size())));
    return gzip_ ? gzip_->finish() : ok();
}

}  // namespace banger::workspace

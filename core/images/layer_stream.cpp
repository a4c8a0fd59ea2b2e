#include "core/images/layer_stream.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

namespace banger::images {
namespace {

constexpr std::size_t packed_size = std::size_t{256} << 10;

/// The formats' magic numbers: RFC 1952, RFC 8878, the .xz format 1.0.4 and bzip2.
bool is_packed(std::span<const std::byte> head) {
    using namespace std::string_view_literals;
    constexpr std::array magics = {"\x1f\x8b"sv, "\x28\xb5\x2f\xfd"sv, "\xfd\x37zXZ\0"sv, "BZh"sv};
    const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
    return std::ranges::any_of(magics, [&](std::string_view m) { return text.starts_with(m); });
}

Error decoder_error(archive* decoder) {
    const char* why = archive_error_string(decoder);
    return Error(Errc::corrupt,
                 std::string("the packed layer is damaged: ") + (why ? why : "unknown error"),
                 "Fetch it again.");
}

}  // namespace

LayerStream::LayerStream(const UniqueFd& layer, std::stop_token stop)
    : fd_(layer.get()), stop_(std::move(stop)), window_(window_size) {}

LayerStream::~LayerStream() {
    if (decoder_) archive_read_free(decoder_);
}

Result<std::unique_ptr<LayerStream>> LayerStream::open(const UniqueFd& layer,
                                                       std::stop_token stop) {
    std::unique_ptr<LayerStream> stream(new LayerStream(layer, stop));
    stream->wake_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!stream->wake_) return Error::from_errno(errno, "making an eventfd");
    stream->on_stop_.emplace(stream->stop_, [wake = stream->wake_.get()] {
        const std::uint64_t one = 1;
        [[maybe_unused]] const ::ssize_t ignored = ::write(wake, &one, sizeof one);
    });
    // Fewer switches between writer and reader; an unprivileged user may be over the limit, or it
    // is no pipe: both fine.
    ::fcntl(layer.get(), F_SETPIPE_SZ, static_cast<int>(window_size));

    const std::span<const std::byte> head = BANGER_TRY(stream->peek(6));
    if (is_packed(head)) BANGER_TRY(stream->start_decoder());
    return stream;
}

Result<void> LayerStream::start_decoder() {
    packed_.resize(std::max(packed_size, end_));
    std::copy_n(window_.begin(), end_, packed_.begin());
    packed_ready_ = end_;
    begin_ = end_ = 0;
    at_end_ = false;

    decoder_ = archive_read_new();
    if (!decoder_) return Error::from_errno(ENOMEM, "starting the decoder");
    archive_read_support_filter_gzip(decoder_);
    archive_read_support_filter_zstd(decoder_);
    archive_read_support_filter_xz(decoder_);
    archive_read_support_filter_bzip2(decoder_);
    archive_read_support_format_raw(decoder_);
    archive_entry* entry = nullptr;
    if (archive_read_open(decoder_, this, nullptr, &LayerStream::feed_decoder, nullptr) !=
            ARCHIVE_OK ||
        archive_read_next_header(decoder_, &entry) != ARCHIVE_OK)
        return feed_error_ ? *feed_error_ : decoder_error(decoder_);
    return ok();
}

::ssize_t LayerStream::feed_decoder(archive* decoder, void* self, const void** bytes) {
    LayerStream& stream = *static_cast<LayerStream*>(self);
    *bytes = stream.packed_.data();
    if (stream.packed_ready_ > 0)
        return static_cast<::ssize_t>(std::exchange(stream.packed_ready_, 0));
    Result<std::size_t> count = stream.read_raw(stream.packed_);
    if (count) return static_cast<::ssize_t>(*count);
    stream.feed_error_ = count.error();
    archive_set_error(decoder, EIO, "%s", count.error().message.c_str());
    return -1;
}

Result<std::size_t> LayerStream::read_raw(std::span<std::byte> into) {
    while (true) {
        std::array<::pollfd, 2> waits = {{{.fd = fd_, .events = POLLIN, .revents = 0},
                                          {.fd = wake_.get(), .events = POLLIN, .revents = 0}}};
        if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR)
            return Error::from_errno(errno, "waiting for the layer");
        if (stop_.stop_requested())
            return Error(Errc::cancelled, "reading the layer was cancelled");
        if (waits[0].revents == 0) continue;
        const ::ssize_t count = ::read(fd_, into.data(), into.size());
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (count < 0) return Error::from_errno(errno, "reading the layer");
        bytes_read_ += static_cast<std::uint64_t>(count);
        return static_cast<std::size_t>(count);
    }
}

Result<std::size_t> LayerStream::read_unpacked(std::span<std::byte> into) {
    if (!decoder_) return read_raw(into);
    while (decoded_.empty()) {
        const void* bytes = nullptr;
        std::size_t size = 0;
        la_int64_t offset = 0;
        const int status = archive_read_data_block(decoder_, &bytes, &size, &offset);
        if (status == ARCHIVE_EOF) return std::size_t{0};
        if (status != ARCHIVE_OK) return feed_error_ ? *feed_error_ : decoder_error(decoder_);
        decoded_ = {static_cast<const std::byte*>(bytes), size};
    }
    const std::size_t count = std::min(into.size(), decoded_.size());
    std::copy_n(decoded_.begin(), count, into.begin());
    decoded_ = decoded_.subspan(count);
    return count;
}

Result<std::span<const std::byte>> LayerStream::peek(std::size_t count) {
    if (end_ - begin_ < count && begin_ > 0) {
        std::copy(window_.begin() + static_cast<std::ptrdiff_t>(begin_),
                  window_.begin() + static_cast<std::ptrdiff_t>(end_), window_.begin());
        end_ -= begin_;
        begin_ = 0;
    }
    while (end_ - begin_ < count && !at_end_) {
        const std::size_t got = BANGER_TRY(read_unpacked(std::span(window_).subspan(end_)));
        at_end_ = got == 0;
        end_ += got;
    }
    return std::span<const std::byte>(window_).subspan(begin_, end_ - begin_);
}

}  // namespace banger::images

#include "core/images/layer_stream.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace banger::images {
namespace {

Error cancelled() { return Error(Errc::cancelled, "reading the layer was cancelled"); }

}  // namespace

LayerInput::LayerInput(const LayerSource& source, std::stop_token stop)
    : source_(source),
      stop_(stop),
      wake_(source.is_file ? -1 : ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      on_stop_(std::move(stop), [wake = wake_.get()] {
          const std::uint64_t one = 1;
          [[maybe_unused]] const ::ssize_t ignored = ::write(wake, &one, sizeof one);
      }) {}

Result<void> LayerInput::wait() {
    if (!wake_) return Error::from_errno(EMFILE, "making an eventfd");
    while (true) {
        std::array<::pollfd, 2> waits = {{{.fd = source_.fd, .events = POLLIN, .revents = 0},
                                          {.fd = wake_.get(), .events = POLLIN, .revents = 0}}};
        if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR)
            return Error::from_errno(errno, "waiting for the layer");
        if (stop_.stop_requested()) return cancelled();
        if (waits[0].revents != 0) return ok();
    }
}

Result<std::size_t> LayerInput::read(std::span<std::byte> into) {
    while (true) {
        if (!source_.is_file) BANGER_TRY(wait());
        if (stop_.stop_requested()) return cancelled();
        const std::size_t wanted = static_cast<std::size_t>(
            std::min<std::uint64_t>(into.size(), source_.end - source_.begin));
        const ::ssize_t count = source_.is_file ? ::pread(source_.fd, into.data(), wanted,
                                                          static_cast<::off_t>(source_.begin))
                                                : ::read(source_.fd, into.data(), wanted);
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (count < 0) return Error::from_errno(errno, "reading the layer");
        source_.begin += static_cast<std::uint64_t>(count);
        bytes_read_ += static_cast<std::uint64_t>(count);
        return static_cast<std::size_t>(count);
    }
}

LayerStream::LayerStream(const LayerSource& source, std::stop_token stop)
    : on_stop_(std::move(stop), [give_up = give_up_]() mutable { give_up.request_stop(); }),
      input_(source, give_up_.get_token()) {
    for (std::unique_ptr<Block>& block : blocks_)
        block = std::make_unique_for_overwrite<Block>();
}

LayerStream::~LayerStream() {
    give_up_.request_stop();
    if (thread_.joinable()) thread_.join();
}

Result<std::unique_ptr<LayerStream>> LayerStream::open(const LayerSource& source,
                                                       std::stop_token stop) {
    std::unique_ptr<LayerStream> stream(new LayerStream(source, std::move(stop)));
    // Fewer switches between writer and reader; an unprivileged user may be over the limit, or it
    // is no pipe: both fine.
    if (!source.is_file) ::fcntl(source.fd, F_SETPIPE_SZ, static_cast<int>(block_size));
    try {
        stream->thread_ = std::thread([self = stream.get()] { self->run(); });
    } catch (const std::system_error& failure) {
        return Error::from_errno(failure.code().value(), "starting a thread that unpacks a layer");
    }
    return stream;
}

void LayerStream::run() {
    Result<void> result = decode();
    const std::lock_guard lock(mutex_);
    if (!result) error_ = std::move(result).error();
    is_ended_ = true;
    changed_.notify_all();
}

Result<void> LayerStream::decode() {
    PackedBytes packed([this](std::span<std::byte> into) { return input_.read(into); });
    const std::unique_ptr<LayerDecoder> decoder = BANGER_TRY(make_layer_decoder(packed));
    while (true) {
        Block* block = wait_for_room();
        if (!block) return cancelled();
        block->count = 0;
        const std::span<std::byte> room = std::span(block->bytes).subspan(peek_limit);
        const Result<void> decoded = decoder->read(room, block->count);
        const bool is_last = block->count < room.size();
        if (block->count > 0) hand_over();
        if (!decoded || is_last) return decoded;
    }
}

/// Nothing when the thread is to give up.
LayerStream::Block* LayerStream::wait_for_room() {
    std::unique_lock lock(mutex_);
    const std::stop_token give_up = give_up_.get_token();
    changed_.wait(lock, give_up, [this] { return filled_ - returned_ < blocks_.size(); });
    return give_up.stop_requested() ? nullptr : blocks_[filled_ % blocks_.size()].get();
}

void LayerStream::hand_over() {
    const std::lock_guard lock(mutex_);
    ++filled_;
    changed_.notify_all();
}

Result<std::span<const std::byte>> LayerStream::peek(std::size_t count) {
    while (window_.size() < count) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return filled_ > taken_ || is_ended_; });
        if (filled_ == taken_) {
            if (error_) return *error_;
            break;
        }
        Block& next = *blocks_[taken_ % blocks_.size()];
        std::byte* begin = next.bytes.data() + peek_limit - window_.size();
        if (!window_.empty()) std::memcpy(begin, window_.data(), window_.size());
        window_ = {begin, window_.size() + next.count};
        returned_ = taken_++;
        changed_.notify_all();
    }
    return window_;
}

}  // namespace banger::images

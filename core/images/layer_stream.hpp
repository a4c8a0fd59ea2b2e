#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

struct archive;

namespace banger::images {

/// The bytes of one layer, unpacked: gzip, zstd, xz and bzip2 are told by their first bytes and
/// decoded by libarchive; anything else passes through untouched.
///
/// A window over the stream: peek() shows what comes next without copying, consume() moves on. One
/// thread at a time. Waiting for a pipe ends with Errc::cancelled when `stop` is triggered; a
/// packed stream that is damaged or ends early is Errc::corrupt.
class LayerStream {
public:
    /// `layer` must stay open as long as this lives.
    static Result<std::unique_ptr<LayerStream>> open(const UniqueFd& layer, std::stop_token stop);
    ~LayerStream();
    LayerStream(const LayerStream&) = delete;
    LayerStream& operator=(const LayerStream&) = delete;

    /// At least `count` bytes (at most window_size), and whatever else is there already; fewer only
    /// at the end of the stream. Valid until the next call.
    Result<std::span<const std::byte>> peek(std::size_t count);
    /// Moves on by `count` bytes that peek() has shown.
    void consume(std::size_t count) { begin_ += count; }

    /// Bytes taken from the descriptor so far.
    [[nodiscard]] std::uint64_t bytes_read() const { return bytes_read_; }

    static constexpr std::size_t window_size = std::size_t{1} << 20;

private:
    LayerStream(const UniqueFd& layer, std::stop_token stop);
    Result<std::size_t> read_raw(std::span<std::byte> into);
    Result<std::size_t> read_unpacked(std::span<std::byte> into);
    Result<void> start_decoder();
    static ::ssize_t feed_decoder(archive* decoder, void* self, const void** bytes);

    int fd_;
    std::stop_token stop_;
    UniqueFd wake_;  ///< becomes readable when stop_ is triggered
    std::optional<std::stop_callback<std::function<void()>>> on_stop_;

    std::vector<std::byte> window_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    bool at_end_ = false;
    std::uint64_t bytes_read_ = 0;

    archive* decoder_ = nullptr;
    std::vector<std::byte> packed_;    ///< what the decoder was fed last
    std::size_t packed_ready_ = 0;     ///< bytes in packed_ that were read ahead to tell the format
    std::optional<Error> feed_error_;  ///< why feed_decoder() failed
    std::span<const std::byte> decoded_;  ///< of the decoder's last block, not handed out yet
};

}  // namespace banger::images

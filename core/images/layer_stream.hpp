#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <thread>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/images/layer_decoder.hpp"

namespace banger::images {

/// Where the bytes of a layer are: a pipe or socket that is read as it comes, or a part of a file,
/// which can be read again.
struct LayerSource {
    int fd = -1;
    bool is_file = false;
    std::uint64_t begin = 0;  ///< this and the next of a file
    std::uint64_t end = ~std::uint64_t{0};
};

/// Reads a source. Waiting for a pipe ends with Errc::cancelled when `stop` is triggered.
class LayerInput {
public:
    LayerInput(const LayerSource& source, std::stop_token stop);

    /// Some bytes; 0 only at the end.
    Result<std::size_t> read(std::span<std::byte> into);
    /// From any thread.
    [[nodiscard]] std::uint64_t bytes_read() const { return bytes_read_; }

private:
    Result<void> wait();

    LayerSource source_;
    std::stop_token stop_;
    UniqueFd wake_;  ///< becomes readable when stop_ is triggered
    std::stop_callback<std::function<void()>> on_stop_;
    std::atomic<std::uint64_t> bytes_read_ = 0;
};

/// The bytes of one layer, unpacked (layer_decoder.hpp), by a thread of its own that runs ahead of
/// the reader by at most `ahead` bytes: unpacking overlaps with what the reader does, and the next
/// layer is begun while the reader has this one.
///
/// A window over the stream: peek() shows what comes next without copying, consume() moves on. One
/// reader at a time. An error comes exactly where the good bytes before it end. Waiting ends with
/// Errc::cancelled when `stop` is triggered, also for a pipe; the destructor waits for the thread,
/// which gives up at once.
class LayerStream {
public:
    /// The descriptor must stay open as long as this lives.
    static Result<std::unique_ptr<LayerStream>> open(const LayerSource& source,
                                                     std::stop_token stop);
    ~LayerStream();
    LayerStream(const LayerStream&) = delete;
    LayerStream& operator=(const LayerStream&) = delete;

    /// At least `count` bytes (at most peek_limit), and whatever else lies behind them; fewer only
    /// at the end of the stream. Valid until the next call.
    Result<std::span<const std::byte>> peek(std::size_t count);
    /// Moves on by `count` bytes that peek() has shown.
    void consume(std::size_t count) { window_ = window_.subspan(count); }

    /// Bytes taken from the source so far.
    [[nodiscard]] std::uint64_t bytes_read() const { return input_.bytes_read(); }

    static constexpr std::size_t peek_limit = 512;
    static constexpr std::size_t ahead = std::size_t{4} << 20;

private:
    static constexpr std::size_t block_size = std::size_t{1} << 20;
    /// Unpacked bytes on their way from the thread to the reader. What the reader has left of the
    /// block before, less than peek_limit, is put in front, so that it sees one row.
    struct Block {
        std::array<std::byte, peek_limit + block_size> bytes;
        std::size_t count = 0;
    };

    LayerStream(const LayerSource& source, std::stop_token stop);
    void run();
    Result<void> decode();
    Block* wait_for_room();
    void hand_over();

    std::stop_source give_up_;  ///< for the thread
    std::stop_callback<std::function<void()>> on_stop_;
    LayerInput input_;
    std::array<std::unique_ptr<Block>, ahead / block_size> blocks_;  ///< a ring

    std::size_t taken_ = 0;  ///< blocks that the reader has begun; it holds the last of them
    std::span<const std::byte> window_;

    std::mutex mutex_;  ///< guards what follows
    std::condition_variable_any changed_;
    std::size_t filled_ = 0;      ///< blocks that the thread has filled
    std::size_t returned_ = 0;    ///< blocks that the reader is done with
    bool is_ended_ = false;       ///< no block will follow
    std::optional<Error> error_;  ///< and why, if not for the end of the layer

    std::thread thread_;
};

}  // namespace banger::images

#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "banger/result.hpp"

namespace banger::images {

/// The packed bytes of a layer as they come, in a buffer of their own.
class PackedBytes {
public:
    /// Gives some bytes; 0 only at the end.
    using Source = std::function<Result<std::size_t>(std::span<std::byte>)>;
    explicit PackedBytes(Source source);

    /// What comes next, at least `count` bytes (few) except at the end. Valid until the next call.
    Result<std::span<const std::byte>> peek(std::size_t count);
    void consume(std::size_t count) { begin_ += count; }
    /// Straight from the source once the buffer is empty; 0 only at the end.
    Result<std::size_t> read(std::span<std::byte> into);

private:
    Source source_;
    std::vector<std::byte> buffer_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
};

/// Unpacks one stream. Not thread-safe; one thread at a time.
class LayerDecoder {
public:
    virtual ~LayerDecoder() = default;
    /// Fills `into`; less only at the end of the stream. Errc::corrupt when it is damaged, ends
    /// early, or wants more memory than decoder_window_limit; what came before that is in `into`
    /// and counted in `done`.
    virtual Result<void> read(std::span<std::byte> into, std::size_t& done) = 0;
};

/// The largest window that a stream may ask for. zstd's own default limit, RFC 8878 asks for 8 MiB.
inline constexpr std::size_t decoder_window_limit = std::size_t{128} << 20;

/// The decoder for what `packed` begins with: gzip, zstd, xz or bzip2; anything else passes through
/// untouched. Streams of several members or frames are one, as the formats have it; checksums are
/// verified.
Result<std::unique_ptr<LayerDecoder>> make_layer_decoder(PackedBytes& packed);

}  // namespace banger::images

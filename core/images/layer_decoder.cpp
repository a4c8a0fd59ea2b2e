#include "core/images/layer_decoder.hpp"

#include <bzlib.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

namespace banger::images {
namespace {

using namespace std::string_view_literals;

constexpr std::size_t packed_size = std::size_t{256} << 10;

Error damaged(std::string_view why) {
    return Error(Errc::corrupt, "the packed layer is damaged: " + std::string(why),
                 "Fetch it again.");
}

Error ends_early() { return damaged("it ends early"); }

Error window_too_large() {
    return Error(Errc::corrupt, "the packed layer asks for a window of more than 128 MiB",
                 "Pack it again with less, for zstd without --ultra and --long.");
}

Error no_memory() { return Error::from_errno(ENOMEM, "starting the decoder"); }

class PlainDecoder : public LayerDecoder {
public:
    explicit PlainDecoder(PackedBytes& packed) : packed_(packed) {}
    Result<void> read(std::span<std::byte> into, std::size_t& done) override {
        for (done = 0; done < into.size();) {
            const std::size_t count = BANGER_TRY(packed_.read(into.subspan(done)));
            if (count == 0) return ok();
            done += count;
        }
        return ok();
    }

private:
    PackedBytes& packed_;
};

/// What the libraries have in common: bytes in, bytes out, and streams that follow each other.
class LibraryDecoder : public LayerDecoder {
public:
    explicit LibraryDecoder(PackedBytes& packed) : packed_(packed) {}

    Result<void> read(std::span<std::byte> into, std::size_t& done) final {
        for (done = 0; done < into.size();) {
            const std::span<const std::byte> in = BANGER_TRY(packed_.peek(1));
            if (is_between_ && !BANGER_TRY(begin_next(in))) return ok();
            const Step step = BANGER_TRY(decode(in, into.subspan(done)));
            packed_.consume(step.taken);
            done += step.given;
            is_between_ = step.is_end;
            if (in.empty() && step.given == 0 && !step.is_end) return ends_early();
        }
        return ok();
    }

protected:
    struct Step {
        std::size_t taken = 0;
        std::size_t given = 0;
        bool is_end = false;  ///< of one member or frame
    };
    /// `in` is empty at the end of the packed bytes.
    virtual Result<Step> decode(std::span<const std::byte> in, std::span<std::byte> out) = 0;
    /// Begins with the member that follows; false when there is none.
    virtual Result<bool> begin_next(std::span<const std::byte> in) = 0;

    PackedBytes& packed_;

private:
    bool is_between_ = false;
};

class GzipDecoder : public LibraryDecoder {
public:
    explicit GzipDecoder(PackedBytes& packed) : LibraryDecoder(packed) {}
    ~GzipDecoder() override { inflateEnd(&stream_); }
    GzipDecoder(const GzipDecoder&) = delete;
    GzipDecoder& operator=(const GzipDecoder&) = delete;

    /// 16: a gzip header and trailer, not zlib's.
    bool start() { return inflateInit2(&stream_, MAX_WBITS + 16) == Z_OK; }

private:
    Result<Step> decode(std::span<const std::byte> in, std::span<std::byte> out) override {
        // zlib does not write through next_in.
        stream_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(in.data()));
        stream_.avail_in = static_cast<uInt>(in.size());
        stream_.next_out = reinterpret_cast<Bytef*>(out.data());
        stream_.avail_out = static_cast<uInt>(out.size());
        const int status = inflate(&stream_, Z_NO_FLUSH);
        if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
            if (status == Z_MEM_ERROR) return no_memory();
            return damaged(stream_.msg ? stream_.msg : "it is no gzip");
        }
        return Step{.taken = in.size() - stream_.avail_in,
                    .given = out.size() - stream_.avail_out,
                    .is_end = status == Z_STREAM_END};
    }

    Result<bool> begin_next(std::span<const std::byte> in) override {
        // Zeros behind the last member are padding, as gzip(1) has it.
        while (!in.empty() && in.front() == std::byte{0}) {
            const std::size_t zeros = static_cast<std::size_t>(
                std::ranges::find_if(in, [](std::byte b) { return b != std::byte{0}; }) -
                in.begin());
            packed_.consume(zeros);
            in = BANGER_TRY(packed_.peek(1));
            if (!in.empty() && in.front() != std::byte{0})
                return damaged("something else follows it");
        }
        if (in.empty()) return false;
        inflateReset(&stream_);
        return true;
    }

    ::z_stream stream_{};
};

class ZstdDecoder : public LibraryDecoder {
public:
    explicit ZstdDecoder(PackedBytes& packed) : LibraryDecoder(packed) {}
    ~ZstdDecoder() override { ZSTD_freeDCtx(context_); }
    ZstdDecoder(const ZstdDecoder&) = delete;
    ZstdDecoder& operator=(const ZstdDecoder&) = delete;

    bool start() {
        return context_ && !ZSTD_isError(ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, 27));
    }

private:
    static_assert(std::size_t{1} << 27 == decoder_window_limit);

    Result<Step> decode(std::span<const std::byte> in, std::span<std::byte> out) override {
        ZSTD_inBuffer input{in.data(), in.size(), 0};
        ZSTD_outBuffer output{out.data(), out.size(), 0};
        const std::size_t status = ZSTD_decompressStream(context_, &output, &input);
        if (ZSTD_isError(status)) {
            const ZSTD_ErrorCode code = ZSTD_getErrorCode(status);
            if (code == ZSTD_error_frameParameter_windowTooLarge) return window_too_large();
            if (code == ZSTD_error_memory_allocation) return no_memory();
            return damaged(ZSTD_getErrorName(status));
        }
        return Step{.taken = input.pos, .given = output.pos, .is_end = status == 0};
    }
    /// The library goes on with the next frame by itself, also over a skippable one.
    Result<bool> begin_next(std::span<const std::byte> in) override { return !in.empty(); }

    ZSTD_DCtx* context_ = ZSTD_createDCtx();
};

class XzDecoder : public LibraryDecoder {
public:
    explicit XzDecoder(PackedBytes& packed) : LibraryDecoder(packed) {}
    ~XzDecoder() override { lzma_end(&stream_); }
    XzDecoder(const XzDecoder&) = delete;
    XzDecoder& operator=(const XzDecoder&) = delete;

    bool start() {
        constexpr std::uint64_t besides_the_window = 1 << 20;
        return lzma_stream_decoder(&stream_, decoder_window_limit + besides_the_window,
                                   LZMA_CONCATENATED) == LZMA_OK;
    }

private:
    Result<Step> decode(std::span<const std::byte> in, std::span<std::byte> out) override {
        stream_.next_in = reinterpret_cast<const std::uint8_t*>(in.data());
        stream_.avail_in = in.size();
        stream_.next_out = reinterpret_cast<std::uint8_t*>(out.data());
        stream_.avail_out = out.size();
        const lzma_ret status = lzma_code(&stream_, in.empty() ? LZMA_FINISH : LZMA_RUN);
        switch (status) {
            case LZMA_OK:
            case LZMA_STREAM_END:
                return Step{.taken = in.size() - stream_.avail_in,
                            .given = out.size() - stream_.avail_out,
                            .is_end = status == LZMA_STREAM_END};
            case LZMA_BUF_ERROR:
                return ends_early();
            case LZMA_MEMLIMIT_ERROR:
                return window_too_large();
            case LZMA_MEM_ERROR:
                return no_memory();
            default:
                return damaged("it is no whole xz");
        }
    }
    /// All streams are one to the library; it says "end" at the very end only.
    Result<bool> begin_next(std::span<const std::byte>) override { return false; }

    lzma_stream stream_ = LZMA_STREAM_INIT;
};

class Bzip2Decoder : public LibraryDecoder {
public:
    explicit Bzip2Decoder(PackedBytes& packed) : LibraryDecoder(packed) {}
    ~Bzip2Decoder() override { BZ2_bzDecompressEnd(&stream_); }
    Bzip2Decoder(const Bzip2Decoder&) = delete;
    Bzip2Decoder& operator=(const Bzip2Decoder&) = delete;

    bool start() { return BZ2_bzDecompressInit(&stream_, 0, 0) == BZ_OK; }

private:
    Result<Step> decode(std::span<const std::byte> in, std::span<std::byte> out) override {
        stream_.next_in = const_cast<char*>(reinterpret_cast<const char*>(in.data()));
        stream_.avail_in = static_cast<unsigned>(in.size());
        stream_.next_out = reinterpret_cast<char*>(out.data());
        stream_.avail_out = static_cast<unsigned>(out.size());
        const int status = BZ2_bzDecompress(&stream_);
        if (status != BZ_OK && status != BZ_STREAM_END) {
            if (status == BZ_MEM_ERROR) return no_memory();
            return damaged("it is no whole bzip2");
        }
        return Step{.taken = in.size() - stream_.avail_in,
                    .given = out.size() - stream_.avail_out,
                    .is_end = status == BZ_STREAM_END};
    }

    Result<bool> begin_next(std::span<const std::byte> in) override {
        if (in.empty()) return false;
        BZ2_bzDecompressEnd(&stream_);
        stream_ = {};
        if (!start()) return no_memory();
        return true;
    }

    ::bz_stream stream_{};
};

template <class Decoder>
Result<std::unique_ptr<LayerDecoder>> make(PackedBytes& packed) {
    std::unique_ptr<Decoder> decoder = std::make_unique<Decoder>(packed);
    if (!decoder->start()) return no_memory();
    return std::unique_ptr<LayerDecoder>(std::move(decoder));
}

}  // namespace

PackedBytes::PackedBytes(Source source) : source_(std::move(source)), buffer_(packed_size) {}

Result<std::span<const std::byte>> PackedBytes::peek(std::size_t count) {
    if (end_ - begin_ < count) {
        std::copy(buffer_.begin() + static_cast<std::ptrdiff_t>(begin_),
                  buffer_.begin() + static_cast<std::ptrdiff_t>(end_), buffer_.begin());
        end_ -= std::exchange(begin_, 0);
    }
    while (end_ - begin_ < count) {
        const std::size_t got = BANGER_TRY(source_(std::span(buffer_).subspan(end_)));
        if (got == 0) break;
        end_ += got;
    }
    return std::span<const std::byte>(buffer_).subspan(begin_, end_ - begin_);
}

Result<std::size_t> PackedBytes::read(std::span<std::byte> into) {
    if (begin_ == end_) return source_(into);
    const std::size_t count = std::min(into.size(), end_ - begin_);
    std::copy_n(buffer_.begin() + static_cast<std::ptrdiff_t>(begin_), count, into.begin());
    begin_ += count;
    return count;
}

/// By the formats' magic numbers: RFC 1952, RFC 8878 (a frame, or one to skip), the .xz format
/// 1.0.4, and bzip2.
Result<std::unique_ptr<LayerDecoder>> make_layer_decoder(PackedBytes& packed) {
    const std::span<const std::byte> bytes = BANGER_TRY(packed.peek(6));
    const std::string_view head(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (head.starts_with("\x1f\x8b"sv)) return make<GzipDecoder>(packed);
    if (head.starts_with("\x28\xb5\x2f\xfd"sv)) return make<ZstdDecoder>(packed);
    if (head.size() >= 4 && (head[0] & 0xf0) == 0x50 && head.substr(1, 3) == "\x2a\x4d\x18"sv)
        return make<ZstdDecoder>(packed);
    if (head.starts_with("\xfd\x37zXZ\0"sv)) return make<XzDecoder>(packed);
    if (head.starts_with("BZh"sv)) return make<Bzip2Decoder>(packed);
    return std::unique_ptr<LayerDecoder>(std::make_unique<PlainDecoder>(packed));
}

}  // namespace banger::images

#include "core/images/layer_stream.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <lzma.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <chrono>
#include <thread>

#include "tests/images/tar_builder.hpp"

namespace banger::images {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

LayerSource source_of(const UniqueFd& fd) { return {.fd = fd.get(), .is_file = true}; }

/// All bytes, or what was good before the error.
struct Outcome {
    std::string bytes;
    std::optional<Error> error;
};

Outcome read_all(const LayerSource& source, std::size_t at_once = 1, std::stop_token stop = {}) {
    Outcome outcome;
    Result<std::unique_ptr<LayerStream>> stream = LayerStream::open(source, std::move(stop));
    if (!stream) return {.bytes = {}, .error = stream.error()};
    while (true) {
        Result<std::span<const std::byte>> bytes = (*stream)->peek(at_once);
        if (!bytes) {
            outcome.error = bytes.error();
            return outcome;
        }
        if (bytes->empty()) return outcome;
        const std::size_t count = at_once == 1 ? bytes->size() : std::min(at_once, bytes->size());
        outcome.bytes.append(reinterpret_cast<const char*>(bytes->data()), count);
        (*stream)->consume(count);
    }
}

Outcome read_all(const std::string& packed, std::size_t at_once = 1) {
    const UniqueFd file = file_of(packed);
    return read_all(source_of(file), at_once);
}

std::string text_of(std::size_t size) {
    std::string text;
    while (text.size() < size)
        text += "line " + std::to_string(text.size() * 7919 % 1000003) + "\n";
    text.resize(size);
    return text;
}

std::string gzip(const std::string& text) {
    ::z_stream stream{};
    EXPECT_EQ(deflateInit2(&stream, 1, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    std::string out(deflateBound(&stream, text.size()) + 64, '\0');
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(text.data()));
    stream.avail_in = static_cast<uInt>(text.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
}

std::string zstd(const std::string& text, int window_log = 0) {
    ZSTD_CCtx* context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    if (window_log) ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
    std::string out(ZSTD_compressBound(text.size()) + 64, '\0');
    ZSTD_inBuffer input{text.data(), text.size(), 0};
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    // In two calls, so that the size is not known and the window is as asked for.
    ZSTD_compressStream2(context, &output, &input, ZSTD_e_continue);
    EXPECT_EQ(ZSTD_compressStream2(context, &output, &input, ZSTD_e_end), 0U);
    ZSTD_freeCCtx(context);
    out.resize(output.pos);
    return out;
}

std::string xz(const std::string& text) {
    std::string out(lzma_stream_buffer_bound(text.size()), '\0');
    std::size_t size = 0;
    EXPECT_EQ(lzma_easy_buffer_encode(
                  0, LZMA_CHECK_CRC32, nullptr, reinterpret_cast<const std::uint8_t*>(text.data()),
                  text.size(), reinterpret_cast<std::uint8_t*>(out.data()), &size, out.size()),
              LZMA_OK);
    out.resize(size);
    return out;
}

std::string bzip2(const std::string& text) {
    std::string out;
    archive* writer = archive_write_new();
    archive_write_set_format_raw(writer);
    archive_write_add_filter_bzip2(writer);
    archive_write_set_bytes_in_last_block(writer, 1);
    archive_write_open(
        writer, &out, nullptr,
        [](archive*, void* to, const void* bytes, std::size_t size) -> ::la_ssize_t {
            static_cast<std::string*>(to)->append(static_cast<const char*>(bytes), size);
            return static_cast<::la_ssize_t>(size);
        },
        nullptr);
    archive_entry* entry = archive_entry_new();
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_pathname(entry, "data");
    archive_write_header(writer, entry);
    archive_entry_free(entry);
    archive_write_data(writer, text.data(), text.size());
    archive_write_free(writer);
    return out;
}

struct Packing {
    const char* name;
    std::string (*pack)(const std::string&);
    std::size_t checksum_from_end;  ///< a byte of the checksum of the data; 0: there is none

    friend std::ostream& operator<<(std::ostream& out, const Packing& packing) {
        return out << packing.name;
    }
};

std::string plain(const std::string& text) { return text; }
std::string zstd_usual(const std::string& text) { return zstd(text); }

constexpr Packing packings[] = {{"plain", plain, 0},
                                {"gzip", gzip, 8},
                                {"zstd", zstd_usual, 1},
                                {"xz", xz, 36},
                                {"bzip2", bzip2, 2}};
std::string name_of(const testing::TestParamInfo<Packing>& tested) { return tested.param.name; }

class LayerStreamTest : public testing::TestWithParam<Packing> {};
INSTANTIATE_TEST_SUITE_P(Packings, LayerStreamTest, testing::ValuesIn(packings), name_of);

/// Not plain bytes, which cannot be damaged and end where they end.
class PackedStreamTest : public testing::TestWithParam<Packing> {};
INSTANTIATE_TEST_SUITE_P(Packings, PackedStreamTest,
                         testing::ValuesIn(std::begin(packings) + 1, std::end(packings)), name_of);

TEST_P(LayerStreamTest, GivesWhatWasPacked) {
    for (const std::size_t size :
         {std::size_t{1}, std::size_t{511}, std::size_t{1} << 20, (std::size_t{5} << 20) + 77}) {
        const std::string text = text_of(size);
        const std::string packed = GetParam().pack(text);
        EXPECT_TRUE(read_all(packed).bytes == text) << size;
        EXPECT_FALSE(read_all(packed).error) << size;
        EXPECT_TRUE(read_all(packed, 500).bytes == text) << size;  // over the borders of blocks
    }
}

TEST_P(LayerStreamTest, MembersAndFramesThatFollowAreOneStream) {
    const std::string first = text_of(3'000'000);
    const std::string second = text_of(12'345);
    const Outcome outcome = read_all(GetParam().pack(first) + GetParam().pack(second) +
                                     GetParam().pack("") + GetParam().pack(first));
    EXPECT_FALSE(outcome.error);
    EXPECT_TRUE(outcome.bytes == first + second + first);
}

TEST_P(PackedStreamTest, AnErrorComesBehindTheGoodBytes) {
    const std::string text = text_of(6'000'000);
    const std::string packed = GetParam().pack(text);
    const Outcome half = read_all(packed.substr(0, packed.size() / 2));
    ASSERT_TRUE(half.error);
    EXPECT_EQ(half.error->code, Errc::corrupt);
    EXPECT_GT(half.bytes.size(), 100'000U);
    EXPECT_TRUE(text.starts_with(half.bytes));
    for (const std::size_t cut : {std::size_t{1}, std::size_t{4}, packed.size() - 7})
        EXPECT_TRUE(read_all(packed.substr(0, packed.size() - cut)).error) << cut;

    std::string damaged = packed;
    const std::size_t at = damaged.size() - GetParam().checksum_from_end;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    const Outcome wrong = read_all(damaged);
    ASSERT_TRUE(wrong.error);
    EXPECT_EQ(wrong.error->code, Errc::corrupt);
    EXPECT_THAT(wrong.error->message, StartsWith("the packed layer is damaged"));
}

TEST_P(PackedStreamTest, BytesThatFollowAreNotTakenForGood) {
    EXPECT_TRUE(read_all(GetParam().pack("good") + "garbage!").error);
}

TEST_P(LayerStreamTest, GivesUpInAPipeThatIsSilent) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd read_end(ends[0]);
    const UniqueFd write_end(ends[1]);
    const std::string packed = GetParam().pack(text_of(100'000)).substr(0, 20'000);
    ASSERT_GT(::write(write_end.get(), packed.data(), packed.size()), 0);
    std::stop_source stop;
    std::optional<Outcome> outcome;
    std::thread reader(
        [&] { outcome = read_all({.fd = read_end.get(), .is_file = false}, 1, stop.get_token()); });
    stop.request_stop();
    reader.join();
    ASSERT_TRUE(outcome->error);
    EXPECT_EQ(outcome->error->code, Errc::cancelled);
}

TEST_P(LayerStreamTest, CanBeLeftInTheMiddle) {
    const UniqueFd file = file_of(GetParam().pack(text_of(std::size_t{6} << 20)));
    for (int i = 0; i < 20; ++i) {
        Result<std::unique_ptr<LayerStream>> stream = LayerStream::open(source_of(file), {});
        ASSERT_TRUE(stream);
        if (i % 2 == 0) {
            ASSERT_TRUE((*stream)->peek(1));
        }
    }
}

TEST(LayerStreamPlain, RunsAheadByNoMoreThanItMay) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd read_end(ends[0]);
    std::uint64_t written = 0;
    std::thread writer([&, to = UniqueFd(ends[1])] {
        const std::string text = text_of(std::size_t{1} << 20);
        for (int i = 0; i < 32; ++i) {
            for (std::size_t done = 0; done < text.size();) {
                const ::ssize_t count = ::write(to.get(), text.data() + done, text.size() - done);
                if (count <= 0) return;
                done += static_cast<std::size_t>(count);
                written += static_cast<std::uint64_t>(count);
            }
        }
    });
    std::uint64_t read = 0;
    {
        const Result<std::unique_ptr<LayerStream>> stream =
            LayerStream::open({.fd = read_end.get(), .is_file = false}, {});
        ASSERT_TRUE(stream);
        while (true) {
            const Result<std::span<const std::byte>> bytes = (*stream)->peek(1);
            ASSERT_TRUE(bytes);
            if (bytes->empty()) break;
            // What was given out, and what may lie ready behind it.
            EXPECT_LE((*stream)->bytes_read(), read + LayerStream::ahead + (256U << 10));
            read += bytes->size();
            (*stream)->consume(bytes->size());
        }
    }
    writer.join();
    EXPECT_EQ(read, std::uint64_t{32} << 20);
    EXPECT_EQ(written, read);
}

TEST(LayerStreamGzip, ZerosBehindTheLastMemberArePadding) {
    const Outcome outcome = read_all(gzip("text") + std::string(700'000, '\0'));
    EXPECT_FALSE(outcome.error);
    EXPECT_EQ(outcome.bytes, "text");
    EXPECT_TRUE(read_all(gzip("text") + std::string(700'000, '\0') + gzip("more")).error);
}

TEST(LayerStreamZstd, FramesToSkipAreSkipped) {
    const std::string skippable = std::string("\x5e\x2a\x4d\x18\x05\0\0\0", 8) + "notes";
    const Outcome behind = read_all(zstd("text") + skippable + zstd("more") + skippable);
    EXPECT_FALSE(behind.error);
    EXPECT_EQ(behind.bytes, "textmore");
    const Outcome first = read_all(skippable + zstd("text"));
    EXPECT_FALSE(first.error);
    EXPECT_EQ(first.bytes, "text");
}

TEST(LayerStreamZstd, WindowsOver128MiBAreRefused) {
    EXPECT_EQ(read_all(zstd("text", 27)).bytes, "text");
    const Outcome outcome = read_all(zstd("text", 28));
    ASSERT_TRUE(outcome.error);
    EXPECT_EQ(outcome.error->code, Errc::corrupt);
    EXPECT_THAT(outcome.error->message, HasSubstr("128 MiB"));
}

TEST(LayerStreamXz, WindowsOver128MiBAreRefused) {
    // The size of the dictionary is one byte of the block's header, which begins behind the 12
    // bytes of the stream's and ends with a CRC32: filter 0x21, one byte of properties, the size.
    std::string packed = xz("text");
    const std::size_t header_size = (static_cast<unsigned char>(packed[12]) + 1U) * 4;
    const std::size_t filter = packed.find("\x21\x01", 12);
    ASSERT_LT(filter, 12 + header_size);
    packed[filter + 2] = 32;  // 256 MiB
    const std::uint32_t crc =
        lzma_crc32(reinterpret_cast<const std::uint8_t*>(packed.data()) + 12, header_size - 4, 0);
    for (std::size_t i = 0; i < 4; ++i)
        packed[12 + header_size - 4 + i] = static_cast<char>(crc >> (8 * i));
    const Outcome outcome = read_all(packed);
    ASSERT_TRUE(outcome.error);
    EXPECT_EQ(outcome.error->code, Errc::corrupt);
    EXPECT_THAT(outcome.error->message, HasSubstr("128 MiB"));
}

TEST(LayerStreamFile, PartsAreReadWithoutMovingTheDescriptor) {
    const UniqueFd file = file_of("before" + gzip("inside") + "after");
    const std::uint64_t end = 6 + gzip("inside").size();
    const LayerSource part{.fd = file.get(), .is_file = true, .begin = 6, .end = end};
    EXPECT_EQ(read_all(part).bytes, "inside");
    EXPECT_EQ(read_all(part).bytes, "inside");
    EXPECT_EQ(::lseek(file.get(), 0, SEEK_CUR), 0);
}

}  // namespace
}  // namespace banger::images

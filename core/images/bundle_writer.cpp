#include <poll.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "core/base/process.hpp"
#include "core/images/bundle.hpp"
#include "core/images/bundle_format.hpp"
#include "core/images/sha256.hpp"

namespace banger::images {

namespace {

// Part of the format's determinism: how the work is cut for several threads decides the bytes.
constexpr int window_log = 23;
constexpr int job_size = 16 << 20;
constexpr std::size_t copy_buffer = std::size_t{1} << 20;
static_assert(copy_buffer % hole_unit == 0);

Error cancelled() { return {Errc::cancelled, "writing the bundle was cancelled"}; }

/// The packed bundle on its way out.
class Frame {
public:
    Frame(const UniqueFd& target, const BundleWriteOptions& options, std::stop_token stop)
        : fd_(target.get()),
          stop_(std::move(stop)),
          packed_(ZSTD_CStreamOutSize()),
          encoder_(ZSTD_createCCtx(), ZSTD_freeCCtx) {
        ZSTD_CCtx* const encoder = encoder_.get();
        ZSTD_CCtx_setParameter(encoder, ZSTD_c_compressionLevel, options.level);
        ZSTD_CCtx_setParameter(encoder, ZSTD_c_windowLog, window_log);
        // Never 0: that would cut the work in another way.
        const std::size_t set = ZSTD_CCtx_setParameter(
            encoder, ZSTD_c_nbWorkers, static_cast<int>(std::clamp(options.threads, 1U, 64U)));
        can_thread_ = ZSTD_isError(set) == 0;
        ZSTD_CCtx_setParameter(encoder, ZSTD_c_jobSize, job_size);
    }

    Result<void> write(std::span<const std::byte> bytes) { return pack(bytes, ZSTD_e_continue); }
    Result<void> write(std::string_view text) { return write(std::as_bytes(std::span(text))); }
    Result<void> pad(std::uint64_t size) { return write(std::string(padding_of(size), '\0')); }

    Result<void> finish() { return pack({}, ZSTD_e_end); }
    [[nodiscard]] bool can_thread() const { return can_thread_; }
    [[nodiscard]] Digest digest() const { return hash_.digest(); }
    [[nodiscard]] ByteCount size() const { return ByteCount::bytes(size_); }

private:
    Result<void> pack(std::span<const std::byte> bytes, ZSTD_EndDirective how) {
        ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
        while (true) {
            if (stop_.stop_requested()) return cancelled();
            ZSTD_outBuffer out{packed_.data(), packed_.size(), 0};
            const std::size_t left = ZSTD_compressStream2(encoder_.get(), &out, &in, how);
            if (ZSTD_isError(left) != 0)
                return Error(Errc::internal, std::string("zstd: ") + ZSTD_getErrorName(left));
            BANGER_TRY(put(std::span(packed_).first(out.pos)));
            if (how == ZSTD_e_end ? left == 0 : in.pos == in.size) return ok();
        }
    }

    Result<void> put(std::span<const std::byte> bytes) {
        hash_.add(as_chars(bytes));
        size_ += bytes.size();
        while (!bytes.empty()) {
            BANGER_TRY(poll_fd(fd_, POLLOUT, std::chrono::milliseconds(-1), stop_));
            const ssize_t count = ::write(fd_, bytes.data(), bytes.size());
            if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
            if (count < 0) return Error::from_errno(errno, "writing the bundle");
            bytes = bytes.subspan(static_cast<std::size_t>(count));
        }
        return ok();
    }

    int fd_;
    std::stop_token stop_;
    std::vector<std::byte> packed_;
    std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> encoder_;
    Sha256 hash_;
    std::uint64_t size_ = 0;
    bool can_thread_ = false;
};

/// A content after its first reading.
struct Measured {
    std::vector<Extent> extents;  ///< of a sparse file; else one, the whole
    BundleFile file;
};

class Writer {
public:
    Writer(const BundleWriteOptions& options, std::stop_token stop)
        : options_(options), stop_(std::move(stop)) {}

    void expect(std::uint64_t bytes) { total_ += bytes; }

    Result<Measured> measure(const BundleMember& member, DiskBytes& disk) {
        Measured measured{{}, {std::string(member.name), disk.size(), {}, Sha256().digest()}};
        Sha256 hash;
        std::uint64_t stored = 0;
        const auto take = [&](std::uint64_t offset, std::span<const std::byte> bytes) {
            hash.add(as_chars(bytes));
            stored += bytes.size();
            std::vector<Extent>& extents = measured.extents;
            if (!extents.empty() && extents.back().end() == offset)
                extents.back().length += bytes.size();
            else
                extents.push_back({offset, bytes.size()});
        };
        if (member.is_sparse) {
            BANGER_TRY(scan(disk, take));
            hash.add(sparse_map(measured.extents));
        } else {
            BANGER_TRY(each_piece(disk, {0, disk.size().count()},
                                  [&](std::uint64_t offset, std::span<const std::byte> bytes) {
                                      take(offset, bytes);
                                      return ok();
                                  }));
        }
        if (measured.extents.size() > max_extents)
            return Error(Errc::unsupported, measured.file.name + " has too many holes");
        measured.file.stored = ByteCount::bytes(stored);
        measured.file.digest = hash.digest();
        return measured;
    }

    Result<void> write(const BundleMember& member, const Measured& measured, DiskBytes& disk,
                       Frame& frame) {
        const BundleFile& file = measured.file;
        Sha256 hash;
        std::string map;
        if (member.is_sparse) {
            map = sparse_map(measured.extents);
            const std::uint64_t map_size = map.size() + padding_of(map.size());
            BANGER_TRY(
                frame.write(sparse_headers(file.name, file.size, map_size + file.stored.count())));
            BANGER_TRY(frame.write(map));
            BANGER_TRY(frame.pad(map.size()));
        } else {
            BANGER_TRY(frame.write(plain_header(file.name, file.size.count())));
        }
        for (const Extent& extent : measured.extents)
            BANGER_TRY(each_piece(
                disk, extent, [&](std::uint64_t, std::span<const std::byte> bytes) -> Result<void> {
                    hash.add(as_chars(bytes));
                    return frame.write(bytes);
                }));
        hash.add(map);
        BANGER_TRY(frame.pad(file.stored.count()));
        if (hash.digest() == file.digest) return ok();
        return Error(Errc::busy, file.name + " changed while it was read",
                     "Try again when nothing uses it.");
    }

private:
    /// Calls take(offset, bytes) for each stretch of units that are not all zeros.
    template <class Take>
    Result<void> scan(DiskBytes& disk, const Take& take) {
        const std::uint64_t size = disk.size().count();
        std::uint64_t at = 0;
        while (true) {
            const std::optional<Extent> found = BANGER_TRY(disk.next_data(at));
            if (!found) return ok();
            // In whole units, and never one twice.
            const std::uint64_t begin = std::max(at, found->offset - found->offset % hole_unit);
            const std::uint64_t end =
                std::min((found->end() + hole_unit - 1) / hole_unit * hole_unit, size);
            BANGER_TRY(each_piece(
                disk, {begin, end - begin},
                [&](std::uint64_t offset, std::span<const std::byte> bytes) -> Result<void> {
                    while (!bytes.empty()) {
                        const std::span<const std::byte> unit =
                            bytes.first(static_cast<std::size_t>(
                                std::min<std::uint64_t>(hole_unit, bytes.size())));
                        if (!is_zero(unit)) take(offset, unit);
                        offset += unit.size();
                        bytes = bytes.subspan(unit.size());
                    }
                    return ok();
                }));
            at = end;
        }
    }

    static bool is_zero(std::span<const std::byte> bytes) {
        return bytes[0] == std::byte{0} &&
               std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
    }

    template <class Take>
    Result<void> each_piece(DiskBytes& disk, Extent extent, const Take& take) {
        while (extent.length > 0) {
            if (stop_.stop_requested()) return cancelled();
            const std::span<std::byte> piece = std::span(buffer_).first(
                static_cast<std::size_t>(std::min<std::uint64_t>(extent.length, buffer_.size())));
            BANGER_TRY(disk.read(extent.offset, piece));
            BANGER_TRY(take(extent.offset, std::span<const std::byte>(piece)));
            extent.offset += piece.size();
            extent.length -= piece.size();
            done_ += piece.size();
            if (options_.on_progress) options_.on_progress(done_, std::max(total_, done_));
        }
        return ok();
    }

    const BundleWriteOptions& options_;
    std::stop_token stop_;
    std::vector<std::byte> buffer_ = std::vector<std::byte>(copy_buffer);
    std::uint64_t done_ = 0;
    std::uint64_t total_ = 0;
};

/// Bytes that may be data: what the first reading has to look at.
Result<std::uint64_t> data_of(DiskBytes& disk) {
    std::uint64_t sum = 0;
    std::optional<Extent> found = BANGER_TRY(disk.next_data(0));
    while (found) {
        sum += found->length;
        found = BANGER_TRY(disk.next_data(found->end()));
    }
    return sum;
}

}  // namespace

Result<WrittenBundle> write_bundle(BundleManifest manifest, std::span<DiskBytes* const> files,
                                   const UniqueFd& target, const BundleWriteOptions& options,
                                   std::stop_token stop) {
    const std::span<const BundleMember> members = bundle_members(manifest.kind);
    if (files.size() != members.size())
        return Error(Errc::invalid_argument, "a bundle needs each of its files");
    Writer writer(options, stop);
    for (std::size_t i = 0; i < files.size(); ++i) {
        if (members[i].is_sparse) {
            const ByteCount size = BANGER_TRY(
                ext4_size(*files[i]).context("looking at " + std::string(members[i].name)));
            if (size != files[i]->size())
                return Error(Errc::corrupt, std::string(members[i].name) +
                                                " has another size than its file system");
        }
        writer.expect(2 * BANGER_TRY(data_of(*files[i])));
    }
    std::vector<Measured> measured;
    manifest.files.clear();
    for (std::size_t i = 0; i < files.size(); ++i) {
        measured.push_back(BANGER_TRY(writer.measure(members[i], *files[i])));
        manifest.files.push_back(measured.back().file);
    }
    const std::string text = encode_bundle_manifest(manifest);
    // What we would refuse to read we do not write.
    BANGER_TRY(decode_bundle_manifest(text).context("describing the bundle"));

    Frame frame(target, options, stop);
    if (!frame.can_thread())
        return Error(Errc::unsupported, "this libzstd was built without threads",
                     "Use the one of the distribution.");
    BANGER_TRY(frame.write(plain_header(manifest_name, text.size())));
    BANGER_TRY(frame.write(text));
    BANGER_TRY(frame.pad(text.size()));
    for (std::size_t i = 0; i < files.size(); ++i)
        BANGER_TRY(writer.write(members[i], measured[i], *files[i], frame));
    BANGER_TRY(frame.write(std::string(2 * tar_block, '\0')));
    BANGER_TRY(frame.finish());
    const Digest digest = frame.digest();
    return WrittenBundle{std::move(manifest), digest, frame.size()};
}

}  // namespace banger::images

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>

#include "core/base/names.hpp"
#include "core/base/process.hpp"
#include "core/images/bundle.hpp"
#include "core/images/bundle_format.hpp"
#include "core/images/sha256.hpp"

namespace banger::images {

namespace {

/// 2^27 = 128 MiB. What `zstd` itself takes without being told to.
constexpr int max_window_log = 27;
constexpr std::array<unsigned char, 4> magic{0x28, 0xb5, 0x2f, 0xfd};  // RFC 8878, 3.1.1
constexpr std::size_t packed_buffer = std::size_t{256} << 10;
constexpr std::size_t copy_buffer = std::size_t{1} << 20;
constexpr std::uint64_t max_map = std::uint64_t{48} << 20;
/// The end of a tar archive: two blocks of zeros.
constexpr std::uint64_t end_size = 2 * tar_block;

Error corrupt(std::string why) {
    return {Errc::corrupt, "the bundle is damaged: " + std::move(why),
            "Fetch it again; if it stays so, tell its publisher."};
}

/// The unpacked bytes of one zstd frame that must be all there is.
class Frame {
public:
    Frame(const UniqueFd& bundle, const BundleLimits& limits, std::stop_token stop)
        : fd_(bundle.get()),
          limits_(limits),
          stop_(std::move(stop)),
          packed_(packed_buffer),
          decoder_(ZSTD_createDCtx(), ZSTD_freeDCtx) {
        ZSTD_DCtx_setParameter(decoder_.get(), ZSTD_d_windowLogMax, max_window_log);
    }

    /// Fills `into`, whole.
    Result<void> read(std::span<std::byte> into) {
        while (!into.empty())
            into = into.subspan(BANGER_TRY(step(into)));
        return ok();
    }

    Result<std::string> read_text(std::uint64_t size) {
        std::string text(size, '\0');
        BANGER_TRY(read(std::as_writable_bytes(std::span(text))));
        return text;
    }

    /// Nothing may follow, neither in the frame nor after it.
    Result<void> finish() {
        while (!is_over_) {
            std::byte more{};
            if (BANGER_TRY(step({&more, 1})) > 0) return corrupt("something follows its last file");
        }
        if (at_ == end_) BANGER_TRY(fill());
        if (at_ != end_) return corrupt("something follows its end");
        return ok();
    }

private:
    /// Unpacks some of what comes next, or takes some of the input, or both. How much came out.
    Result<std::size_t> step(std::span<std::byte> into) {
        while (true) {
            if (is_over_) return corrupt("it ends too early");
            ZSTD_inBuffer in{packed_.data() + at_, end_ - at_, 0};
            ZSTD_outBuffer out{into.data(), into.size(), 0};
            // The decoder may still hold something of the input it had before.
            const std::size_t left =
                packed_total_ == 0 ? 1 : ZSTD_decompressStream(decoder_.get(), &out, &in);
            if (ZSTD_isError(left) != 0) return corrupt(ZSTD_getErrorName(left));
            at_ += in.pos;
            unpacked_ += out.pos;
            is_over_ = left == 0;
            BANGER_TRY(check_ratio());
            if (out.pos > 0 || is_over_) return out.pos;
            if (in.pos > 0) continue;
            if (at_ < end_) return corrupt("it does not unpack");
            BANGER_TRY(fill());
            if (at_ == end_) return corrupt("it ends too early");
        }
    }

    /// The next packed bytes; none at the end.
    Result<void> fill() {
        at_ = end_ = 0;
        while (true) {
            BANGER_TRY(poll_fd(fd_, POLLIN, std::chrono::milliseconds(-1), stop_));
            const ssize_t count = ::read(fd_, packed_.data() + end_, packed_.size() - end_);
            if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
            if (count < 0) return Error::from_errno(errno, "reading the bundle");
            end_ += static_cast<std::size_t>(count);
            // A pipe may bring the first four one by one.
            if (count == 0 || packed_total_ + end_ >= magic.size()) break;
        }
        if (packed_total_ == 0) BANGER_TRY(check_magic());
        packed_total_ += end_;
        return ok();
    }

    /// A skippable frame in front would be a place to hide something (RFC 8878, 3.1.2).
    Result<void> check_magic() const {
        if (end_ >= magic.size() && std::memcmp(packed_.data(), magic.data(), magic.size()) == 0)
            return ok();
        return corrupt("it is not packed with zstd");
    }

    Result<void> check_ratio() const {
        if (unpacked_ <= limits_.free_of_ratio.count()) return ok();
        const std::uint64_t packed = packed_total_ - (end_ - at_);
        if ((unpacked_ - limits_.free_of_ratio.count()) / limits_.ratio <= packed) return ok();
        return corrupt("it grows more than " + std::to_string(limits_.ratio) +
                       " times while it is unpacked");
    }

    int fd_;
    const BundleLimits& limits_;
    std::stop_token stop_;
    std::vector<std::byte> packed_;
    std::size_t at_ = 0;
    std::size_t end_ = 0;
    std::uint64_t packed_total_ = 0;
    std::uint64_t unpacked_ = 0;
    bool is_over_ = false;
    std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> decoder_;
};

Result<void> write_at(int fd, std::uint64_t offset, std::span<const std::byte> bytes,
                      std::string_view name) {
    while (!bytes.empty()) {
        const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "writing " + std::string(name));
        bytes = bytes.subspan(static_cast<std::size_t>(count));
        offset += static_cast<std::uint64_t>(count);
    }
    return ok();
}

/// One line of a sparse map.
Result<std::uint64_t> take_number(std::string_view& text) {
    const std::size_t end = text.find('\n');
    std::uint64_t value = 0;
    if (end == std::string_view::npos || end == 0 || end > 20 || (text[0] == '0' && end > 1))
        return corrupt("its sparse map is not a list of numbers");
    const auto [rest, problem] = std::from_chars(text.data(), text.data() + end, value);
    if (problem != std::errc() || rest != text.data() + end)
        return corrupt("its sparse map is not a list of numbers");
    text.remove_prefix(end + 1);
    return value;
}

/// The stretches of data, in order, inside the file, and together as long as the manifest says.
Result<std::vector<Extent>> parse_map(std::string_view text, const BundleFile& file) {
    const std::uint64_t count = BANGER_TRY(take_number(text));
    if (count > max_extents) return corrupt("its sparse map is too long");
    std::vector<Extent> extents;
    std::uint64_t end = 0;
    std::uint64_t stored = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t offset = BANGER_TRY(take_number(text));
        const std::uint64_t length = BANGER_TRY(take_number(text));
        const std::uint64_t size = file.size.count();
        const bool follows = extents.empty() || offset > end;
        if (!follows || length == 0 || offset > size || length > size - offset)
            return corrupt("its sparse map overlaps or points outside of " + file.name);
        extents.push_back({offset, length});
        end = offset + length;
        stored += length;
    }
    if (stored != file.stored.count())
        return corrupt("its sparse map has another size than the manifest says");
    if (text.size() >= tar_block || text.find_first_not_of('\0') != std::string_view::npos)
        return corrupt("something follows its sparse map");
    return extents;
}

class Reader {
public:
    Reader(const UniqueFd& bundle, const BundleReadOptions& options, std::stop_token stop)
        : options_(options), frame_(bundle, options.limits, std::move(stop)) {}

    Result<BundleManifest> read_manifest(ArtifactKind wanted) {
        const std::string header = BANGER_TRY(frame_.read_text(tar_block));
        const std::optional<std::uint64_t> size = read_size_field(header);
        if (!size || header != plain_header(manifest_name, *size))
            return unexpected_member(header, manifest_name);
        if (*size > max_bundle_manifest.count()) return corrupt("its manifest is too large");
        const std::string text = BANGER_TRY(frame_.read_text(*size));
        BANGER_TRY(skip_padding(*size));
        BundleManifest manifest = BANGER_TRY(decode_bundle_manifest(text));
        if (manifest.kind != wanted)
            return Error(
                Errc::invalid_argument,
                "the bundle holds " +
                    std::string(manifest.kind == ArtifactKind::image ? "an image" : "a kernel"),
                manifest.kind == ArtifactKind::image ? "Pull it with `banger image pull`."
                                                     : "Pull it with `banger kernel pull`.");
        for (std::size_t i = 0; i < manifest.files.size(); ++i) {
            const BundleFile& file = manifest.files[i];
            const BundleMember& member = bundle_members(wanted)[i];
            if (file.size > options_.limits.*member.limit)
                return corrupt(file.name + " of " + file.size.text() + " is larger than " +
                               (options_.limits.*member.limit).text());
            if (file.stored > file.size || (!member.is_sparse && file.stored != file.size))
                return corrupt(file.name + " stores more or less than its size");
            total_ += file.stored.count();
        }
        return manifest;
    }

    Result<void> read_file(const BundleMember& member, const BundleFile& file, int target) {
        Sha256 hash;
        if (::ftruncate(target, static_cast<off_t>(file.size.count())) != 0)
            return Error::from_errno(errno, "making room for " + file.name);
        if (!member.is_sparse) {
            const std::string header = BANGER_TRY(frame_.read_text(tar_block));
            if (header != plain_header(file.name, file.size.count()))
                return unexpected_member(header, file.name);
            BANGER_TRY(copy({0, file.size.count()}, target, file.name, hash));
            BANGER_TRY(skip_padding(file.size.count()));
        } else {
            const std::uint64_t map_size = BANGER_TRY(read_sparse_headers(file));
            const std::string map = BANGER_TRY(frame_.read_text(map_size));
            const std::vector<Extent> extents = BANGER_TRY(parse_map(map, file));
            for (const Extent& extent : extents)
                BANGER_TRY(copy(extent, target, file.name, hash));
            hash.add(sparse_map(extents));
            BANGER_TRY(skip_padding(file.stored.count()));
        }
        if (hash.digest() == file.digest) return ok();
        return corrupt(file.name + " has another digest than its manifest says");
    }

    Result<void> finish() {
        BANGER_TRY(skip_zeros(end_size));
        return frame_.finish();
    }

private:
    /// The size of the map, with padding.
    Result<std::uint64_t> read_sparse_headers(const BundleFile& file) {
        const std::string expected = sparse_headers(file.name, file.size, 0);
        const std::string headers = BANGER_TRY(frame_.read_text(expected.size()));
        const std::string_view last = std::string_view(headers).substr(headers.size() - tar_block);
        const std::optional<std::uint64_t> member = read_size_field(last);
        if (!member || headers != sparse_headers(file.name, file.size, *member))
            return unexpected_member(headers, file.name);
        if (*member < file.stored.count() || *member - file.stored.count() > max_map ||
            (*member - file.stored.count()) % tar_block != 0 || *member == file.stored.count())
            return corrupt(file.name + " has another size than the manifest says");
        return *member - file.stored.count();
    }

    Result<void> copy(Extent extent, int target, std::string_view name, Sha256& hash) {
        while (extent.length > 0) {
            const std::span<std::byte> piece = std::span(buffer_).first(
                static_cast<std::size_t>(std::min<std::uint64_t>(extent.length, buffer_.size())));
            BANGER_TRY(frame_.read(piece));
            hash.add(as_chars(piece));
            BANGER_TRY(write_at(target, extent.offset, piece, name));
            extent.offset += piece.size();
            extent.length -= piece.size();
            done_ += piece.size();
            if (options_.on_progress) options_.on_progress(done_, total_);
        }
        return ok();
    }

    Result<void> skip_padding(std::uint64_t size) { return skip_zeros(padding_of(size)); }

    Result<void> skip_zeros(std::uint64_t count) {
        const std::string zeros = BANGER_TRY(frame_.read_text(count));
        if (zeros.find_first_not_of('\0') == std::string::npos) return ok();
        return corrupt("something stands where nothing should");
    }

    /// Any other header: another name, type, owner, an extra or missing file, another order.
    static Error unexpected_member(std::string_view header, std::string_view wanted) {
        const std::string_view name = header.substr(0, 100);
        return corrupt("where " + std::string(wanted) + " should be there is " +
                       quoted(name.substr(0, name.find('\0'))) +
                       ", or it is not in the form that `banger image publish` writes");
    }

    const BundleReadOptions& options_;
    Frame frame_;
    std::vector<std::byte> buffer_ = std::vector<std::byte>(copy_buffer);
    std::uint64_t done_ = 0;
    std::uint64_t total_ = 0;
};

/// The file system must fill its file: no more, no less.
Result<void> check_ext4(const UniqueFd& file, const std::string& name) {
    const std::unique_ptr<DiskBytes> disk = BANGER_TRY(open_raw_disk(file, {}));
    const Result<ByteCount> size = ext4_size(*disk);
    if (!size) return corrupt(name + ": " + size.error().message);
    if (*size == disk->size()) return ok();
    return corrupt(name + " has " + std::to_string(disk->size().count()) +
                   " bytes, but its file system " + std::to_string(size->count()));
}

Result<void> check_start(int fd, std::string_view name, std::string_view wanted) {
    std::string start(wanted.size(), '\0');
    if (::pread(fd, start.data(), start.size(), 0) == static_cast<ssize_t>(start.size()) &&
        start == wanted)
        return ok();
    return corrupt(std::string(name) + " is not what its name says");
}

}  // namespace

Result<BundleManifest> read_image_bundle(const UniqueFd& bundle, const UniqueFd& image,
                                         const BundleReadOptions& options, std::stop_token stop) {
    Reader reader(bundle, options, std::move(stop));
    BundleManifest manifest = BANGER_TRY(reader.read_manifest(ArtifactKind::image));
    BANGER_TRY(
        reader.read_file(bundle_members(ArtifactKind::image)[0], manifest.files[0], image.get()));
    BANGER_TRY(reader.finish());
    BANGER_TRY(check_ext4(image, manifest.files[0].name));
    return manifest;
}

Result<BundleManifest> read_kernel_bundle(const UniqueFd& bundle, const UniqueFd& folder,
                                          const BundleReadOptions& options, std::stop_token stop) {
    Reader reader(bundle, options, std::move(stop));
    BundleManifest manifest = BANGER_TRY(reader.read_manifest(ArtifactKind::kernel));
    std::vector<UniqueFd> files;
    for (std::size_t i = 0; i < manifest.files.size(); ++i) {
        const BundleMember& member = bundle_members(ArtifactKind::kernel)[i];
        const std::string name(member.name);
        files.emplace_back(::openat(folder.get(), name.c_str(),
                                    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
        if (!files.back()) return Error::from_errno(errno, "making " + name);
        BANGER_TRY(reader.read_file(member, manifest.files[i], files.back().get()));
    }
    BANGER_TRY(reader.finish());
    BANGER_TRY(check_start(files[0].get(), "vmlinux",
                           "\x7f"
                           "ELF"));
    BANGER_TRY(check_start(files[1].get(), "initramfs.img", "070701"));  // cpio, "newc"
    BANGER_TRY(check_ext4(files[2], manifest.files[2].name));
    for (const UniqueFd& file : files)
        if (::fsync(file.get()) != 0) return Error::from_errno(errno, "writing the kernel");
    return manifest;
}

}  // namespace banger::images

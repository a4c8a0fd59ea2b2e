#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/file.hpp"
#include "core/images/bundle.hpp"
#include "core/images/bundle_format.hpp"
#include "core/images/ext4_image.hpp"
#include "core/images/sha256.hpp"
#include "tests/images/tar_builder.hpp"

/// Bundles to test with, and the pieces to make wrong ones of.
namespace banger::images {

inline UniqueFd empty_file() { return UniqueFd(::memfd_create("file", MFD_CLOEXEC)); }

inline std::string content_of(const UniqueFd& file) {
    EXPECT_EQ(::lseek(file.get(), 0, SEEK_SET), 0);
    return read_all(file.get(), ByteCount::gib(2)).value();
}

inline std::uint64_t allocated(const UniqueFd& file) {
    struct stat status {};
    EXPECT_EQ(::fstat(file.get(), &status), 0);
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

/// An ext4 file system of that size with something in the middle.
inline UniqueFd some_ext4(ByteCount size, const std::string& note = "some content") {
    UniqueFd file = empty_file();
    EXPECT_TRUE(make_empty_ext4(file, {.size = size, .label = "test", .identity = note}));
    const std::string block = note + std::string(5000, 'x');
    EXPECT_EQ(
        ::pwrite(file.get(), block.data(), block.size(), static_cast<off_t>(size.count() / 2)),
        static_cast<ssize_t>(block.size()));
    return file;
}

inline BundleManifest image_manifest() {
    return {.kind = ArtifactKind::image,
            .name = ArtifactName::parse("team-base").value(),
            .distro = "debian-12",
            .architecture = "amd64",
            .description = "what the team works on",
            .kernel_reference = "debian-cloud",
            .kernel_version = {},
            .run_config = {{"PATH=/bin", "B=two words"}, "/srv", "1000", {"/init"}, {"sh", ""}},
            .files = {}};
}

inline BundleManifest kernel_manifest() {
    return {.kind = ArtifactKind::kernel,
            .name = ArtifactName::parse("team-kernel").value(),
            .distro = "debian-12",
            .architecture = "amd64",
            .description = "what the team boots",
            .kernel_reference = {},
            .kernel_version = "6.1.0-50-cloud-amd64",
            .run_config = {},
            .files = {}};
}

inline Result<WrittenBundle> write_from(BundleManifest manifest,
                                        const std::vector<const UniqueFd*>& files,
                                        const UniqueFd& target, unsigned threads = 1) {
    std::vector<std::unique_ptr<DiskBytes>> disks;
    std::vector<DiskBytes*> pointers;
    for (const UniqueFd* file : files) {
        disks.push_back(BANGER_TRY(open_raw_disk(*file, {})));
        pointers.push_back(disks.back().get());
    }
    return write_bundle(std::move(manifest), pointers, target, {.threads = threads, .level = 1},
                        {});
}

inline std::string packed(std::string_view text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 1));
    return out;
}

/// The archive inside: of a bundle that is small enough.
inline std::string unpacked(std::string_view bundle) {
    std::string out(std::size_t{4} << 20, '\0');
    const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> decoder(ZSTD_createDCtx(),
                                                                          ZSTD_freeDCtx);
    ZSTD_inBuffer in{bundle.data(), bundle.size(), 0};
    ZSTD_outBuffer into{out.data(), out.size(), 0};
    while (in.pos < in.size)
        if (ZSTD_isError(ZSTD_decompressStream(decoder.get(), &into, &in)) != 0) return {};
    out.resize(into.pos);
    return out;
}

}  // namespace banger::images

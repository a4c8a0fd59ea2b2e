#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <zstd.h>
#include "core/images/bundle.hpp"
#include "core/images/bundle_format.hpp"
#include "tests/fuzz/require.hpp"

namespace {

using namespace banger;
using namespace banger::images;

UniqueFd file_of(std::string_view bytes) {
    UniqueFd file(::memfd_create("bundle", MFD_CLOEXEC));
    if (::write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
        __builtin_trap();
    ::lseek(file.get(), 0, SEEK_SET);
    return file;
}

void read_one(std::string_view bundle) {
    BundleReadOptions options;
    // Small enough that a run is quick.
    options.limits.root_file_system = ByteCount::mib(64);
    options.limits.free_of_ratio = ByteCount::mib(8);
    const UniqueFd image(::memfd_create("image", MFD_CLOEXEC));
    const Result<BundleManifest> read = read_image_bundle(file_of(bundle), image, options, {});
    if (!read) {
        if (read.error().code == Errc::internal || read.error().message.empty()) __builtin_trap();
        return;
    }
    // What was taken is whole, and means the same once more.
    if (!(decode_bundle_manifest(encode_bundle_manifest(*read)).value() == *read)) __builtin_trap();
    const std::unique_ptr<DiskBytes> disk = open_raw_disk(image, {}).value();
    if (ext4_size(*disk).value() != read->files[0].size) __builtin_trap();
}

}  // namespace

/// Any bytes are a bundle or an error. The first byte chooses: as it comes, or what is inside of
/// the frame, which the fuzzer could not pack itself.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
    if (data[0] % 2 == 0) {
        read_one(rest);
        return 0;
    }
    std::string packed(ZSTD_compressBound(rest.size()), '\0');
    packed.resize(ZSTD_compress(packed.data(), packed.size(), rest.data(), rest.size(), 1));
    read_one(packed);
    return 0;
}

// Any bytes as one layer, or cut into two: the writer must refuse them or make a file system whose
// inodes libext2fs can read back with right checksums. The last byte says which; header checksums
// are not looked at in fuzzing builds, because no mutation would survive them.
#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "core/images/ext4_image.hpp"

namespace {

banger::UniqueFd memory(std::span<const std::uint8_t> bytes) {
    banger::UniqueFd fd(::memfd_create("fuzz", MFD_CLOEXEC));
    if (::write(fd.get(), bytes.data(), bytes.size()) != static_cast<::ssize_t>(bytes.size()))
        std::abort();
    ::lseek(fd.get(), 0, SEEK_SET);
    return fd;
}

void read_back(int image) {
    ext2_filsys fs = nullptr;
    const std::string path = "/proc/self/fd/" + std::to_string(image);
    if (ext2fs_open(path.c_str(), EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs) != 0) std::abort();
    if (ext2fs_read_bitmaps(fs) != 0) std::abort();
    ext2_inode_scan scan = nullptr;
    if (ext2fs_open_inode_scan(fs, 0, &scan) != 0) std::abort();
    ext2_ino_t number = 0;
    ext2_inode inode{};
    do {
        if (ext2fs_get_next_inode(scan, &number, &inode) != 0) std::abort();
    } while (number != 0);
    ext2fs_close_inode_scan(scan);
    ext2fs_free(fs);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace banger;
    const std::span<const std::uint8_t> all(data, size);
    std::vector<UniqueFd> layers;
    if (size > 1024 && data[size - 1] & 1) {
        const std::size_t half = size / 1024 * 512;
        layers.push_back(memory(all.first(half)));
        layers.push_back(memory(all.subspan(half)));
    } else {
        layers.push_back(memory(all));
    }
    const UniqueFd image(::memfd_create("image", MFD_CLOEXEC));
    images::Ext4Options options;
    options.size = ByteCount::mib(16);
    options.limits = {.entries = 500, .data = ByteCount::mib(4), .depth = 50};
    const Result<images::Ext4Summary> summary =
        images::write_ext4_from_layers(layers, image, options, {});
    if (summary) read_back(image.get());
    if (!summary && summary.error().code == Errc::internal) std::abort();
    return 0;
}

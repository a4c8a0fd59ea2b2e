// Any bytes as one to four layers: the writer must refuse them or make a file system whose inodes
// libext2fs can read back with right checksums, and in which every name leads to one. The last byte
// says how many layers (its two low bits, 0 for one), the two bytes before it for each layer but
// the last how many kilobytes it has. Header checksums are not looked at in fuzzing builds, because
// no mutation would survive them.
#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
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

std::vector<banger::UniqueFd> cut(std::span<const std::uint8_t> bytes) {
    std::vector<banger::UniqueFd> layers;
    if (bytes.empty()) return layers;
    std::size_t more = bytes.back() & 3;
    if (bytes.size() < 1 + 2 * more) more = 0;
    const std::span<const std::uint8_t> lengths = bytes.subspan(bytes.size() - 1 - 2 * more);
    bytes = bytes.first(bytes.size() - 1 - 2 * more);
    for (std::size_t i = 0; i < more; ++i) {
        const std::size_t wanted =
            (std::size_t{lengths[2 * i]} | std::size_t{lengths[2 * i + 1]} << 8U) * 1024;
        const std::size_t length = std::min(bytes.size(), wanted);
        layers.push_back(memory(bytes.first(length)));
        bytes = bytes.subspan(length);
    }
    layers.push_back(memory(bytes));
    return layers;
}

int check_name(ext2_ino_t, int, ext2_dir_entry* entry, int, int, char*, void* fs) {
    if (entry->inode != 0 &&
        !ext2fs_test_inode_bitmap2(static_cast<ext2_filsys>(fs)->inode_map, entry->inode))
        std::abort();
    return 0;
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
        if (number != 0 && inode.i_links_count > 0 && LINUX_S_ISDIR(inode.i_mode) &&
            ext2fs_dir_iterate2(fs, number, 0, nullptr, check_name, fs) != 0)
            std::abort();
    } while (number != 0);
    ext2fs_close_inode_scan(scan);
    ext2fs_free(fs);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace banger;
    const std::vector<UniqueFd> layers = cut({data, size});
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

#include "plugins/storage-file/qcow2.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

namespace banger::qcow2 {

namespace {

constexpr std::uint32_t magic = 0x514649fb;  // "QFI" and 0xfb
constexpr std::uint32_t version = 3;
constexpr std::uint32_t header_length = 104;
constexpr std::uint32_t cluster_bits = 16;
constexpr std::uint64_t cluster = std::uint64_t{1} << cluster_bits;
constexpr std::uint32_t refcount_order = 4;  // 16 bits each
constexpr std::uint32_t backing_format_extension = 0xe2792aca;
constexpr std::size_t max_backing_name = 1023;

/// Where an overlay of ours has its parts, in clusters: the header, one refcount table, one
/// refcount block, then the L1 table.
constexpr std::uint64_t refcount_table_at = 1;
constexpr std::uint64_t refcount_block_at = 2;
constexpr std::uint64_t l1_table_at = 3;
/// What one refcount block can count: all of the header, far more than we use.
constexpr std::uint64_t entries_per_cluster = cluster / 8;

/// Big-endian, at most 8 bytes.
void put(std::string& out, std::uint64_t value, int bytes) {
    for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8)
        out += static_cast<char>(value >> shift & 0xff);
}

std::uint64_t get(std::string_view bytes, std::size_t offset, std::size_t count) {
    std::uint64_t value = 0;
    for (const char c : bytes.substr(offset, count))
        value = value << 8 | static_cast<unsigned char>(c);
    return value;
}

Result<void> write_at(int fd, std::string_view bytes, std::uint64_t offset) {
    while (!bytes.empty()) {
        const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "writing the disk's header");
        bytes.remove_prefix(static_cast<std::size_t>(count));
        offset += static_cast<std::uint64_t>(count);
    }
    return ok();
}

/// The L1 table has room for 4 TiB whatever the size, so that growing never moves it.
std::uint64_t l1_entries_for(ByteCount size) {
    const std::uint64_t needed = (size.count() + bytes_per_l1_entry - 1) / bytes_per_l1_entry;
    const std::uint64_t clusters = (needed + entries_per_cluster - 1) / entries_per_cluster;
    return std::max<std::uint64_t>(clusters, 1) * entries_per_cluster;
}

Error not_ours() {
    return {Errc::corrupt, "the disk is not a qcow2 overlay of banger's",
            "Delete the machine and create it again."};
}

}  // namespace

Result<void> write_overlay(int fd, ByteCount size, std::string_view backing_file) {
    if (!backing_file.starts_with('/') || backing_file.size() > max_backing_name)
        return Error(Errc::invalid_argument,
                     "an overlay's base needs an absolute path of at most 1023 bytes",
                     "Move the image store to a shorter path.");
    // QEMU takes at most 32 MiB of L1 table.
    if (size.count() % 512 != 0 || size.count() > 64 * room_to_grow)
        return Error(Errc::invalid_argument,
                     "a disk of " + size.text() + " is not whole sectors, or over 256 TiB",
                     "Ask for a whole number of MiB.");
    const std::uint64_t l1_entries = l1_entries_for(size);
    const std::uint64_t l1_clusters = l1_entries / entries_per_cluster;

    std::string extensions;
    put(extensions, backing_format_extension, 4);
    put(extensions, 3, 4);
    extensions += std::string_view("raw\0\0\0\0\0", 8);
    put(extensions, 0, 8);  // the end of them

    std::string header;
    put(header, magic, 4);
    put(header, version, 4);
    put(header, header_length + extensions.size(), 8);
    put(header, backing_file.size(), 4);
    put(header, cluster_bits, 4);
    put(header, size.count(), 8);
    put(header, 0, 4);  // no encryption
    put(header, l1_entries, 4);
    put(header, l1_table_at * cluster, 8);
    put(header, refcount_table_at * cluster, 8);
    put(header, 1, 4);           // cluster of refcount table
    header.append(4 + 8, '\0');  // no snapshots
    header.append(8 * 3, '\0');  // no incompatible, compatible or auto-clear features
    put(header, refcount_order, 4);
    put(header, header_length, 4);
    header += extensions;
    header += backing_file;

    std::string table;
    put(table, refcount_block_at * cluster, 8);
    std::string block;
    for (std::uint64_t used = 0; used < l1_table_at + l1_clusters; ++used)
        put(block, 1, 2);

    if (::ftruncate(fd, static_cast<off_t>((l1_table_at + l1_clusters) * cluster)) != 0)
        return Error::from_errno(errno, "sizing the disk");
    BANGER_TRY(write_at(fd, table, refcount_table_at * cluster));
    BANGER_TRY(write_at(fd, block, refcount_block_at * cluster));
    return write_at(fd, header, 0);
}

Result<Header> read_header(int fd) {
    std::string bytes(header_length + max_backing_name + 64, '\0');
    const ssize_t count = ::pread(fd, bytes.data(), bytes.size(), 0);
    if (count < 0) return Error::from_errno(errno, "reading the disk's header");
    bytes.resize(static_cast<std::size_t>(count));
    if (bytes.size() < header_length) return not_ours();
    const std::uint64_t name_at = get(bytes, 8, 8);
    const std::uint64_t name_size = get(bytes, 16, 4);
    if (get(bytes, 0, 4) != magic || get(bytes, 4, 4) != version ||
        get(bytes, 20, 4) != cluster_bits || name_size > max_backing_name ||
        (name_size != 0 &&
         (name_at < header_length || name_at > bytes.size() || name_size > bytes.size() - name_at)))
        return not_ours();
    Header header;
    header.size = ByteCount::bytes(get(bytes, 24, 8));
    header.l1_entries = get(bytes, 36, 4);
    header.backing_file = bytes.substr(name_at, name_size);
    return header;
}

Result<void> grow(int fd, ByteCount size) {
    const Header header = BANGER_TRY(read_header(fd));
    if (size < header.size)
        return Error(Errc::invalid_argument, "a disk only grows", "Ask for a larger size.");
    if (size.count() / bytes_per_l1_entry >= header.l1_entries || size.count() % 512 != 0)
        return Error(Errc::unsupported, "this disk cannot grow to " + size.text(),
                     "Ask for at most 4 TiB, in whole MiB.");
    std::string bytes;
    put(bytes, size.count(), 8);
    BANGER_TRY(write_at(fd, bytes, 24));
    if (::fsync(fd) != 0) return Error::from_errno(errno, "fsync");
    return ok();
}

}  // namespace banger::qcow2

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "core/images/layer_stream.hpp"

namespace banger::images {

/// A run of a file that has data; between runs are holes.
struct DataRun {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    friend bool operator==(const DataRun&, const DataRun&) = default;
};

struct TarTime {
    std::int64_t seconds = 0;
    std::uint32_t nanoseconds = 0;
    friend bool operator==(const TarTime&, const TarTime&) = default;
};

/// One entry of a tar stream. Names are the archive's bytes, neither decoded nor normalised.
struct TarEntry {
    enum class Type { file, hard_link, symlink, character_device, block_device, folder, fifo };

    Type type = Type::file;
    std::string path;         ///< as it stands: "./usr/bin/", "/etc/passwd", "../x"
    std::string link_target;  ///< of a hard or symbolic link
    std::uint32_t mode = 0;   ///< permission, set-id and sticky bits
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    TarTime modified;
    std::uint32_t device_major = 0;
    std::uint32_t device_minor = 0;
    std::uint64_t size = 0;  ///< of a file, holes included
    /// Full name ("security.capability") → value. POSIX ACLs have the value that getxattr(2) would
    /// give.
    std::map<std::string, std::string> attributes;
};

/// Some data of the current file.
struct TarData {
    std::uint64_t offset = 0;          ///< in the file
    std::span<const std::byte> bytes;  ///< valid until the next call; empty: no more data
    std::uint64_t left_in_run = 0;     ///< of the run these bytes are in, counting them
};

/// Reads ustar, PAX and GNU tar, with every way these have to say "sparse".
///
/// Own code, not libarchive's reader, because that one turns PAX names into the locale's character
/// set and normal form C (so that a name of an image would change) and takes an archive without its
/// end mark, as a killed writer leaves it, for whole whoever wrote it.
///
/// Strict: a wrong checksum, a number out of range, an unknown type, a missing end mark are
/// Errc::corrupt. What it holds in memory is bounded: extended headers by 4 MiB, runs by a million
/// a file. Sources: POSIX.1-2017 pax; GNU tar manual, appendix D; star(5).
class TarReader {
public:
    /// `needs_end_mark`: an archive that stops between two entries without one is damaged, because
    /// that is what a killed writer leaves.
    TarReader(LayerStream& stream, bool needs_end_mark);

    /// Moves to the next entry, past what was not read of the one before. False at the end of the
    /// archive; the stream has then been read to its end, so that its writer is not cut off.
    Result<bool> next(TarEntry& entry);
    /// The next data of the entry that next() gave.
    Result<TarData> read();

private:
    using Records = std::map<std::string, std::string, std::less<>>;
    struct Header;

    Result<bool> next_header(Header& header, bool may_end);
    Result<std::string> read_text(std::uint64_t size, std::uint64_t& allowance);
    Result<void> read_records(std::uint64_t size, Records& into, std::uint64_t& allowance);
    Result<void> skip(std::uint64_t count);
    Result<void> drain();
    Result<void> fill(const Header& header, const Records& own, TarEntry& entry);
    Result<void> apply_records(const Records& records, TarEntry& entry, std::uint64_t& stored);
    Result<void> find_runs(const Header& header, const Records& own, std::uint64_t stored,
                           TarEntry& entry);
    Result<void> add_run(std::uint64_t offset, std::uint64_t length);
    Result<void> read_gnu_map(const Header& header, TarEntry& entry);
    Result<void> read_pax_map(std::uint64_t& stored);

    LayerStream& stream_;
    bool needs_end_mark_;
    Records global_;
    std::uint64_t global_allowance_;  ///< bytes that global headers may still have
    std::optional<std::string> long_name_;
    std::optional<std::string> long_link_;
    std::vector<DataRun> runs_;   ///< of the current entry: ascending and apart
    std::size_t run_ = 0;         ///< being read
    std::uint64_t run_done_ = 0;  ///< bytes of it handed out
    std::uint64_t left_ = 0;      ///< bytes of data in the archive not handed out
    std::uint64_t padding_ = 0;   ///< after them, up to the next block
};

/// ACL text as tar carries it ("user::rwx,user:joe:r-x:1000,…", numeric ids) as the value of
/// system.posix_acl_access or _default. Errc::corrupt for anything else. Source: acl(5),
/// linux/posix_acl_xattr.h.
Result<std::string> acl_attribute_from_text(std::string_view text);

}  // namespace banger::images

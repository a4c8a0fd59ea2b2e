#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "banger/result.hpp"

namespace banger::copy {

/// One entry of a tar stream, as it stands there: nothing in it is to be believed.
struct Entry {
    enum class Type { file, hard_link, symlink, folder, other };
    Type type = Type::other;
    std::string path;
    std::string link_target;
    std::uint32_t mode = 0;
    std::int64_t modified = 0;  ///< seconds since 1970
    std::uint64_t size = 0;     ///< of a file
};

/// Reads what a guest's tar writes: ustar, GNU's long names and the pax records path, linkpath and
/// size. Small, because the command line starts in milliseconds: core/images has a reader for
/// everything else, and with it libarchive and a dozen libraries.
///
/// Strict: wrong checksums, numbers that are none, sparse files, a missing end mark are
/// Errc::corrupt. Holds a MiB at most. Blocks in read(2); one thread.
class TarSource {
public:
    explicit TarSource(int fd) : fd_(fd) {}
    /// Moves on, past what was not read of the entry before. False at the end, which is then read
    /// to the last byte so that its writer is not cut off.
    Result<bool> next(Entry& entry);
    /// Some content of the present file; 0 when it is all read.
    Result<std::size_t> read(char* buffer, std::size_t size);

private:
    using Block = std::array<char, 512>;
    Result<bool> read_block(Block& block);
    Result<std::string> read_text(std::uint64_t size);
    Result<void> skip();
    Result<void> drain();

    int fd_;
    std::uint64_t left_ = 0;     ///< of the present entry's content
    std::uint64_t padding_ = 0;  ///< after it
};

}  // namespace banger::copy

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "core/images/ext4_volume.hpp"
#include "core/images/tar_reader.hpp"

namespace banger::images {

/// Room for what is needed only while an image is made: behind the file system in the image's own
/// file, so that it takes neither memory nor a folder, and is gone with the file or when that gets
/// its final length.
class Scratch {
public:
    Scratch(int file, std::uint64_t begin) : file_(file), end_(begin) {}

    /// Where the next append() goes.
    [[nodiscard]] std::uint64_t end() const { return end_; }
    [[nodiscard]] int file() const { return file_; }
    Result<void> append(std::span<const std::byte> bytes);

private:
    int file_;
    std::uint64_t end_;
};

/// Blocks that hold part of a file, from its block `first` on.
struct FileRun {
    std::uint64_t first = 0;
    BlockRun run;
    friend bool operator==(const FileRun& a, const FileRun& b) {
        return a.first == b.first && a.run.start == b.run.start && a.run.count == b.run.count;
    }
};

/// The data of an entry, in the image already.
struct FileContent {
    std::vector<FileRun> runs;
    /// Nothing of it was written, because the file is believed not to last.
    bool is_left_out = false;
};

/// Entries of a layer that was read before its turn.
class EntryJournal {
public:
    explicit EntryJournal(Scratch& scratch) : scratch_(&scratch), begin_(scratch.end()) {}

    Result<void> append(const TarEntry& entry, const FileContent& content);
    /// Nothing can be appended after it.
    Result<void> close();

    /// Reads from the beginning, once; false at the end.
    Result<bool> next(TarEntry& entry, FileContent& content);

private:
    Result<std::span<const std::byte>> take(std::size_t count);

    Scratch* scratch_;
    std::uint64_t begin_;  ///< of what was not read back yet
    std::uint64_t end_ = 0;
    std::vector<std::byte> buffer_;  ///< not in the file yet, or read from it
    std::size_t used_ = 0;           ///< of what was read
};

}  // namespace banger::images

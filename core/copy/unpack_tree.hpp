#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger::copy {

struct UnpackRequest {
    int stream = -1;   ///< borrowed: the tar stream, from a guest
    int folder = -1;   ///< borrowed: below it, and nowhere else, things are made
    std::string from;  ///< the one name at the top of the archive; "." for the content of a folder
    std::string to;    ///< what it is called in the folder; "." puts it, content by content, there
    ByteCount limit;   ///< of all content together: what the machine's disks can hold
    std::uint64_t max_entries = 5'000'000;
};

struct Unpacked {
    std::uint64_t files = 0;
    std::uint64_t bytes = 0;
    std::uint64_t left_out = 0;      ///< devices, sockets, links that lead out of the tree
    std::vector<std::string> notes;  ///< sentences about the first of them; foreign text
};

/// Makes a tree out of a guest's tar stream. Every byte of it is hostile.
///
/// Each name is walked from `folder` on without following a symbolic link, of the archive's or of
/// whoever else's; ".." and absolute names, and names beside `from`, are Errc::corrupt. A file or
/// link replaces what has its name, never writes through it; a folder joins one that is there and
/// replaces nothing. Modes keep their permission bits alone, times are kept, the owner is who
/// calls. Devices, sockets and links that lead out of the tree are left out and said. Hard links
/// are made to files of the tree only.
///
/// What was made stays when it fails: Errc::corrupt, no_space, and whatever the file system says.
Result<Unpacked> unpack_tree(const UnpackRequest& request);

}  // namespace banger::copy

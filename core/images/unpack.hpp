#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "banger/result.hpp"

namespace banger::images {

/// The content of one packed stream: gzip, xz, lzma, lz4 (also the legacy frame of Linux), zstd or
/// bzip2, told by its first bytes. Errc::corrupt when it is damaged or grows past `limit`;
/// Errc::unsupported when it is none of these.
Result<std::string> unpack(std::string_view packed, std::size_t limit);

}  // namespace banger::images

#pragma once

#include <cstdint>
#include <string>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

/// Files that the user names: links are followed, but nothing that is no file is waited for.
namespace banger::image_oci {

/// Opens a regular file for reading; Errc::invalid_argument for a folder, pipe or device.
Result<UniqueFd> open_regular(const std::string& path);
Result<std::uint64_t> size_of(const UniqueFd& file);

/// A run of bytes of a file as text; Errc::corrupt when it ends earlier.
Result<std::string> read_range(const UniqueFd& file, std::uint64_t offset, std::uint64_t size);

/// The run from `offset + skipped` to `offset + size` into `sink` (a pipe or a file), with progress
/// under `stage`. Errors as ImageSource::fetch().
Result<void> send_range(const UniqueFd& file, std::uint64_t offset, std::uint64_t size,
                        std::uint64_t skipped, const UniqueFd& sink, const std::string& stage,
                        Call& call);

}  // namespace banger::image_oci

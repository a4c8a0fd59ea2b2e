#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "banger/image_source.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/store/records.hpp"

/// What the parts of ImageStore share. Internal to core/images.
namespace banger {

inline constexpr std::string_view root_file_system = "rootfs.ext4";
inline constexpr std::string_view partial_suffix = ".partial";
/// What an artifact's reference begins with when it was made of the user's own files: no source
/// has it.
inline constexpr std::string_view own_file_prefix = "file:";

inline bool is_own_file(std::string_view reference) {
    return reference.starts_with(own_file_prefix);
}

UnixTime time_now();
std::string new_artifact_id();

Result<void> sync_file(const UniqueFd& fd, const std::string& what);
/// Gives a folder its final name once its last file is on the disk.
Result<void> publish(const UniqueFd& last_file, const std::string& partial,
                     const std::string& folder);

Error artifact_in_use(ArtifactKind kind, const std::vector<std::string>& users);

/// st_mtim in nanoseconds.
inline std::int64_t changed_at(const struct stat& status) {
    return std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

}  // namespace banger

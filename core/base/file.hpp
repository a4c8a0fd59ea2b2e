#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

/// Files and folders of our own. Nothing here follows a symbolic link in the last component, and
/// every descriptor is close-on-exec.
namespace banger {

/// The whole content; Errc::corrupt when it is larger than `limit`.
Result<std::string> read_file(const std::string& path, ByteCount limit);

/// All bytes of a descriptor up to its end; Errc::corrupt past `limit`.
Result<std::string> read_all(int fd, ByteCount limit);

/// Writes every byte; a short write is continued.
Result<void> write_all(int fd, std::string_view bytes);

/// Replaces `path` in one step: temporary file beside it, fsync, rename, fsync of the folder. A
/// reader sees the old content or the new, also after a power cut.
Result<void> write_file_atomic(const std::string& path, std::string_view content, mode_t mode);

/// Opens for reading, O_NOFOLLOW.
Result<UniqueFd> open_read(const std::string& path);

/// Makes the folder and its missing parents with `mode` (whatever the umask). One that exists is
/// kept; something else of that name is Errc::already_exists.
Result<void> ensure_folder(const std::string& path, mode_t mode);

/// ensure_folder(), and refuses one that is a link, is not ours, or that others may write: for
/// folders below a shared one such as /tmp.
Result<void> ensure_private_folder(const std::string& path);

/// Removes a file or a whole folder by descriptor, never leaving its file system and never
/// following a link. "Already gone" is success. Goes on when one entry fails and reports all.
Result<void> remove_tree(const std::string& path);

/// Removes one file. "Already gone" is success.
Result<void> remove_file(const std::string& path);

/// Names in a folder without "." and "..", sorted. Errc::not_found when there is no such folder.
Result<std::vector<std::string>> list_folder(const std::string& path);

/// Flushes a folder's entries to disk: after a rename that must survive a power cut.
Result<void> sync_folder(const std::string& path);

[[nodiscard]] bool path_exists(const std::string& path);

/// The part before the last '/', or "." when there is none.
std::string parent_path(std::string_view path);

/// An exclusive lock on `path` (flock(2)), held until the descriptor is closed; the file is made
/// with mode 0600 and stays. Errc::busy when another process holds it.
Result<UniqueFd> try_lock_file(const std::string& path);

}  // namespace banger

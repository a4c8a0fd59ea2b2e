#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

/// What init and agent need of the system, with errors as values. Nothing here needs anything from
/// the image: no shell, no library, no configuration.
namespace banger::agent {

/// Writes "banger-init: TEXT" on the console.
void say(std::string_view text);

/// Milliseconds since the kernel started.
std::uint64_t uptime_ms();

/// At most `limit` bytes; works for files of /proc and /sys, which have no size.
Result<std::string> read_text(const std::string& path, std::size_t limit = 1U << 20);
/// The same for a descriptor, from where it stands.
Result<std::string> read_text(int fd, std::size_t limit);
/// First line without its end; empty when there is none.
std::string read_line(const std::string& path);

Result<void> write_bytes(int fd, std::string_view bytes);

/// Names in a folder without "." and "..", in no order; empty when it cannot be read.
std::vector<std::string> names_in(const std::string& path);

Result<void> mount_at(const std::string& source, const std::string& target, const char* type,
                      unsigned long flags, const char* options);

/// The mounted root of the image, seen from outside. Paths are relative to it; links inside it,
/// absolute ones too, lead inside it (openat2 with RESOLVE_IN_ROOT), as they will when it is "/".
class ImageRoot {
public:
    static Result<ImageRoot> open(const std::string& path);

    [[nodiscard]] bool has(const std::string& path) const;
    /// A regular file with an x bit.
    [[nodiscard]] bool has_program(const std::string& path) const;
    Result<std::string> read(const std::string& path, std::size_t limit = 1U << 20) const;
    /// Opens a folder (O_PATH), making it and its missing parents (root's, 0755).
    Result<UniqueFd> ensure_folder(const std::string& path) const;
    /// Replaces a file, or a link of that name, in one step.
    Result<void> write(const std::string& path, std::string_view content, mode_t mode,
                       uid_t uid = 0, gid_t gid = 0) const;
    /// As write(), but leaves a file alone that has this content already.
    Result<void> update(const std::string& path, std::string_view content, mode_t mode) const;
    /// Already gone is success.
    Result<void> remove(const std::string& path) const;
    [[nodiscard]] int fd() const { return fd_.get(); }

private:
    explicit ImageRoot(UniqueFd fd) : fd_(std::move(fd)) {}
    Result<UniqueFd> open_inside(const std::string& path, int flags) const;
    UniqueFd fd_;
};

}  // namespace banger::agent

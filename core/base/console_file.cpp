#include "core/base/console_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "core/base/file.hpp"

namespace banger {

namespace {

/// Blocks are given back in steps, so that not every look at a chatty file is a write.
constexpr std::int64_t step = 64 << 10;

Result<std::int64_t> length_of(int fd, const std::string& path) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return Error::from_errno(errno, "stat " + path);
    return std::int64_t{status.st_size};
}

/// The first line start at or after `from`; `from` itself when no line ends soon.
std::int64_t line_start(int fd, std::int64_t from) {
    char buffer[4096];
    const ssize_t count = ::pread(fd, buffer, sizeof buffer, from);
    if (count <= 0) return from;
    const char* const end = buffer + count;
    const char* const newline = std::find<const char*>(buffer, end, '\n');
    return newline == end ? from : from + (newline - buffer) + 1;
}

}  // namespace

Result<UniqueFd> open_bounded(const std::string& path) {
    UniqueFd fd = BANGER_TRY(open_read(path));
    const std::int64_t length = BANGER_TRY(length_of(fd.get(), path));
    std::int64_t first = ::lseek(fd.get(), 0, SEEK_DATA);
    if (first < 0) first = errno == ENXIO ? length : 0;
    if (first > 0 && first < length) first = line_start(fd.get(), first);
    if (::lseek(fd.get(), first, SEEK_SET) < 0) return Error::from_errno(errno, "seek in " + path);
    return fd;
}

Result<void> trim_to(const std::string& path, ByteCount limit) {
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd) return errno == ENOENT ? ok() : Error::from_errno(errno, "open " + path);
    const std::int64_t length = BANGER_TRY(length_of(fd.get(), path));
    const std::int64_t spare = length - static_cast<std::int64_t>(limit.count());
    const std::int64_t hole = spare / step * step;
    if (hole <= 0) return ok();
    if (::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, hole) == 0)
        return ok();
    if (errno != EOPNOTSUPP) return Error::from_errno(errno, "trimming " + path);
    // The VMM appends (O_APPEND), so it goes on from the start.
    if (::ftruncate(fd.get(), 0) != 0) return Error::from_errno(errno, "emptying " + path);
    return ok();
}

Result<void> compact_to(const std::string& path, ByteCount limit) {
    std::string kept;
    {
        const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
        if (!fd) return errno == ENOENT ? ok() : Error::from_errno(errno, "open " + path);
        const std::int64_t length = BANGER_TRY(length_of(fd.get(), path));
        if (length <= static_cast<std::int64_t>(limit.count())) return ok();
        kept = tail_of(path, limit.count());
    }
    return write_file_atomic(path, kept, 0600);
}

std::string tail_of(const std::string& path, std::size_t limit) {
    const Result<UniqueFd> fd = open_bounded(path);
    if (!fd) return {};
    const std::int64_t first = ::lseek(fd->get(), 0, SEEK_CUR);
    const std::int64_t length = ::lseek(fd->get(), 0, SEEK_END);
    std::int64_t from = std::max(first, length - static_cast<std::int64_t>(limit));
    if (from > first) from = line_start(fd->get(), from);
    std::string text(static_cast<std::size_t>(std::max<std::int64_t>(0, length - from)), '\0');
    const ssize_t count = ::pread(fd->get(), text.data(), text.size(), from);
    text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return text;
}

ConsoleWatcher::~ConsoleWatcher() {
    {
        const std::lock_guard lock(mutex_);
        is_ending_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
}

void ConsoleWatcher::watch(const std::string& path, ByteCount limit) {
    const std::lock_guard lock(mutex_);
    files_[path] = {limit, 0};
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    changed_.notify_all();
}

void ConsoleWatcher::forget(const std::string& path) {
    const std::lock_guard lock(mutex_);
    files_.erase(path);
}

void ConsoleWatcher::run() {
    using namespace std::chrono_literals;
    constexpr std::chrono::seconds often = 15s;
    constexpr std::chrono::seconds seldom = 8min;
    std::chrono::seconds pause = often;
    std::unique_lock lock(mutex_);
    while (!is_ending_) {
        if (files_.empty()) {
            changed_.wait(lock);  // no machine, no wake-ups
            pause = often;
            continue;
        }
        if (changed_.wait_for(lock, pause) == std::cv_status::no_timeout) {
            pause = often;
            continue;
        }
        pause = look() ? often : std::min(pause * 2, seldom);
    }
}

bool ConsoleWatcher::look() {
    bool has_grown = false;
    for (auto& [path, file] : files_) {
        // One that cannot be trimmed now is tried again at the next look.
        (void)trim_to(path, file.limit);
        struct stat status {};
        if (::lstat(path.c_str(), &status) != 0 || status.st_size == file.length) continue;
        file.length = status.st_size;
        has_grown = true;
    }
    return has_grown;
}

}  // namespace banger

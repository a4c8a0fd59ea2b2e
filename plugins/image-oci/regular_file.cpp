#include "plugins/image-oci/regular_file.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <vector>

#include "core/base/names.hpp"
#include "core/base/process.hpp"

namespace banger::image_oci {

namespace {

Error ends_early() {
    return {Errc::corrupt, "the file ends early", "Make it again; it was not written whole."};
}

}  // namespace

Result<UniqueFd> open_regular(const std::string& path) {
    // A pipe that nobody writes to is opened at once, and then refused.
    UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (!file) return Error::from_errno(errno, "opening " + path);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return Error::from_errno(errno, "stat " + path);
    if (S_ISREG(status.st_mode)) return file;
    return Error(Errc::invalid_argument, path + " is not a file", "Name a file.");
}

Result<std::uint64_t> size_of(const UniqueFd& file) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return Error::from_errno(errno, "stat");
    return static_cast<std::uint64_t>(status.st_size);
}

Result<std::string> read_range(const UniqueFd& file, std::uint64_t offset, std::uint64_t size) {
    if (size > BANGER_TRY(size_of(file))) return ends_early();
    std::string text(size, '\0');
    std::size_t done = 0;
    while (done < text.size()) {
        const ssize_t count = ::pread(file.get(), text.data() + done, text.size() - done,
                                      static_cast<off_t>(offset + done));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "reading");
        if (count == 0) return ends_early();
        done += static_cast<std::size_t>(count);
    }
    return text;
}

namespace {

/// Writing to a pipe whose reader has gone is an error, whatever the program does about SIGPIPE:
/// every program of banger ignores it.
Result<void> write_piece(std::string_view bytes, const UniqueFd& sink, bool is_file, Call& call) {
    while (!bytes.empty()) {
        if (call.stop().stop_requested()) return Error(Errc::cancelled, "cancelled");
        // POLLOUT on a pipe promises room for PIPE_BUF bytes; more could block out of reach.
        if (!is_file)
            BANGER_TRY(poll_fd(sink.get(), POLLOUT, std::chrono::milliseconds(-1), call.stop()));
        const std::size_t most =
            is_file ? bytes.size() : std::min<std::size_t>(bytes.size(), PIPE_BUF);
        const ssize_t done = ::write(sink.get(), bytes.data(), most);
        if (done < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (done < 0 && errno == EPIPE) return Error(Errc::cancelled, "the reader went away");
        if (done < 0) return Error::from_errno(errno, "writing a layer");
        bytes.remove_prefix(static_cast<std::size_t>(done));
    }
    return ok();
}

}  // namespace

Result<void> send_range(const UniqueFd& file, std::uint64_t offset, std::uint64_t size,
                        std::uint64_t skipped, const UniqueFd& sink, const std::string& stage,
                        Call& call) {
    struct stat status {};
    const bool is_file = ::fstat(sink.get(), &status) == 0 && S_ISREG(status.st_mode);
    std::vector<char> piece(256 << 10);
    for (std::uint64_t done = skipped; done < size;) {
        const std::size_t most = std::min<std::uint64_t>(piece.size(), size - done);
        const ssize_t count =
            ::pread(file.get(), piece.data(), most, static_cast<off_t>(offset + done));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "reading a layer");
        if (count == 0) return ends_early();
        BANGER_TRY(
            write_piece({piece.data(), static_cast<std::size_t>(count)}, sink, is_file, call));
        done += static_cast<std::uint64_t>(count);
        call.report({stage, done, size, Progress::Unit::bytes});
    }
    return ok();
}

}  // namespace banger::image_oci

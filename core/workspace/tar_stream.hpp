#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "banger/result.hpp"

namespace banger::workspace {

using Sink = std::function<Result<void>(std::string_view)>;

/// Writes a tar archive, gzipped if wanted, to a sink.
///
/// The format is GNU's (long names as an entry of their own), because every tar that an image may
/// have reads it, busybox' too, and names stay the bytes they are. Written here, not by libarchive:
/// that library and what it brings would be loaded at each start of banger. Owner is root.
class TarStream {
public:
    TarStream(Sink sink, bool is_gzipped);
    ~TarStream();
    TarStream(const TarStream&) = delete;
    TarStream& operator=(const TarStream&) = delete;

    Result<void> add_file(const std::string& path, std::string_view content, bool is_executable);
    Result<void> add_link(const std::string& path, const std::string& target, std::int64_t time);
    Result<void> add_folder(const std::string& path);
    /// Exactly `size` bytes of `fd`. When the file shrinks meanwhile the rest is zeros, when it
    /// grows the rest is left out, and is_torn is set. `is_packed`: not worth compressing again.
    Result<void> add_descriptor(const std::string& path, int fd, std::uint64_t size,
                                bool is_executable, std::int64_t time, bool is_packed,
                                bool& is_torn, std::stop_token stop);
    /// The end of the archive.
    Result<void> finish();

private:
    class Gzip;
    Result<void> header(const std::string& path, const std::string& target, char type,
                        unsigned mode, std::uint64_t size, std::int64_t time);
    Result<void> write(std::string_view bytes);
    Result<void> pad(std::uint64_t size);

    Sink sink_;
    std::unique_ptr<Gzip> gzip_;
};

}  // namespace banger::workspace

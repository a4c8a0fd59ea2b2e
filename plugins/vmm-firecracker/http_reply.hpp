#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "banger/result.hpp"

namespace banger::firecracker {

struct HttpReply {
    int status = 0;
    std::string body;
    friend bool operator==(const HttpReply&, const HttpReply&) = default;
};

/// Reads one answer of Firecracker's API server as its bytes come in. HTTP/1.1 (RFC 9112), only
/// what that server writes: a status line, headers, a body whose length Content-Length says. All of
/// it is foreign: a guest that took the VMM over writes it. Anything else is Errc::corrupt.
class HttpReplyReader {
public:
    /// Status line and headers together.
    static constexpr std::size_t max_head = 8192;
    static constexpr std::size_t max_body = std::size_t{64} << 10;

    /// True when the answer is whole. Call it no more after that, nor after an error.
    Result<bool> feed(std::string_view bytes);
    /// What was read, once feed() said true.
    [[nodiscard]] const HttpReply& reply() const { return reply_; }

private:
    Result<void> read_head(std::string_view head);

    std::string buffered_;
    bool has_head_ = false;
    std::size_t body_size_ = 0;
    HttpReply reply_;
};

}  // namespace banger::firecracker

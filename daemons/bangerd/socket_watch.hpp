#pragma once

#include <functional>
#include <memory>
#include <string>

#include "banger/result.hpp"

namespace boost::asio {
class io_context;
}

namespace banger {

/// Notices, without waking up in between, that a socket's file is gone or another's: whoever looks
/// for its listener would not find it any more, and another one could not take its lock.
class SocketWatch {
public:
    /// `path` is a socket that listens now. `on_gone` is called on the I/O thread, once.
    static Result<std::unique_ptr<SocketWatch>> make(boost::asio::io_context& io,
                                                     const std::string& path,
                                                     std::function<void()> on_gone);
    ~SocketWatch();
    SocketWatch(const SocketWatch&) = delete;
    SocketWatch& operator=(const SocketWatch&) = delete;

    /// Whether the file is still the one that make() saw.
    [[nodiscard]] bool is_there() const;

private:
    struct Inside;
    explicit SocketWatch(std::shared_ptr<Inside> inside);
    std::shared_ptr<Inside> inside_;
};

}  // namespace banger

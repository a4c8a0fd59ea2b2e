#pragma once

#include <libmnl/libmnl.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "banger/result.hpp"

/// What rtnetlink and nfnetlink have in common, over libmnl: building a request, sending it, and
/// reading attributes of answers.
namespace banger::netlink {

/// One message under construction.
class Request {
public:
    /// `flags` beside NLM_F_REQUEST; NLM_F_ACK is added unless it is a dump.
    Request(std::uint16_t type, std::uint16_t flags);
    /// The family's own header, zeroed. Before any attribute.
    template <class T>
    T* put_header() {
        return static_cast<T*>(mnl_nlmsg_put_extra_header(header_, sizeof(T)));
    }
    [[nodiscard]] nlmsghdr* header() { return header_; }

private:
    std::vector<char> buffer_;
    nlmsghdr* header_;
};

/// A socket of one protocol (NETLINK_ROUTE, …), opened when it is first needed, in the network
/// namespace of the caller. Not for several threads at once.
class Socket {
public:
    explicit Socket(int protocol) : protocol_(protocol) {}

    /// Sends the request, gives every answer to `on_message`, and returns when the kernel has
    /// acknowledged or the dump is complete. What the kernel says against it becomes the error. A
    /// dump that a change overtook is asked for again.
    Result<void> exchange(Request& request, const std::function<void(const nlmsghdr*)>& on_message);

private:
    struct Close {
        void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
    };
    Result<void> open();
    /// Errc::busy for a dump that was overtaken.
    Result<std::vector<std::string>> answers_to(Request& request);

    int protocol_;
    std::uint32_t sequence_ = 0;
    std::unique_ptr<mnl_socket, Close> socket_;
};

/// Attributes by type; null where there is none. What is larger than `max` is left out.
using Attributes = std::vector<const nlattr*>;
Attributes attributes_of(const nlmsghdr* message, std::size_t header_size, std::size_t max);
/// None in a null attribute.
Attributes nested(const nlattr* attribute, std::size_t max);

/// Up to the first NUL; empty for null.
std::string text_of(const nlattr* attribute);
/// Nothing for null or another size. In the byte order of the message.
std::optional<std::uint8_t> u8_of(const nlattr* attribute);
std::optional<std::uint32_t> u32_of(const nlattr* attribute);

}  // namespace banger::netlink

#pragma once

#include <libmnl/libmnl.h>

#include <cstdint>
#include <functional>
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

/// Sends it on a fresh socket of the protocol (NETLINK_ROUTE, …), gives every answer to
/// `on_message`, and returns when the kernel has acknowledged or the dump is complete. What the
/// kernel says against it becomes the error. A dump that a change overtook is asked for again.
Result<void> exchange(int protocol, Request& request,
                      const std::function<void(const nlmsghdr*)>& on_message);

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

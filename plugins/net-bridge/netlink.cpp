#include "plugins/net-bridge/netlink.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace banger::netlink {

namespace {

int keep(const nlattr* attribute, void* into) {
    Attributes& attributes = *static_cast<Attributes*>(into);
    const std::size_t type = mnl_attr_get_type(attribute);
    if (type < attributes.size()) attributes[type] = attribute;
    return MNL_CB_OK;
}

}  // namespace

Request::Request(std::uint16_t type, std::uint16_t flags) : buffer_(4096) {
    header_ = mnl_nlmsg_put_header(buffer_.data());
    header_->nlmsg_type = type;
    const bool is_dump = (flags & NLM_F_DUMP) == NLM_F_DUMP;
    header_->nlmsg_flags =
        static_cast<std::uint16_t>(NLM_F_REQUEST | flags | (is_dump ? 0 : NLM_F_ACK));
}

Result<void> Socket::open() {
    if (socket_) return ok();
    std::unique_ptr<mnl_socket, Close> socket(mnl_socket_open2(protocol_, SOCK_CLOEXEC));
    if (!socket) return Error::from_errno(errno, "netlink socket");
    if (mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
        return Error::from_errno(errno, "netlink bind");
    socket_ = std::move(socket);
    return ok();
}

Result<std::vector<std::string>> Socket::answers_to(Request& request) {
    BANGER_TRY(open());
    request.header()->nlmsg_seq = ++sequence_;
    if (mnl_socket_sendto(socket_.get(), request.header(), request.header()->nlmsg_len) < 0)
        return Error::from_errno(errno, "netlink send");
    const unsigned port = mnl_socket_get_portid(socket_.get());
    std::vector<char> buffer(32768);
    std::vector<std::string> answers;
    const mnl_cb_t keep_answer = [](const nlmsghdr* message, void* to) {
        static_cast<std::vector<std::string>*>(to)->emplace_back(
            reinterpret_cast<const char*>(message), message->nlmsg_len);
        return MNL_CB_OK;
    };
    for (;;) {
        const ssize_t size = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return Error::from_errno(errno, "netlink receive");
        const int more = mnl_cb_run(buffer.data(), static_cast<std::size_t>(size), sequence_, port,
                                    keep_answer, &answers);
        if (more == MNL_CB_STOP) return answers;
        if (more < 0 && errno == EINTR)
            return Error(Errc::busy, "the list changed while it was read");
        if (more < 0) return Error::from_errno(errno, "the kernel");
    }
}

Result<void> Socket::exchange(Request& request,
                              const std::function<void(const nlmsghdr*)>& on_message) {
    const bool is_dump = (request.header()->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
    Result<std::vector<std::string>> answers = answers_to(request);
    for (int i = 0; i < 100 && is_dump && !answers && answers.error().code == Errc::busy; ++i) {
        // The rest of the overtaken dump is still in it.
        socket_.reset();
        answers = answers_to(request);
    }
    if (!answers) {
        socket_.reset();
        return answers.error();
    }
    if (on_message)
        for (const std::string& answer : *answers)
            on_message(reinterpret_cast<const nlmsghdr*>(answer.data()));
    return ok();
}

Attributes attributes_of(const nlmsghdr* message, std::size_t header_size, std::size_t max) {
    Attributes attributes(max + 1);
    mnl_attr_parse(message, static_cast<unsigned>(header_size), keep, &attributes);
    return attributes;
}

Attributes nested(const nlattr* attribute, std::size_t max) {
    Attributes attributes(max + 1);
    if (attribute != nullptr) mnl_attr_parse_nested(attribute, keep, &attributes);
    return attributes;
}

std::string text_of(const nlattr* attribute) {
    if (attribute == nullptr) return {};
    const auto* text = static_cast<const char*>(mnl_attr_get_payload(attribute));
    return {text, ::strnlen(text, mnl_attr_get_payload_len(attribute))};
}

std::optional<std::uint8_t> u8_of(const nlattr* attribute) {
    if (attribute == nullptr || mnl_attr_get_payload_len(attribute) != 1) return std::nullopt;
    return mnl_attr_get_u8(attribute);
}

std::optional<std::uint32_t> u32_of(const nlattr* attribute) {
    if (attribute == nullptr || mnl_attr_get_payload_len(attribute) != 4) return std::nullopt;
    return mnl_attr_get_u32(attribute);
}

}  // namespace banger::netlink

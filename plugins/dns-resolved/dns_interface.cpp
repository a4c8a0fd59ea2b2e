#include "plugins/dns-resolved/dns_interface.hpp"

#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>

namespace banger {

namespace {

/// 127.42.69.1: the responder's port in the middle, nothing else.
constexpr std::uint32_t interface_address = 0x7f2a4501;

struct Close {
    void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};

/// One request and its answer. The kernel is trusted; libmnl checks lengths all the same.
class Request {
public:
    Request(std::uint16_t type, std::uint16_t flags)
        : header_(mnl_nlmsg_put_header(buffer_.data())) {
        header_->nlmsg_type = type;
        header_->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
        header_->nlmsg_seq = 1;
    }
    [[nodiscard]] nlmsghdr* header() { return header_; }
    [[nodiscard]] ifinfomsg* link() {
        return static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(header_, sizeof(ifinfomsg)));
    }
    [[nodiscard]] ifaddrmsg* address() {
        return static_cast<ifaddrmsg*>(mnl_nlmsg_put_extra_header(header_, sizeof(ifaddrmsg)));
    }

    using Reader = std::function<void(const nlmsghdr*)>;
    /// 0, or the errno that the kernel answered with.
    int send(const Reader& reader = {}) {
        const std::unique_ptr<mnl_socket, Close> socket(
            mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC));
        if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0 ||
            mnl_socket_sendto(socket.get(), header_, header_->nlmsg_len) < 0)
            return errno;
        for (;;) {
            const ssize_t size = mnl_socket_recvfrom(socket.get(), answer_.data(), answer_.size());
            if (size < 0) return errno;
            const int more = mnl_cb_run(answer_.data(), static_cast<std::size_t>(size), 1,
                                        mnl_socket_get_portid(socket.get()), &Request::on_message,
                                        const_cast<Reader*>(&reader));  // NOLINT: a C interface
            if (more < 0) return errno;
            if (more == MNL_CB_STOP) return 0;
        }
    }

private:
    static int on_message(const nlmsghdr* message, void* reader) {
        const auto& read = *static_cast<const Reader*>(reader);
        if (read) read(message);
        return MNL_CB_OK;  // the acknowledgement follows
    }

    std::array<char, 1024> buffer_{};
    std::array<char, 32768> answer_{};
    nlmsghdr* header_;
};

std::optional<MacAddress> mac_of(const nlattr* attribute) {
    const auto* octets = static_cast<const unsigned char*>(mnl_attr_get_payload(attribute));
    if (mnl_attr_get_payload_len(attribute) != 6) return std::nullopt;
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (int i = 0; i < 6; ++i) {
        if (i > 0) text += ':';
        text += digits[octets[i] >> 4U];
        text += digits[octets[i] & 0xfU];
    }
    const Result<MacAddress> mac = MacAddress::parse(text);
    return mac ? std::optional(*mac) : std::nullopt;
}

int read_info(const nlattr* attribute, void* found) {
    if (mnl_attr_get_type(attribute) == IFLA_INFO_KIND &&
        mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
        static_cast<DnsInterface::Found*>(found)->kind = mnl_attr_get_str(attribute);
    return MNL_CB_OK;
}

int read_attribute(const nlattr* attribute, void* found) {
    if (mnl_attr_get_type(attribute) == IFLA_ADDRESS)
        static_cast<DnsInterface::Found*>(found)->mac = mac_of(attribute);
    if (mnl_attr_get_type(attribute) == IFLA_LINKINFO)
        return mnl_attr_parse_nested(attribute, &read_info, found);
    return MNL_CB_OK;
}

void read_link(const nlmsghdr* message, DnsInterface::Found& found) {
    const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
    found.index = info->ifi_index;
    found.is_up = (info->ifi_flags & IFF_UP) != 0;
    (void)mnl_attr_parse(message, sizeof *info, &read_attribute, &found);
}

}  // namespace

Result<std::optional<DnsInterface::Found>> DnsInterface::find() const {
    Request request(RTM_GETLINK, 0);
    request.link()->ifi_family = AF_UNSPEC;
    mnl_attr_put_strz(request.header(), IFLA_IFNAME, name_.c_str());
    Found found;
    const int number = request.send([&](const nlmsghdr* message) { read_link(message, found); });
    if (number == ENODEV) return std::optional<Found>();
    if (number != 0) return Error::from_errno(number, "looking for the interface " + name_);
    return std::optional<Found>(found);
}

Result<int> DnsInterface::make(const MacAddress& mac) const {
    Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    request.link()->ifi_family = AF_UNSPEC;
    mnl_attr_put_strz(request.header(), IFLA_IFNAME, name_.c_str());
    mnl_attr_put(request.header(), IFLA_ADDRESS, mac.octets().size(), mac.octets().data());
    nlattr* info = mnl_attr_nest_start(request.header(), IFLA_LINKINFO);
    mnl_attr_put_str(request.header(), IFLA_INFO_KIND, kind_.c_str());
    mnl_attr_nest_end(request.header(), info);
    const int number = request.send();
    if (number == EOPNOTSUPP)
        return Error(Errc::unsupported, "this kernel has no interfaces of kind " + kind_,
                     "Load the module: modprobe " + kind_);
    if (number != 0) return Error::from_errno(number, "making the interface " + name_);
    const std::optional<Found> made = BANGER_TRY(find());
    if (made && is_ours(*made, mac)) return made->index;
    return Error(Errc::busy, "the interface " + name_ + " was changed while it was made",
                 "Try again.");
}

Result<void> DnsInterface::bring_up(int index) const {
    Request address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
    ifaddrmsg* message = address.address();
    message->ifa_family = AF_INET;
    message->ifa_prefixlen = 32;
    message->ifa_scope = RT_SCOPE_UNIVERSE;
    message->ifa_index = static_cast<std::uint32_t>(index);
    mnl_attr_put_u32(address.header(), IFA_LOCAL, htonl(interface_address));
    mnl_attr_put_u32(address.header(), IFA_ADDRESS, htonl(interface_address));
    int number = address.send();
    if (number != 0 && number != EEXIST)
        return Error::from_errno(number, "giving an address to the interface " + name_);
    Request up(RTM_NEWLINK, 0);
    ifinfomsg* link = up.link();
    link->ifi_family = AF_UNSPEC;
    link->ifi_index = index;
    link->ifi_flags = IFF_UP;
    link->ifi_change = IFF_UP;
    number = up.send();
    if (number != 0) return Error::from_errno(number, "bringing up the interface " + name_);
    return ok();
}

Result<void> DnsInterface::remove(int index) const {
    Request request(RTM_DELLINK, 0);
    ifinfomsg* link = request.link();
    link->ifi_family = AF_UNSPEC;
    link->ifi_index = index;
    const int number = request.send();
    if (number == 0 || number == ENODEV) return ok();
    return Error::from_errno(number, "removing the interface " + name_);
}

}  // namespace banger

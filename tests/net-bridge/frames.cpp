#include "tests/net-bridge/frames.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plugins/net-bridge/tap.hpp"

namespace banger {

namespace {

constexpr int patience = 5000;  // milliseconds: only a failing test waits so long

void put16(std::string& bytes, std::uint32_t value) {
    bytes += static_cast<char>(value >> 8 & 0xff);
    bytes += static_cast<char>(value & 0xff);
}
void put32(std::string& bytes, std::uint32_t value) {
    put16(bytes, value >> 16);
    put16(bytes, value & 0xffff);
}
void put_mac(std::string& bytes, const MacAddress& mac) {
    for (const std::uint8_t octet : mac.octets())
        bytes += static_cast<char>(octet);
}
std::uint32_t get16(const std::string& bytes, std::size_t at) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes.at(at)) << 8 |
                                      static_cast<unsigned char>(bytes.at(at + 1)));
}
std::uint32_t get32(const std::string& bytes, std::size_t at) {
    return get16(bytes, at) << 16 | get16(bytes, at + 2);
}
MacAddress get_mac(const std::string& bytes, std::size_t at) {
    char text[18];
    const auto octet = [&](std::size_t i) { return static_cast<unsigned char>(bytes.at(at + i)); };
    std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", octet(0), octet(1), octet(2),
                  octet(3), octet(4), octet(5));
    return MacAddress::parse(text).value();
}

std::uint16_t checksum(const std::string& bytes) {
    std::uint32_t sum = 0;
    for (std::size_t at = 0; at + 1 < bytes.size(); at += 2)
        sum += get16(bytes, at);
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}

bool is_readable(int fd) {
    pollfd wait{fd, POLLIN, 0};
    return ::poll(&wait, 1, patience) == 1;
}

}  // namespace

Frame ethernet(const MacAddress& to, const MacAddress& from, std::uint16_t type,
               const std::string& payload) {
    Frame frame;
    put_mac(frame, to);
    put_mac(frame, from);
    put16(frame, type);
    frame += payload;
    if (frame.size() < 60) frame.resize(60);
    return frame;
}

std::string udp(const UdpPacket& packet) {
    std::string header;
    put16(header, 0x4500);
    put16(header, static_cast<std::uint32_t>(28 + packet.text.size()));
    put32(header, 0);             // identification, no fragment
    put16(header, 64 << 8 | 17);  // time to live, UDP
    put16(header, 0);
    put32(header, packet.from.bits());
    put32(header, packet.to.bits());
    const std::uint16_t sum = checksum(header);
    header[10] = static_cast<char>(sum >> 8);
    header[11] = static_cast<char>(sum & 0xff);
    put16(header, packet.from_port);
    put16(header, packet.to_port);
    put16(header, static_cast<std::uint32_t>(8 + packet.text.size()));
    put16(header, 0);  // no checksum
    return header + packet.text;
}

std::string arp(std::uint16_t operation, const MacAddress& sender_mac, Ipv4Address sender,
                const MacAddress& target_mac, Ipv4Address target) {
    std::string bytes;
    put32(bytes, 0x00010800);  // Ethernet, IPv4
    put16(bytes, 0x0604);
    put16(bytes, operation);
    put_mac(bytes, sender_mac);
    put32(bytes, sender.bits());
    put_mac(bytes, target_mac);
    put32(bytes, target.bits());
    return bytes;
}

std::optional<UdpPacket> read_udp(const Frame& frame) {
    if (frame.size() < 42 || get16(frame, 12) != 0x0800 || frame[23] != 17) return std::nullopt;
    const std::size_t length = get16(frame, 38);
    if (length < 8 || 34 + length > frame.size()) return std::nullopt;
    return UdpPacket{Ipv4Address(get32(frame, 26)), Ipv4Address(get32(frame, 30)),
                     static_cast<std::uint16_t>(get16(frame, 34)),
                     static_cast<std::uint16_t>(get16(frame, 36)), frame.substr(42, length - 8)};
}

Guest::Guest(const NetworkLink& attached) : link(attached) {
    Result<UniqueFd> opened = Tap::open(link.device);
    EXPECT_TRUE(opened) << opened.error().text();
    if (!opened) return;
    fd_ = std::move(*opened);
    // The kernel starts the port a moment after the device has a reader.
    for (int i = 0; i < 500; ++i) {
        ask_for_host(link.mac, link.address.address(), link.gateway);
        pollfd wait{fd_.get(), POLLIN, 0};
        while (::poll(&wait, 1, 10) == 1) {
            const std::optional<Frame> frame = receive_frame();
            if (!frame || get16(*frame, 12) != 0x0806 || get16(*frame, 20) != 2) continue;
            host_mac = get_mac(*frame, 22);
            return;
        }
    }
    ADD_FAILURE() << "the bridge does not answer " << link.device;
}

void Guest::send(const Frame& frame) const {
    EXPECT_EQ(::write(fd_.get(), frame.data(), frame.size()), static_cast<ssize_t>(frame.size()));
}

void Guest::send_udp(Ipv4Address to, std::uint16_t port, const std::string& text) const {
    send_udp(UdpPacket{link.address.address(), to, 4000, port, text});
}

void Guest::send_udp(const UdpPacket& packet) const {
    send(ethernet(host_mac, link.mac, 0x0800, udp(packet)));
}

void Guest::ask_for_host(const MacAddress& sender_mac, Ipv4Address sender,
                         Ipv4Address target) const {
    const MacAddress nobody = MacAddress::parse("00:00:00:00:00:00").value();
    send(ethernet(broadcast_mac, link.mac, 0x0806, arp(1, sender_mac, sender, nobody, target)));
}

std::optional<Frame> Guest::receive_frame() const {
    if (!is_readable(fd_.get())) return std::nullopt;
    Frame frame(2048, '\0');
    const ssize_t size = ::read(fd_.get(), frame.data(), frame.size());
    if (size < 14) return std::nullopt;
    frame.resize(static_cast<std::size_t>(size));
    return frame;
}

std::optional<Frame> Guest::receive_answering() const {
    std::optional<Frame> frame = receive_frame();
    if (frame && get16(*frame, 12) == 0x0806 && get16(*frame, 20) == 1 &&
        get32(*frame, 38) == link.address.address().bits())
        send(ethernet(get_mac(*frame, 22), link.mac, 0x0806,
                      arp(2, link.mac, link.address.address(), get_mac(*frame, 22),
                          Ipv4Address(get32(*frame, 28)))));
    return frame;
}

std::optional<UdpPacket> Guest::receive() const {
    while (const std::optional<Frame> frame = receive_answering())
        if (const std::optional<UdpPacket> packet = read_udp(*frame)) return packet;
    return std::nullopt;
}

std::optional<std::uint8_t> Guest::receive_unreachable(Ipv4Address there) const {
    // Ethernet, IPv4, ICMP (RFC 792) and the packet that it is about.
    while (const std::optional<Frame> frame = receive_answering())
        if (frame->size() >= 62 && get16(*frame, 12) == 0x0800 && frame->at(23) == 1 &&
            frame->at(34) == 3 && get32(*frame, 58) == there.bits())
            return static_cast<std::uint8_t>(frame->at(35));
    return std::nullopt;
}

UdpSocket::UdpSocket(Ipv4Address address, std::uint16_t port)
    : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    where.sin_addr.s_addr = htonl(address.bits());
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&where), sizeof where), 0);
}

void UdpSocket::send(Ipv4Address to, std::uint16_t port, const std::string& text) const {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    where.sin_addr.s_addr = htonl(to.bits());
    EXPECT_EQ(::sendto(fd_.get(), text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&where),
                       sizeof where),
              static_cast<ssize_t>(text.size()));
}

std::optional<UdpPacket> UdpSocket::receive() const {
    if (!is_readable(fd_.get())) return std::nullopt;
    std::string text(2048, '\0');
    sockaddr_in from{};
    socklen_t size = sizeof from;
    const ssize_t count = ::recvfrom(fd_.get(), text.data(), text.size(), 0,
                                     reinterpret_cast<sockaddr*>(&from), &size);
    if (count < 0) return std::nullopt;
    text.resize(static_cast<std::size_t>(count));
    return UdpPacket{Ipv4Address(ntohl(from.sin_addr.s_addr)), {}, ntohs(from.sin_port), 0, text};
}

}  // namespace banger

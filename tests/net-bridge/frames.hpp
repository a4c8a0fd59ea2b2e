#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "banger/network.hpp"
#include "banger/unique_fd.hpp"

namespace banger {

/// Ethernet frames by hand: what a hostile guest would write.
using Frame = std::string;

struct UdpPacket {
    Ipv4Address from;
    Ipv4Address to;
    std::uint16_t from_port = 0;
    std::uint16_t to_port = 0;
    std::string text;
};

Frame ethernet(const MacAddress& to, const MacAddress& from, std::uint16_t type,
               const std::string& payload);
/// The IPv4 packet without the Ethernet header.
std::string udp(const UdpPacket& packet);
/// `operation` 1 asks, 2 answers.
std::string arp(std::uint16_t operation, const MacAddress& sender_mac, Ipv4Address sender,
                const MacAddress& target_mac, Ipv4Address target);
std::optional<UdpPacket> read_udp(const Frame& frame);

/// The guest behind a tap: it writes and reads frames, and answers ARP as a real one would.
class Guest {
public:
    /// Opens the tap and waits until the bridge answers.
    explicit Guest(const NetworkLink& link);

    void send(const Frame& frame) const;
    /// From its own addresses, to the host's hardware address.
    void send_udp(Ipv4Address to, std::uint16_t port, const std::string& text) const;
    void send_udp(const UdpPacket& packet) const;
    /// The next UDP packet for it; nothing after five seconds.
    std::optional<UdpPacket> receive() const;
    /// The code of the next ICMP message that `there` cannot be reached; nothing after five
    /// seconds.
    std::optional<std::uint8_t> receive_unreachable(Ipv4Address there) const;
    /// The next frame at all.
    std::optional<Frame> receive_frame() const;
    /// Whether the host answers "who has" with this sender.
    void ask_for_host(const MacAddress& sender_mac, Ipv4Address sender, Ipv4Address target) const;

    const NetworkLink link;
    MacAddress host_mac = link.mac;  ///< of the bridge, as it answered

private:
    /// The next frame; a question for its hardware address is answered.
    std::optional<Frame> receive_answering() const;
    UniqueFd fd_;
};

/// A UDP socket of the current namespace.
class UdpSocket {
public:
    UdpSocket(Ipv4Address address, std::uint16_t port);
    void send(Ipv4Address to, std::uint16_t port, const std::string& text) const;
    /// The next packet, with who sent it; nothing after five seconds.
    std::optional<UdpPacket> receive() const;

private:
    UniqueFd fd_;
};

inline const MacAddress broadcast_mac = MacAddress::parse("ff:ff:ff:ff:ff:ff").value();

}  // namespace banger

#include "daemons/vsock-agent/proc_net.hpp"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <map>
#include <optional>
#include <tuple>

#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

using guest::GuestPort;
using guest::PortProtocol;

namespace {

std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    while (true) {
        const std::size_t start = line.find_first_not_of(' ');
        if (start == std::string_view::npos) return words;
        line.remove_prefix(start);
        const std::size_t end = std::min(line.find(' '), line.size());
        words.push_back(line.substr(0, end));
        line.remove_prefix(end);
    }
}

template <class T>
std::optional<T> number(std::string_view text, int base) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// The kernel prints each 32-bit word of the address as the host has it in memory.
std::optional<std::string> address_of(std::string_view hex) {
    if (hex.size() != 8 && hex.size() != 32) return std::nullopt;
    std::array<std::uint32_t, 4> words{};
    for (std::size_t at = 0; at < hex.size() / 8; ++at) {
        const std::optional<std::uint32_t> word = number<std::uint32_t>(hex.substr(at * 8, 8), 16);
        if (!word) return std::nullopt;
        words[at] = *word;
    }
    std::array<char, INET6_ADDRSTRLEN> text{};
    const int family = hex.size() == 8 ? AF_INET : AF_INET6;
    if (!inet_ntop(family, words.data(), text.data(), text.size())) return std::nullopt;
    return std::string(text.data());
}

std::optional<ListeningSocket> parse_line(std::string_view line, PortProtocol protocol) {
    // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …
    const std::vector<std::string_view> words = words_of(line);
    if (words.size() < 10) return std::nullopt;
    constexpr std::string_view tcp_listen = "0A";
    constexpr std::string_view udp_unconnected = "07";
    if (words[3] != (protocol == PortProtocol::tcp ? tcp_listen : udp_unconnected))
        return std::nullopt;
    const std::size_t colon = words[1].find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const std::optional<std::string> address = address_of(words[1].substr(0, colon));
    const std::optional<std::uint16_t> port = number<std::uint16_t>(words[1].substr(colon + 1), 16);
    const std::optional<std::uint64_t> inode = number<std::uint64_t>(words[9], 10);
    if (!address || !port || !inode) return std::nullopt;
    return ListeningSocket{{protocol, *address, *port, {}, 0}, *inode};
}

/// Which process holds each socket. A process that ends meanwhile is simply not there.
void find_owners(std::vector<ListeningSocket>& sockets) {
    std::multimap<std::uint64_t, ListeningSocket*> by_inode;
    for (ListeningSocket& socket : sockets)
        by_inode.emplace(socket.inode, &socket);
    for (const std::string& name : names_in("/proc")) {
        const std::optional<std::uint32_t> pid = number<std::uint32_t>(name, 10);
        if (!pid) continue;
        const std::string folder = "/proc/" + name;
        for (const std::string& fd : names_in(folder + "/fd")) {
            std::array<char, 64> link{};
            const ssize_t size = readlink((folder + "/fd/" + fd).c_str(), link.data(), link.size());
            if (size < 10) continue;
            std::string_view target(link.data(), static_cast<std::size_t>(size));
            if (!target.starts_with("socket:[") || !target.ends_with(']')) continue;
            target = target.substr(8, target.size() - 9);
            const std::optional<std::uint64_t> inode = number<std::uint64_t>(target, 10);
            if (!inode) continue;
            const auto [from, to] = by_inode.equal_range(*inode);
            for (auto found = from; found != to; ++found) {
                // systemd holds the sockets it activates; the service's name says more.
                if (found->second->port.pid > 1) continue;
                found->second->port.pid = *pid;
                found->second->port.process = read_line(folder + "/comm");
            }
        }
    }
}

}  // namespace

std::vector<ListeningSocket> parse_proc_net(std::string_view text, PortProtocol protocol) {
    std::vector<ListeningSocket> sockets;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        if (std::optional<ListeningSocket> socket = parse_line(text.substr(0, end), protocol))
            sockets.push_back(*std::move(socket));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return sockets;
}

bool is_listening(std::uint16_t port) {
    for (const char* file : {"/proc/net/tcp", "/proc/net/tcp6"}) {
        const std::string text = read_text(file, 16U << 20).value_or("");
        for (const ListeningSocket& socket : parse_proc_net(text, PortProtocol::tcp)) {
            if (socket.port.port == port) return true;
        }
    }
    return false;
}

std::vector<GuestPort> listening_ports() {
    std::vector<ListeningSocket> sockets;
    for (const PortProtocol protocol : {PortProtocol::tcp, PortProtocol::udp}) {
        for (const char* version : {"", "6"}) {
            const std::string file =
                "/proc/net/" + std::string(guest::to_string(protocol)) + version;
            const std::string text = read_text(file, 16U << 20).value_or("");
            std::ranges::move(parse_proc_net(text, protocol), std::back_inserter(sockets));
        }
    }
    find_owners(sockets);
    std::vector<GuestPort> ports;
    ports.reserve(sockets.size());
    for (ListeningSocket& socket : sockets)
        ports.push_back(std::move(socket.port));
    std::ranges::sort(ports, {}, [](const GuestPort& port) {
        return std::tuple(port.port, port.protocol, port.address);
    });
    return ports;
}

}  // namespace banger::agent

#include "core/vms/connections.hpp"

#include <arpa/inet.h>

#include <charconv>
#include <optional>
#include <string>

#include "core/base/file.hpp"

namespace banger {

namespace {

/// enum in include/net/tcp_states.h of Linux: what has no peer.
constexpr std::uint32_t state_close = 7;
constexpr std::uint32_t state_listen = 10;

std::optional<std::uint32_t> hexadecimal(std::string_view text) {
    std::uint32_t value = 0;
    const char* const end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, value, 16);
    if (text.empty() || error != std::errc() || at != end) return std::nullopt;
    return value;
}

struct End {
    Ipv4Address address;
    std::uint16_t port = 0;
};

/// "0100007F:1F90": each 32 bits of the address as this machine reads them, the port as a number.
std::optional<End> end_of(std::string_view text) {
    const std::size_t colon = text.find(':');
    if (colon == text.npos) return std::nullopt;
    std::string_view address = text.substr(0, colon);
    if (address.size() == 32) {
        const std::optional<std::uint32_t> mark = hexadecimal(address.substr(16, 8));
        if (address.substr(0, 16).find_first_not_of('0') != address.npos || !mark ||
            ntohl(*mark) != 0xffff)
            return std::nullopt;
        address.remove_prefix(24);
    }
    const std::optional<std::uint32_t> bits = hexadecimal(address);
    const std::optional<std::uint32_t> port = hexadecimal(text.substr(colon + 1));
    if (address.size() != 8 || !bits || !port || *port > 0xffff) return std::nullopt;
    return End{Ipv4Address(ntohl(*bits)), static_cast<std::uint16_t>(*port)};
}

/// The next word of a line, cut off from it.
std::string_view next_word(std::string_view& line) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    const std::string_view word = line.substr(0, line.find(' '));
    line.remove_prefix(word.size());
    return word;
}

}  // namespace

std::vector<TcpConnection> parse_connections(std::string_view text) {
    std::vector<TcpConnection> found;
    while (!text.empty()) {
        std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        next_word(line);  // "  12:"
        const std::optional<End> local = end_of(next_word(line));
        const std::optional<End> remote = end_of(next_word(line));
        const std::optional<std::uint32_t> state = hexadecimal(next_word(line));
        if (!local || !remote || !state || *state == state_listen || *state == state_close)
            continue;
        found.push_back({local->address, local->port, remote->address, remote->port});
    }
    return found;
}

Result<std::vector<TcpConnection>> tcp_connections() {
    std::vector<TcpConnection> all;
    for (const char* path : {"/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
        const Result<std::string> text = read_file(path, ByteCount::mib(64));
        if (!text && text.error().code == Errc::not_found) continue;  // a host without IPv6
        if (!text) return text.error();
        const std::vector<TcpConnection> found = parse_connections(*text);
        all.insert(all.end(), found.begin(), found.end());
    }
    return all;
}

}  // namespace banger

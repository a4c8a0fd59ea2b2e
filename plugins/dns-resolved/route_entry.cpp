#include "plugins/dns-resolved/route_entry.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

namespace banger {

namespace {

/// Takes "WORD VALUE\n" off the front.
std::optional<std::string_view> take(std::string_view& text, std::string_view word) {
    if (!text.starts_with(word) || text.substr(word.size(), 1) != " ") return std::nullopt;
    const std::size_t end = text.find('\n');
    if (end == text.npos) return std::nullopt;
    const std::string_view value = text.substr(word.size() + 1, end - word.size() - 1);
    text.remove_prefix(end + 1);
    return value;
}

std::optional<int> number_of(std::string_view text, int most) {
    int number = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (status != std::errc() || end != text.data() + text.size() || number < 0 || number > most)
        return std::nullopt;
    return number;
}

}  // namespace

std::string format_route_entry(const RouteEntry& entry) {
    return "zone " + entry.zone.zone + "\nserver " + entry.zone.server.text() + "\nport " +
           std::to_string(entry.zone.port) + "\nindex " + std::to_string(entry.index) + "\nmac " +
           entry.mac.text() + "\n";
}

Result<RouteEntry> parse_route_entry(std::string_view text) {
    const Error corrupt(Errc::corrupt, "the ledger entry of the DNS route is damaged",
                        "Remove it, and the interface banger-dns: ip link delete banger-dns");
    const auto zone = take(text, "zone");
    const auto server = take(text, "server");
    const auto port = take(text, "port");
    const auto index = take(text, "index");
    const auto mac = take(text, "mac");
    if (!zone || !server || !port || !index || !mac || !text.empty() || !is_zone(*zone))
        return corrupt;
    const Result<Ipv4Address> address = Ipv4Address::parse(*server);
    const Result<MacAddress> hardware = MacAddress::parse(*mac);
    const std::optional<int> port_number =
        number_of(*port, std::numeric_limits<std::uint16_t>::max());
    const std::optional<int> link = number_of(*index, std::numeric_limits<int>::max());
    if (!address || !hardware || !port_number || !link) return corrupt;
    return RouteEntry{
        {std::string(*zone), *address, static_cast<std::uint16_t>(*port_number)}, *link, *hardware};
}

bool is_zone(std::string_view text) {
    if (text.empty() || text.size() > 200 || text.ends_with('.')) return false;
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    };
    for (std::size_t start = 0; start <= text.size();) {
        const std::string_view label = text.substr(start, text.find('.', start) - start);
        if (label.empty() || label.size() > 63 || !std::ranges::all_of(label, fits)) return false;
        start += label.size() + 1;
    }
    return true;
}

}  // namespace banger

#include "plugins/net-user/user_network.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "core/base/file.hpp"
#include "core/base/rollback.hpp"

namespace banger {

namespace {

/// Below the range that the kernel gives to outgoing connections (32768 on, ip(7)
/// ip_local_port_range), so that a stranger's connection cannot sit on a promised port.
constexpr std::uint16_t first_port = 20000;
constexpr std::uint16_t port_count = 12768;
/// Of one machine; the VMM has the same on its command line.
constexpr std::size_t max_forwards = 64;

/// slirp's own defaults, the same for every guest.
constexpr Ipv4Address guest_address(0x0a00020f);  // 10.0.2.15
constexpr Ipv4Address gateway(0x0a000202);        // 10.0.2.2
constexpr Ipv4Address name_server(0x0a000203);    // 10.0.2.3
constexpr unsigned prefix_length = 24;

/// Listens on the port for a moment, as the VMM will. An errno, or 0.
int try_port(Ipv4Address address, std::uint16_t port) {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) return errno;
    // As slirp does: connections of an earlier machine that linger do not count.
    const int on = 1;
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return errno;
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    where.sin_addr.s_addr = htonl(address.bits());
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0)
        return errno;
    return ::listen(fd.get(), 1) == 0 ? 0 : errno;
}

std::string endpoint_text(const PortForward& forward) {
    return forward.host_address.text() + ":" + std::to_string(forward.host_port);
}

Error cannot_use(int error_number, const PortForward& forward) {
    const std::string what = "the host port " + endpoint_text(forward);
    switch (error_number) {
        case EADDRINUSE:
            return {Errc::in_use, what + " is taken by another program",
                    "Choose another port, or 0 for a free one."};
        case EACCES:
            return {Errc::permission_denied, what + " is reserved for root",
                    "Choose a port of 1024 or above."};
        case EADDRNOTAVAIL:
            return {Errc::invalid_argument, what + " is on an address that this host does not have",
                    "Use 127.0.0.1, or 0.0.0.0 for every address of the host."};
        default:
            return Error::from_errno(error_number, what);
    }
}

Error no_record(Error error) {
    if (error.remedy.empty())
        error.remedy = "Look at the runtime folder (XDG_RUNTIME_DIR): it is full or gone.";
    return error;
}

}  // namespace

std::string format_reservation(const std::vector<PortForward>& forwards) {
    std::string text;
    for (const PortForward& forward : forwards)
        text += forward.host_address.text() + " " + std::to_string(forward.host_port) + "\n";
    return text;
}

Result<std::vector<std::pair<Ipv4Address, std::uint16_t>>> parse_reservation(
    std::string_view text) {
    const Error damaged(Errc::corrupt, "a record of promised ports is damaged",
                        "Stop the machine and start it again.");
    std::vector<std::pair<Ipv4Address, std::uint16_t>> endpoints;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        const std::string_view line = text.substr(0, end);
        const std::size_t space = line.find(' ');
        if (end == text.npos || space == line.npos) return damaged;
        const Result<Ipv4Address> address = Ipv4Address::parse(line.substr(0, space));
        std::uint16_t port = 0;
        const char* const last = line.data() + line.size();
        const auto [at, error] = std::from_chars(line.data() + space + 1, last, port);
        if (!address || error != std::errc() || at != last || port == 0) return damaged;
        endpoints.emplace_back(*address, port);
        text.remove_prefix(end + 1);
    }
    return endpoints;
}

std::string UserNetwork::record_path(const VmId& vm) const {
    return host_.run_folder() + "/" + vm.str();
}

Result<std::set<UserNetwork::Endpoint>> UserNetwork::promised() const {
    std::set<Endpoint> all;
    for (const std::string& name : BANGER_TRY(list_folder(host_.run_folder()))) {
        if (!VmId::parse(name)) continue;
        const Result<std::string> text =
            read_file(host_.run_folder() + "/" + name, ByteCount::kib(64));
        if (!text) continue;  // detached just now
        const Result<std::vector<Endpoint>> endpoints = parse_reservation(*text);
        // A damaged record promises nothing that we could keep; its port is still tried by binding.
        if (endpoints) all.insert(endpoints->begin(), endpoints->end());
    }
    return all;
}

Result<void> UserNetwork::choose(PortForward& forward, const std::set<Endpoint>& taken) {
    if (forward.guest_port == 0)
        return Error(Errc::invalid_argument, "a port forward needs a port of the guest",
                     "Give a guest port from 1 to 65535.");
    const auto is_promised = [&](std::uint16_t port) {
        // 0.0.0.0 is every address.
        return std::ranges::any_of(taken, [&](const Endpoint& other) {
            return other.second == port &&
                   (other.first == forward.host_address || other.first == Ipv4Address() ||
                    forward.host_address == Ipv4Address());
        });
    };
    if (forward.host_port != 0) {
        if (is_promised(forward.host_port)) return cannot_use(EADDRINUSE, forward);
        const int error_number = try_port(forward.host_address, forward.host_port);
        return error_number == 0 ? ok() : Result<void>(cannot_use(error_number, forward));
    }
    std::uint16_t start = 0;
    if (::getrandom(&start, sizeof start, 0) < 0) return Error::from_errno(errno, "getrandom");
    for (unsigned i = 0; i < port_count; ++i) {
        const auto port = static_cast<std::uint16_t>(first_port + (start + i) % port_count);
        if (is_promised(port)) continue;
        const int error_number = try_port(forward.host_address, port);
        if (error_number == EADDRINUSE) continue;
        if (error_number != 0) return cannot_use(error_number, forward);
        forward.host_port = port;
        return ok();
    }
    return Error(Errc::no_space, "no host port from 20000 to 32767 is free",
                 "Stop some machines, or name a port yourself.");
}

Result<NetworkLink> UserNetwork::attach(const LinkRequest& request, std::stop_token stop) {
    if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
    if (request.address && *request.address != guest_address)
        return Error(Errc::unsupported, "every guest of net-user has the address 10.0.2.15",
                     "Choose another network plugin for addresses of your own.");
    if (request.forwards.size() > max_forwards)
        return Error(Errc::invalid_argument, "more than 64 forwarded ports", "Forward fewer.");
    const Ipv4Prefix address = BANGER_TRY(Ipv4Prefix::make(guest_address, prefix_length));
    NetworkLink link{request.vm, LinkKind::user, {},          request.mac,     address,
                     gateway,    name_server,    request.nat, request.forwards};

    const std::lock_guard lock(mutex_);
    if (path_exists(record_path(request.vm)))
        return Error(Errc::already_exists,
                     "machine " + request.name.str() + " is attached to the network already",
                     "Stop it first.");
    Result<std::set<Endpoint>> taken = promised();
    if (!taken) return no_record(taken.error());
    for (PortForward& forward : link.forwards) {
        BANGER_TRY(choose(forward, *taken));
        taken->emplace(forward.host_address, forward.host_port);
    }
    const Result<void> written = write_record(request.vm, format_reservation(link.forwards));
    if (!written) return no_record(written.error());
    return link;
}

Result<void> UserNetwork::write_record(const VmId& vm, const std::string& text) const {
    // A dot in front: not a VmId, so no record yet. No fsync: the run folder does not survive a
    // reboot anyway.
    const std::string temporary = host_.run_folder() + "/." + vm.str();
    Rollback rollback({});
    rollback.add("removing " + temporary, [&] { return remove_file(temporary); });
    {
        const UniqueFd fd(
            ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!fd) return Error::from_errno(errno, "open " + temporary);
        BANGER_TRY(write_all(fd.get(), text).context("writing " + temporary));
    }
    if (::rename(temporary.c_str(), record_path(vm).c_str()) != 0)
        return Error::from_errno(errno, "rename " + temporary);
    return ok();
}

Result<void> UserNetwork::detach(const VmId& vm) {
    const std::lock_guard lock(mutex_);
    return remove_file(record_path(vm)).context("forgetting the ports of " + vm.str());
}

Result<std::vector<VmId>> UserNetwork::recover(std::span<const NetworkLink> remembered) {
    const std::lock_guard lock(mutex_);
    std::vector<VmId> gone;
    for (const NetworkLink& link : remembered)
        if (!path_exists(record_path(link.vm))) gone.push_back(link.vm);
    ErrorCollector errors;
    for (const std::string& name : BANGER_TRY(list_folder(host_.run_folder()))) {
        const bool is_known = std::ranges::any_of(
            remembered, [&](const NetworkLink& link) { return link.vm.str() == name; });
        if (!is_known) errors.add(remove_file(host_.run_folder() + "/" + name));
    }
    BANGER_TRY(errors.result());
    return gone;
}

std::vector<Check> UserNetwork::checks(std::stop_token) {
    PortForward any{Ipv4Address(INADDR_LOOPBACK), 0, 22};
    const Result<void> chosen = choose(any, {});
    if (!chosen)
        return {{"forwarded ports", CheckStatus::fail, chosen.error().message,
                 chosen.error().remedy.empty() ? "Look at the host's loopback interface."
                                               : chosen.error().remedy}};
    return {
        {"forwarded ports", CheckStatus::pass, "free ones on 127.0.0.1 from 20000 to 32767", {}}};
}

}  // namespace banger

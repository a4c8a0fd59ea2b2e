#include "plugins/dns-resolved/resolved_bus.hpp"

#include <netinet/in.h>
#include <poll.h>
#include <systemd/sd-bus.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string_view>
#include <thread>

namespace banger {

namespace {

using namespace std::chrono_literals;

constexpr const char* resolved = "org.freedesktop.resolve1";
constexpr const char* manager_path = "/org/freedesktop/resolve1";
constexpr const char* manager = "org.freedesktop.resolve1.Manager";
constexpr const char* link_interface = "org.freedesktop.resolve1.Link";
constexpr const char* no_such_link = "org.freedesktop.resolve1.NoSuchLink";
constexpr std::chrono::microseconds call_timeout = 5s;
/// Resolved hears of a new interface by netlink, perhaps later than of us by the bus.
constexpr int tries_for_a_link = 50;
constexpr std::chrono::milliseconds link_pause{20};
/// SD_RESOLVED_DNS of the Link's ScopesMask: it has a server to ask, on an interface in use.
constexpr std::uint64_t scope_dns = 1;
constexpr const char* switched_off =
    "Start it: systemctl enable --now systemd-resolved; or see docs/dns-routing.md for other "
    "resolvers.";

struct BusError {
    BusError() = default;
    ~BusError() { sd_bus_error_free(&value); }
    BusError(const BusError&) = delete;
    BusError& operator=(const BusError&) = delete;
    sd_bus_error value{};
};
struct Unref {
    void operator()(sd_bus_message* message) const { sd_bus_message_unref(message); }
};
using Message = std::unique_ptr<sd_bus_message, Unref>;

Error failure(int number, const BusError& error, std::string_view method) {
    if (sd_bus_error_has_name(&error.value, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
        sd_bus_error_has_name(&error.value, SD_BUS_ERROR_NAME_HAS_NO_OWNER))
        return {Errc::unavailable, "systemd-resolved is not running", switched_off};
    if (sd_bus_error_has_name(&error.value, no_such_link))
        return {Errc::not_found, "systemd-resolved does not know the interface", switched_off};
    Error failed = Error::from_errno(-number, "asking systemd-resolved for " + std::string(method));
    if (error.value.message != nullptr) failed.message += ": " + std::string(error.value.message);
    failed.remedy = "See its log: journalctl -u systemd-resolved";
    return failed;
}

/// Calls a method of the manager about one interface. `fill` appends what comes after the index;
/// sd-bus keeps the first error and reports it at the call.
Result<Message> call(sd_bus* bus, const char* method, int index,
                     const std::function<int(sd_bus_message*)>& fill = {}) {
    for (int tries = tries_for_a_link;; --tries) {
        sd_bus_message* made = nullptr;
        int number =
            sd_bus_message_new_method_call(bus, &made, resolved, manager_path, manager, method);
        const Message request(made);
        BusError error;
        sd_bus_message* answer = nullptr;
        if (number >= 0) number = sd_bus_message_set_auto_start(made, 0);
        if (number >= 0) number = sd_bus_message_append(made, "i", index);
        if (number >= 0 && fill) number = fill(made);
        if (number >= 0) number = sd_bus_call(bus, made, 0, &error.value, &answer);
        if (number >= 0) return Message(answer);
        if (!sd_bus_error_has_name(&error.value, no_such_link) || tries <= 1)
            return failure(number, error, method);
        std::this_thread::sleep_for(link_pause);
    }
}

Result<void> set_word(sd_bus* bus, const char* method, int index, const char* word) {
    (void)BANGER_TRY(call(bus, method, index, [word](sd_bus_message* message) {
        return sd_bus_message_append(message, "s", word);
    }));
    return ok();
}

std::array<std::uint8_t, 4> octets_of(Ipv4Address address) {
    const std::uint32_t order = htonl(address.bits());
    std::array<std::uint8_t, 4> octets{};
    std::memcpy(octets.data(), &order, sizeof order);
    return octets;
}

int append_server(sd_bus_message* message, const DnsZone& zone) {
    const std::array<std::uint8_t, 4> octets = octets_of(zone.server);
    int number = sd_bus_message_open_container(message, 'a', "(iayqs)");
    if (number >= 0) number = sd_bus_message_open_container(message, 'r', "iayqs");
    if (number >= 0) number = sd_bus_message_append(message, "i", AF_INET);
    if (number >= 0)
        number = sd_bus_message_append_array(message, 'y', octets.data(), octets.size());
    if (number >= 0) number = sd_bus_message_append(message, "qs", unsigned{zone.port}, "");
    if (number >= 0) number = sd_bus_message_close_container(message);
    return number < 0 ? number : sd_bus_message_close_container(message);
}

Result<Message> property(sd_bus* bus, const std::string& path, const char* name, const char* type) {
    BusError error;
    sd_bus_message* answer = nullptr;
    const int number = sd_bus_get_property(bus, resolved, path.c_str(), link_interface, name,
                                           &error.value, &answer, type);
    if (number < 0) return failure(number, error, name);
    return Message(answer);
}

/// Exactly this server.
bool has_server(sd_bus_message* message, const DnsZone& zone) {
    int family = 0;
    const void* octets = nullptr;
    std::size_t size = 0;
    std::uint16_t port = 0;
    const char* name = nullptr;
    if (sd_bus_message_enter_container(message, 'a', "(iayqs)") <= 0 ||
        sd_bus_message_enter_container(message, 'r', "iayqs") <= 0 ||
        sd_bus_message_read(message, "i", &family) <= 0 ||
        sd_bus_message_read_array(message, 'y', &octets, &size) < 0 ||
        sd_bus_message_read(message, "qs", &port, &name) <= 0 ||
        sd_bus_message_exit_container(message) < 0 || sd_bus_message_at_end(message, 0) <= 0)
        return false;
    const std::array<std::uint8_t, 4> wanted = octets_of(zone.server);
    return family == AF_INET && size == wanted.size() &&
           std::memcmp(octets, wanted.data(), size) == 0 && port == zone.port;
}

/// Exactly this domain, for routing only.
bool has_domain(sd_bus_message* message, const DnsZone& zone) {
    const char* domain = nullptr;
    int is_routing_only = 0;
    if (sd_bus_message_enter_container(message, 'a', "(sb)") <= 0 ||
        sd_bus_message_read(message, "(sb)", &domain, &is_routing_only) <= 0 ||
        sd_bus_message_at_end(message, 0) <= 0)
        return false;
    return zone.zone == domain && is_routing_only != 0;
}

int on_owner_changed(sd_bus_message*, void* has_changed, sd_bus_error*) {
    *static_cast<bool*>(has_changed) = true;
    return 0;
}

}  // namespace

void ResolvedBus::Close::operator()(sd_bus* bus) const { sd_bus_close_unref(bus); }

Result<ResolvedBus> ResolvedBus::connect(const std::string& address) {
    sd_bus* made = nullptr;
    int number = sd_bus_new(&made);
    if (number < 0) return Error::from_errno(-number, "preparing a bus connection");
    ResolvedBus bus(made);
    number = sd_bus_set_address(made, address.c_str());
    if (number >= 0) number = sd_bus_set_bus_client(made, 1);
    if (number >= 0)
        number =
            sd_bus_set_method_call_timeout(made, static_cast<std::uint64_t>(call_timeout.count()));
    if (number >= 0) number = sd_bus_start(made);
    if (number >= 0) return bus;
    return Error(Errc::unavailable,
                 "there is no system bus: " + Error::from_errno(-number, "connecting").message,
                 "Start it: systemctl start dbus; or see docs/dns-routing.md for other resolvers.");
}

Result<bool> ResolvedBus::has_resolved() {
    BusError error;
    sd_bus_message* answer = nullptr;
    const int number = sd_bus_call_method(bus_.get(), "org.freedesktop.DBus",
                                          "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                          "NameHasOwner", &error.value, &answer, "s", resolved);
    const Message owner(answer);
    int has_owner = 0;
    if (number < 0 || sd_bus_message_read(answer, "b", &has_owner) < 0)
        return Error(Errc::unavailable, "the system bus does not answer",
                     "See its log: journalctl -u dbus");
    return has_owner != 0;
}

Result<void> ResolvedBus::lead(int interface, const DnsZone& zone) {
    (void)BANGER_TRY(
        call(bus_.get(), "SetLinkDefaultRoute", interface,
             [](sd_bus_message* message) { return sd_bus_message_append(message, "b", 0); }));
    // The responder speaks plain DNS and signs nothing; its zone is not in the public tree.
    for (const char* method :
         {"SetLinkLLMNR", "SetLinkMulticastDNS", "SetLinkDNSOverTLS", "SetLinkDNSSEC"})
        BANGER_TRY(set_word(bus_.get(), method, interface, "no"));
    (void)BANGER_TRY(
        call(bus_.get(), "SetLinkDomains", interface, [&zone](sd_bus_message* message) {
            return sd_bus_message_append(message, "a(sb)", 1, zone.zone.c_str(), 1);
        }));
    (void)BANGER_TRY(call(bus_.get(), "SetLinkDNSEx", interface, [&zone](sd_bus_message* message) {
        return append_server(message, zone);
    }));
    return ok();
}

Result<ResolvedBus::State> ResolvedBus::state(int interface, const DnsZone& zone) {
    const Message link = BANGER_TRY(call(bus_.get(), "GetLink", interface));
    const char* path = nullptr;
    if (sd_bus_message_read(link.get(), "o", &path) <= 0)
        return Error(Errc::corrupt, "systemd-resolved gave no path of a link", switched_off);
    const std::string link_path = path;
    const Message servers = BANGER_TRY(property(bus_.get(), link_path, "DNSEx", "a(iayqs)"));
    const Message domains = BANGER_TRY(property(bus_.get(), link_path, "Domains", "a(sb)"));
    if (!has_server(servers.get(), zone) || !has_domain(domains.get(), zone))
        return State::different;
    const Message scopes = BANGER_TRY(property(bus_.get(), link_path, "ScopesMask", "t"));
    std::uint64_t mask = 0;
    (void)sd_bus_message_read(scopes.get(), "t", &mask);
    return (mask & scope_dns) != 0 ? State::leads : State::unused;
}

Result<void> ResolvedBus::revert(int interface) {
    const Result<Message> reverted = call(bus_.get(), "RevertLink", interface);
    if (reverted || reverted.error().code == Errc::unavailable ||
        reverted.error().code == Errc::not_found)
        return ok();
    return reverted.error();
}

Result<void> ResolvedBus::watch() {
    const std::string rule =
        std::string(
            "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
            "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='") +
        resolved + "'";
    const int number =
        sd_bus_add_match(bus_.get(), nullptr, rule.c_str(), &on_owner_changed, has_changed_.get());
    if (number < 0) return Error::from_errno(-number, "watching systemd-resolved");
    return ok();
}

Result<void> ResolvedBus::wait(int wake) {
    *has_changed_ = false;
    for (;;) {
        const int number = sd_bus_process(bus_.get(), nullptr);
        if (number < 0) return Error::from_errno(-number, "listening to the system bus");
        if (*has_changed_) return ok();
        if (number > 0) continue;
        const int events = sd_bus_get_events(bus_.get());
        if (events < 0) return Error::from_errno(-events, "listening to the system bus");
        std::array<pollfd, 2> waiting{
            pollfd{sd_bus_get_fd(bus_.get()), static_cast<short>(events), 0},
            pollfd{wake, POLLIN, 0}};
        if (::poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR)
            return Error::from_errno(errno, "listening to the system bus");
        if (waiting[1].revents != 0) return ok();
    }
}

}  // namespace banger

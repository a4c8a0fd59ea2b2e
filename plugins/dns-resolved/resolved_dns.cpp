#include "plugins/dns-resolved/resolved_dns.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "core/base/process.hpp"

namespace banger {

namespace {

using namespace std::chrono_literals;

constexpr const char* ledger_key = "route";
/// Between two looks for a bus that is not there.
constexpr std::chrono::milliseconds bus_pause = 10s;

Error cancelled() { return {Errc::cancelled, "the route to banger's names was cancelled"}; }

}  // namespace

// ---- opening -----------------------------------------------------------------------------------

ResolvedDns::ResolvedDns(Host& host, Options options, Ledger ledger, UniqueFd wake)
    : host_(host),
      options_(std::move(options)),
      interface_(options_.interface_name, options_.interface_kind),
      ledger_(std::move(ledger)),
      wake_(std::move(wake)) {}

Result<std::unique_ptr<ResolvedDns>> ResolvedDns::open(Host& host, Options options) {
    if (!is_zone(options.zone))
        return Error(Errc::invalid_argument, "'" + options.zone + "' is not a DNS zone",
                     "Correct the setting dns_zone of dns-resolved.");
    Ledger ledger = BANGER_TRY(Ledger::open(host.run_folder()));
    UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake) return Error::from_errno(errno, "making an eventfd");
    std::unique_ptr<ResolvedDns> dns(
        new ResolvedDns(host, std::move(options), std::move(ledger), std::move(wake)));
    const Result<std::string> text = dns->ledger_.read(ledger_key);
    if (!text && text.error().code == Errc::not_found) return dns;
    const Result<RouteEntry> entry =
        text ? parse_route_entry(*text) : Result<RouteEntry>(text.error());
    if (!entry) {
        host.log(LogLevel::warning, entry.error().text());
        return dns;
    }
    dns->entry_ = *entry;
    // Settings may have changed meanwhile.
    if (dns->check_request(entry->zone))
        dns->begin_to_watch();
    else
        BANGER_TRY(dns->unroute());
    return dns;
}

ResolvedDns::~ResolvedDns() { end_watch(); }

// ---- the role ----------------------------------------------------------------------------------

Result<void> ResolvedDns::check_request(const DnsZone& zone) const {
    if (zone.zone != options_.zone)
        return Error(Errc::permission_denied,
                     "names of the zone '" + zone.zone + "' may not be led to banger",
                     "Set dns_zone in /etc/banger/config.toml, then: banger system restart");
    if (zone.server.bits() >> 24U != 127 || zone.port == 0)
        return Error(
            Errc::permission_denied,
            zone.server.text() + ":" + std::to_string(zone.port) + " is no server on this host",
            "Use a loopback address.");
    return ok();
}

Result<void> ResolvedDns::route(const DnsZone& zone, std::stop_token stop) {
    if (stop.stop_requested()) return cancelled();
    BANGER_TRY(check_request(zone));
    const std::lock_guard turn(turns_);
    Result<void> led = ok();
    {
        const std::lock_guard lock(mutex_);
        if (!entry_) entry_ = RouteEntry{zone, 0, MacAddress::of(VmId::random())};
        entry_->zone = zone;
        Result<ResolvedBus> bus = ResolvedBus::connect(options_.bus);
        led = bus ? apply(*bus) : ensure_interface(*entry_);
        if (led && !bus) led = bus.error();
        if (!led && led.error().code != Errc::unavailable) {
            (void)forget();
            return led;
        }
    }
    begin_to_watch();
    return led;
}

Result<void> ResolvedDns::unroute() {
    const std::lock_guard turn(turns_);
    end_watch();
    const std::lock_guard lock(mutex_);
    return forget();
}

Result<void> ResolvedDns::publish(const DnsRecord&, std::stop_token stop) {
    if (stop.stop_requested()) return cancelled();
    poke();
    return ok();
}

Result<void> ResolvedDns::withdraw(const VmId&) { return ok(); }

Result<void> ResolvedDns::recover(std::span<const DnsRecord>) {
    poke();
    return ok();
}

std::vector<Check> ResolvedDns::checks(std::stop_token) {
    const std::lock_guard lock(mutex_);
    const char* name = "systemd-resolved";
    Result<ResolvedBus> bus = ResolvedBus::connect(options_.bus);
    if (!bus) return {{name, CheckStatus::warn, bus.error().message, bus.error().remedy}};
    const Result<bool> is_there = bus->has_resolved();
    if (!is_there || !*is_there)
        return {{name, CheckStatus::warn, is_there ? "it is not running" : is_there.error().message,
                 "Start it: systemctl enable --now systemd-resolved; docs/dns-routing.md has "
                 "recipes for "
                 "other resolvers."}};
    if (!entry_)
        return {{name, CheckStatus::warn, "it runs, and was not told of banger's names yet",
                 "bangerd does that when it starts: banger system restart"}};
    const Result<ResolvedBus::State> state = bus->state(entry_->index, entry_->zone);
    const std::string target = "." + entry_->zone.zone + " to " + entry_->zone.server.text() + ":" +
                               std::to_string(entry_->zone.port);
    if (state && *state == ResolvedBus::State::leads)
        return {{name, CheckStatus::pass,
                 "leads " + target + " by the interface " + interface_.name(), ""}};
    if (state && *state == ResolvedBus::State::unused)
        return {{name, CheckStatus::warn,
                 "knows " + target + " but does not use the interface " + interface_.name(),
                 "Let no other program manage it: resolvectl status " + interface_.name()}};
    return {{name, CheckStatus::warn,
             "does not lead " + target + (state ? "" : ": " + state.error().message),
             "Tell it again: banger system restart"}};
}

// ---- what is on the host -----------------------------------------------------------------------

Result<void> ResolvedDns::ensure_interface(RouteEntry& entry) {
    std::optional<DnsInterface::Found> found = BANGER_TRY(interface_.find());
    if (found && !interface_.is_ours(*found, entry.mac))
        return Error(Errc::already_exists,
                     "there is an interface " + interface_.name() + " that banger did not make",
                     "If nobody needs it: ip link delete " + interface_.name());
    if (!found) {
        entry.index = 0;
        BANGER_TRY(ledger_.write(ledger_key, format_route_entry(entry)));
        entry.index = BANGER_TRY(interface_.make(entry.mac));
    } else {
        entry.index = found->index;
    }
    BANGER_TRY(ledger_.write(ledger_key, format_route_entry(entry)));
    return interface_.bring_up(entry.index);
}

Result<void> ResolvedDns::apply(ResolvedBus& bus) {
    BANGER_TRY(ensure_interface(*entry_));
    if (!BANGER_TRY(bus.has_resolved()))
        return Error(
            Errc::unavailable, "systemd-resolved is not running",
            "Start it: systemctl enable --now systemd-resolved; docs/dns-routing.md has recipes "
            "for other resolvers.");
    if (BANGER_TRY(bus.state(entry_->index, entry_->zone)) != ResolvedBus::State::different)
        return ok();
    return bus.lead(entry_->index, entry_->zone);
}

Result<void> ResolvedDns::remove_interface(const RouteEntry& entry) {
    const std::optional<DnsInterface::Found> found = BANGER_TRY(interface_.find());
    if (!found || !interface_.is_ours(*found, entry.mac)) return ok();
    // What resolved knows goes with the interface; told first, it also forgets its own file of it.
    if (Result<ResolvedBus> bus = ResolvedBus::connect(options_.bus))
        if (const Result<void> reverted = bus->revert(found->index); !reverted)
            host_.log(LogLevel::warning, reverted.error().text());
    return interface_.remove(found->index);
}

Result<void> ResolvedDns::forget() {
    if (!entry_) return ok();
    BANGER_TRY(remove_interface(*entry_));
    BANGER_TRY(ledger_.erase(ledger_key));
    entry_.reset();
    return ok();
}

// ---- watching ----------------------------------------------------------------------------------

void ResolvedDns::poke() const {
    const std::uint64_t one = 1;
    // It can only be full, and then the thread looks anyway.
    (void)!::write(wake_.get(), &one, sizeof one);
}

void ResolvedDns::settle() const {
    std::uint64_t count = 0;
    (void)!::read(wake_.get(), &count, sizeof count);
}

void ResolvedDns::begin_to_watch() {
    if (!watcher_.joinable())
        watcher_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
    poke();
}

void ResolvedDns::end_watch() {
    if (!watcher_.joinable()) return;
    watcher_.request_stop();
    poke();
    watcher_.join();
    watcher_ = {};
}

void ResolvedDns::watch(const std::stop_token& stop) {
    std::string last;
    while (!stop.stop_requested()) {
        const Result<void> lost = watch_bus(stop);
        if (stop.stop_requested()) return;
        // The same sentence every ten seconds tells nobody anything.
        if (!lost && lost.error().message != last) {
            last = lost.error().message;
            host_.log(LogLevel::warning, lost.error().text());
        }
        (void)poll_fd(wake_.get(), POLLIN, bus_pause, stop);
        settle();
    }
}

Result<void> ResolvedDns::watch_bus(const std::stop_token& stop) {
    ResolvedBus bus = BANGER_TRY(ResolvedBus::connect(options_.bus));
    BANGER_TRY(bus.watch());
    std::string last;
    while (!stop.stop_requested()) {
        settle();
        Result<void> applied = ok();
        {
            const std::lock_guard lock(mutex_);
            if (entry_) applied = apply(bus);
        }
        const std::string message = applied ? "" : applied.error().text();
        if (message != last && !message.empty()) host_.log(LogLevel::warning, message);
        if (message != last && message.empty())
            host_.log(LogLevel::info, "systemd-resolved leads names to banger again");
        last = message;
        BANGER_TRY(bus.wait(wake_.get()));
    }
    return ok();
}

}  // namespace banger

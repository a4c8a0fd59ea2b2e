#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "banger/dns.hpp"
#include "banger/host.hpp"
#include "banger/unique_fd.hpp"
#include "core/base/ledger.hpp"
#include "plugins/dns-resolved/dns_interface.hpp"
#include "plugins/dns-resolved/resolved_bus.hpp"
#include "plugins/dns-resolved/route_entry.hpp"

namespace banger {

/// Leads systemd-resolved to banger's responder for one zone, and for nothing else.
///
/// There is one thing on the host: an interface (dns_interface.hpp) with the responder as its
/// server and the zone as its routing domain. It is in the ledger before it is made. It outlives
/// this process, so that names go on resolving while the plugin restarts; unroute() removes it.
///
/// Resolved forgets what it was told when it restarts. A thread watches for that and says it again;
/// it also runs where resolved is not there yet, and sleeps otherwise. Records stay in the
/// responder: publish() and withdraw() only have the thread look whether the route still stands.
class ResolvedDns final : public Dns {
public:
    struct Options {
        std::string zone = "vm";  ///< no other may be led away
        std::string bus = "unix:path=/run/dbus/system_bus_socket";
        std::string interface_name = "banger-dns";
        std::string interface_kind = "dummy";
    };

    /// Goes on with the route of the process before, if there was one.
    static Result<std::unique_ptr<ResolvedDns>> open(Host& host, Options options);
    /// Leaves everything on the host as it is.
    ~ResolvedDns() override;
    ResolvedDns(const ResolvedDns&) = delete;
    ResolvedDns& operator=(const ResolvedDns&) = delete;

    /// Errc::unavailable when resolved is not running: it is led here as soon as it is, unless
    /// unroute() comes first. After every other error nothing is left. Errc::permission_denied for
    /// a server that is not loopback's or a zone that is not the plugin's own: the caller has fewer
    /// rights than we, and the names of others are not his. Errc::already_exists for an interface
    /// of that name that is none of ours.
    Result<void> route(const DnsZone& zone, std::stop_token stop) override;
    Result<void> unroute() override;
    Result<void> publish(const DnsRecord& record, std::stop_token stop) override;
    Result<void> withdraw(const VmId& vm) override;
    Result<void> recover(std::span<const DnsRecord> remembered) override;
    std::vector<Check> checks(std::stop_token stop) override;

private:
    ResolvedDns(Host& host, Options options, Ledger ledger, UniqueFd wake);
    [[nodiscard]] Result<void> check_request(const DnsZone& zone) const;
    // With the lock held.
    Result<void> ensure_interface(RouteEntry& entry);
    Result<void> remove_interface(const RouteEntry& entry);
    Result<void> forget();
    /// Makes sure that interface and resolved are as the entry says; says nothing to a resolved
    /// that knows already.
    Result<void> apply(ResolvedBus& bus);

    void begin_to_watch();
    void end_watch();
    void watch(const std::stop_token& stop);
    /// One connection's worth of it.
    Result<void> watch_bus(const std::stop_token& stop);
    void poke() const;
    void settle() const;

    Host& host_;
    const Options options_;
    const DnsInterface interface_;
    Ledger ledger_;
    const UniqueFd wake_;  ///< an eventfd: the thread is to look again, or to end
    /// Calls that change the route take turns, whatever the caller promised: they start and end the
    /// thread.
    std::mutex turns_;
    std::mutex mutex_;
    std::optional<RouteEntry> entry_;
    std::jthread watcher_;
};

}  // namespace banger

#pragma once

#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger {

/// One name that the host should resolve.
struct DnsRecord {
    VmId vm;
    VmName name;  ///< the label in front of the zone
    Ipv4Address address;
    friend bool operator==(const DnsRecord&, const DnsRecord&) = default;
};

/// Where core's authoritative responder listens, and for which zone.
struct DnsZone {
    std::string zone;    ///< "vm"
    Ipv4Address server;  ///< a loopback address
    std::uint16_t port = 0;
    friend bool operator==(const DnsZone&, const DnsZone&) = default;
};

/// Makes `<vm>.<zone>` resolve on the host.
///
/// Core answers the queries itself; this role leads the host's resolver to that answer, or, where
/// the technology keeps its own table (a hosts file, dnsmasq), writes the records there.
///
/// Core calls every method from a worker thread, one at a time. None throws. Withdrawal cannot be
/// cancelled.
class Dns {
public:
    virtual ~Dns() = default;
    /// Leads queries for the zone to the server. Called at start and again whenever the responder
    /// moved. Idempotent; a later call replaces the earlier one. Errc::unavailable when the
    /// resolver is not running: the plugin leads it there as soon as it is, unless unroute() comes
    /// first. Errc::permission_denied for a zone or a server that the plugin may not lead to.
    virtual Result<void> route(const DnsZone& zone, std::stop_token stop) = 0;
    /// Takes back what route() and publish() did. Succeeds when there is nothing to take back.
    virtual Result<void> unroute() = 0;
    /// Makes one name resolve. All or nothing; idempotent: publishing a machine again replaces its
    /// record. A name that another machine holds is Errc::already_exists.
    virtual Result<void> publish(const DnsRecord& record, std::stop_token stop) = 0;
    /// Removes the machine's name. Succeeds when it has none.
    virtual Result<void> withdraw(const VmId& vm) = 0;
    /// Called once, before anything else, with every record core remembers: afterwards exactly
    /// these are published, and the plugin's own leftovers are gone.
    virtual Result<void> recover(std::span<const DnsRecord> remembered) = 0;
    /// Rows for `banger doctor`. Changes nothing.
    virtual std::vector<Check> checks(std::stop_token stop) = 0;
};

}  // namespace banger

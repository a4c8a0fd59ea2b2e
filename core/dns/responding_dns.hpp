#pragma once

#include <mutex>

#include "banger/dns.hpp"
#include "core/dns/name_table.hpp"

namespace banger::dns {

/// The Dns role as core/vms sees it: each name goes into the responder's table *and* to the plugin
/// that leads the host's resolver there (or keeps records of its own). A name that the plugin
/// refuses is taken out of the table again.
///
/// Both outlive this. Calls for different machines may come at once: they take turns here, as the
/// role promises its plugins. How long one takes is the plugin's affair.
class RespondingDns final : public Dns {
public:
    RespondingDns(NameTable& names, Dns& resolver) : names_(names), resolver_(resolver) {}

    Result<void> route(const DnsZone& zone, std::stop_token stop) override;
    /// Also empties the table.
    Result<void> unroute() override;
    Result<void> publish(const DnsRecord& record, std::stop_token stop) override;
    Result<void> withdraw(const VmId& vm) override;
    Result<void> recover(std::span<const DnsRecord> remembered) override;
    std::vector<Check> checks(std::stop_token stop) override;

private:
    std::mutex turns_;
    NameTable& names_;
    Dns& resolver_;
};

}  // namespace banger::dns

#pragma once

#include "banger/dns.hpp"

namespace banger {

/// `dns = "none"`, the built-in choice of user mode: nothing leads the host's resolver to banger,
/// since that needs root. Machines have names in banger itself (`vm ssh NAME`), and core's
/// responder still answers a direct query. Accepts every call and does nothing.
class NoDns final : public Dns {
public:
    Result<void> route(const DnsZone&, std::stop_token) override { return ok(); }
    Result<void> unroute() override { return ok(); }
    Result<void> publish(const DnsRecord&, std::stop_token) override { return ok(); }
    Result<void> withdraw(const VmId&) override { return ok(); }
    Result<void> recover(std::span<const DnsRecord>) override { return ok(); }
    std::vector<Check> checks(std::stop_token) override { return {}; }
};

}  // namespace banger

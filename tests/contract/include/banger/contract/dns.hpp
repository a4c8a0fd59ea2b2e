#pragma once

#include <optional>

#include "banger/contract/subject.hpp"
#include "banger/contract/suite.hpp"
#include "banger/dns.hpp"

namespace banger::contract {

BANGER_CONTRACT_SUITE(dns);

class DnsSubject : public Subject<Dns> {
public:
    /// What the host's resolver would answer now, where the plugin itself keeps the records; a
    /// plugin that only leads queries to core's responder says so by `keeps_records()`.
    virtual bool keeps_records() { return false; }
    virtual std::optional<Ipv4Address> lookup(const VmName&) { return std::nullopt; }
};

class DnsContract : public Suite<DnsSubject> {
protected:
    DnsRecord record(std::size_t i);
    void expect_resolves(const DnsRecord& record, bool resolves);
};

}  // namespace banger::contract

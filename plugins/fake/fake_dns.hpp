#pragma once

#include <optional>
#include <string>

#include "banger/dns.hpp"
#include "failpoints.hpp"

namespace banger {

/// Records that are files: `FOLDER/ID` holds name and address, `FOLDER/route` the zone.
class FakeDns final : public Dns {
public:
    /// `folder` exists.
    FakeDns(std::string folder, Failpoints& failpoints)
        : folder_(std::move(folder)), failpoints_(failpoints) {}

    Result<void> route(const DnsZone& zone, std::stop_token stop) override;
    Result<void> unroute() override;
    Result<void> publish(const DnsRecord& record, std::stop_token stop) override;
    Result<void> withdraw(const VmId& vm) override;
    Result<void> recover(std::span<const DnsRecord> remembered) override;
    std::vector<Check> checks(std::stop_token stop) override;

    /// What a resolver would answer now.
    [[nodiscard]] std::optional<Ipv4Address> lookup(const VmName& name) const;

private:
    [[nodiscard]] std::string file_of(const VmId& vm) const { return folder_ + "/" + vm.str(); }
    struct Published {
        std::string vm;
        Ipv4Address address;
    };
    [[nodiscard]] std::optional<Published> find(const VmName& name) const;

    const std::string folder_;
    Failpoints& failpoints_;
};

}  // namespace banger

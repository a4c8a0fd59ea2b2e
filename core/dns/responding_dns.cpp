#include "core/dns/responding_dns.hpp"

namespace banger::dns {

Result<void> RespondingDns::route(const DnsZone& zone, std::stop_token stop) {
    const std::lock_guard turn(turns_);
    return resolver_.route(zone, std::move(stop));
}

Result<void> RespondingDns::unroute() {
    const std::lock_guard turn(turns_);
    names_.replace({});
    return resolver_.unroute();
}

Result<void> RespondingDns::publish(const DnsRecord& record, std::stop_token stop) {
    if (stop.stop_requested())
        return Error(Errc::cancelled, "publishing " + record.name.str() + " was cancelled");
    const std::lock_guard turn(turns_);
    const std::optional<DnsRecord> before = names_.record(record.vm);
    BANGER_TRY(names_.publish(record));
    Result<void> published = resolver_.publish(record, std::move(stop));
    if (published) return ok();
    names_.withdraw(record.vm);
    // Nobody can have taken the old name meanwhile: calls come one at a time.
    if (before) (void)names_.publish(*before);
    return published;
}

Result<void> RespondingDns::withdraw(const VmId& vm) {
    const std::lock_guard turn(turns_);
    names_.withdraw(vm);
    return resolver_.withdraw(vm);
}

Result<void> RespondingDns::recover(std::span<const DnsRecord> remembered) {
    const std::lock_guard turn(turns_);
    names_.replace(remembered);
    return resolver_.recover(remembered);
}

std::vector<Check> RespondingDns::checks(std::stop_token stop) {
    const std::lock_guard turn(turns_);
    return resolver_.checks(std::move(stop));
}

}  // namespace banger::dns

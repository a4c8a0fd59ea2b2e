#include "banger/plugin.hpp"

#include "plugins/dns-resolved/resolved_dns.hpp"

namespace banger {
namespace {

class ResolvedDnsPlugin final : public Plugin {
public:
    explicit ResolvedDnsPlugin(std::unique_ptr<ResolvedDns> dns) : dns_(std::move(dns)) {}
    Roles roles() override { return {.dns = dns_.get()}; }

private:
    std::unique_ptr<ResolvedDns> dns_;
};

Result<std::unique_ptr<Plugin>> make_resolved_dns(Host& host) {
    ResolvedDns::Options options;
    options.zone = std::get<std::string>(host.settings().at("dns_zone"));
    std::unique_ptr<ResolvedDns> dns = BANGER_TRY(ResolvedDns::open(host, std::move(options)));
    return std::unique_ptr<Plugin>(std::make_unique<ResolvedDnsPlugin>(std::move(dns)));
}

}  // namespace
}  // namespace banger

BANGER_PLUGIN("dns-resolved", banger::make_resolved_dns);

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"
#include "core/base/ledger.hpp"
#include "plugins/net-bridge/nftables.hpp"

namespace banger {

/// What `--nat` needs of the host beyond banger's own tables: that it forwards at all, and that no
/// other firewall drops what banger lets through. In netfilter a packet must pass every table, so
/// an accept of ours overrules nobody's drop.
///
/// - `net.ipv4.ip_forward` is switched on with the first such machine, its former value remembered
///   in the ledger, and put back after the last, unless another program's address translation
///   relies on it by then.
/// - The table that iptables, Docker and ufw share (`ip filter`) gets two rules with the comment
///   "banger" when its FORWARD chain drops by default: in DOCKER-USER, which Docker keeps for
///   others, or else at the head of FORWARD. They say what iptables itself could have said, so its
///   tools go on working. Removed after the last such machine.
/// - Anybody else's chain is left alone: warnings() says what to add to it.
///
/// The caller serialises the calls.
class Forwarding {
public:
    Forwarding(Ledger& ledger, Nftables& nftables, std::string bridge)
        : ledger_(ledger), nftables_(nftables), bridge_(std::move(bridge)) {}

    /// Repeatable: looks again each time. Errc::permission_denied when the host's setting cannot be
    /// changed; failing to add a rule to somebody else's chain goes to `warn` alone.
    Result<void> ensure(const std::function<void(const std::string&)>& warn);
    /// Puts everything back. "Already gone" is success.
    Result<void> release();

    /// Rows for doctor. Changes nothing. `is_needed`: a machine with `--nat` is there.
    [[nodiscard]] std::vector<Check> checks(bool is_needed) const;

private:
    Result<void> ensure_accepted();
    Result<void> remove_accepts();
    [[nodiscard]] Result<std::vector<nftables::Rule>> own_rules() const;
    [[nodiscard]] bool is_used_by_others() const;
    [[nodiscard]] Check firewall_check() const;

    Ledger& ledger_;
    Nftables& nftables_;
    const std::string bridge_;
};

/// Errc::permission_denied (a read-only /proc/sys), not_found.
Result<void> write_sysctl(const std::string& name, const std::string& value);
/// Without the newline.
Result<std::string> read_sysctl(const std::string& name);

}  // namespace banger

#include "plugins/net-bridge/forwarding.hpp"

#include <fcntl.h>
#include <linux/netfilter.h>

#include <algorithm>
#include <cerrno>

#include "core/base/file.hpp"
#include "core/base/rollback.hpp"

namespace banger {

namespace {

using nftables::Chain;
using nftables::Family;
using nftables::Rule;

constexpr std::string_view ledger_key = "ip-forward";
constexpr std::string_view ip_forward = "net/ipv4/ip_forward";
constexpr std::string_view comment = "banger";

bool is_ours(const Chain& chain) { return chain.table == "banger"; }

/// The chain that iptables calls FORWARD.
bool is_iptables_forward(const Chain& chain) {
    return chain.family == Family::ip && chain.table == "filter" && chain.name == "FORWARD" &&
           chain.hook == NF_INET_FORWARD && chain.type == "filter";
}

bool mentions(const std::vector<Rule>& rules, const std::string& name) {
    return std::ranges::any_of(
        rules, [&](const Rule& rule) { return rule.bytes.find(name + '\0') != std::string::npos; });
}

std::string name_of(const Chain& chain) {
    return std::string(nftables::to_string(chain.family)) + " " + chain.table + " " + chain.name;
}

/// The old iptables keeps its tables apart; proc(5) lists those in use.
bool has_legacy_table(std::string_view name) {
    const Result<std::string> names = read_file("/proc/net/ip_tables_names", ByteCount::kib(4));
    return names && ("\n" + *names).find("\n" + std::string(name) + "\n") != std::string::npos;
}

}  // namespace

Result<std::string> read_sysctl(const std::string& name) {
    std::string value = BANGER_TRY(read_file("/proc/sys/" + name, ByteCount::kib(4)));
    while (value.ends_with('\n'))
        value.pop_back();
    return value;
}

Result<void> write_sysctl(const std::string& name, const std::string& value) {
    const std::string path = "/proc/sys/" + name;
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd) return Error::from_errno(errno, "open " + path);
    return write_all(fd.get(), value).context("writing " + path);
}

Result<void> Forwarding::ensure(const std::function<void(const std::string&)>& warn) {
    const std::string setting(ip_forward);
    const std::string former = BANGER_TRY(read_sysctl(setting));
    if (former != "1") {
        BANGER_TRY(ledger_.write(ledger_key, former));
        Result<void> written = write_sysctl(setting, "1");
        if (!written)
            return Error(Errc::permission_denied,
                         "the host forwards nothing, and that cannot be changed from here: " +
                             written.error().message,
                         "Switch it on yourself: sudo sysctl net.ipv4.ip_forward=1.");
    }
    const Result<void> accepted = ensure_accepted();
    if (!accepted) warn("guests may not get out: " + accepted.error().text());
    return ok();
}

Result<std::vector<Rule>> Forwarding::own_rules() const {
    std::vector<Rule> rules = BANGER_TRY(nftables_.rules(Family::ip, "filter"));
    std::erase_if(rules, [&](const Rule& rule) {
        return rule.comment != comment || !mentions({rule}, bridge_);
    });
    return rules;
}

Result<void> Forwarding::ensure_accepted() {
    const std::vector<Chain> chains = BANGER_TRY(nftables_.chains());
    const bool drops = std::ranges::any_of(
        chains, [](const Chain& chain) { return is_iptables_forward(chain) && chain.drops; });
    if (!drops) return ok();
    const bool has_docker = std::ranges::any_of(chains, [](const Chain& chain) {
        return chain.family == Family::ip && chain.table == "filter" && chain.name == "DOCKER-USER";
    });
    const std::string chain = has_docker ? "DOCKER-USER" : "FORWARD";
    const std::vector<Rule> present = BANGER_TRY(own_rules());
    if (std::ranges::count(present, chain, &Rule::chain) == 2) return ok();
    // Docker may have come since: then the rules move.
    BANGER_TRY(remove_accepts());
    std::string commands;
    for (const char* const direction : {"oifname", "iifname"})
        commands += "insert rule ip filter " + chain + " " + direction + " \"" + bridge_ +
                    "\" counter accept comment \"" + std::string(comment) + "\"\n";
    return nftables_.run(commands).context("letting guests through the chain " + chain);
}

Result<void> Forwarding::remove_accepts() {
    std::string commands;
    for (const Rule& rule : BANGER_TRY(own_rules()))
        commands +=
            "delete rule ip filter " + rule.chain + " handle " + std::to_string(rule.handle) + "\n";
    if (commands.empty()) return ok();
    return nftables_.run(commands).context("removing banger's rules from the table ip filter");
}

bool Forwarding::is_used_by_others() const {
    if (has_legacy_table("nat")) return true;
    const Result<std::vector<Chain>> chains = nftables_.chains();
    if (!chains) return true;
    return std::ranges::any_of(*chains, [this](const Chain& chain) {
        if (is_ours(chain) || chain.type != "nat" || chain.hook != NF_INET_POST_ROUTING)
            return false;
        const Result<std::vector<Rule>> rules = nftables_.rules(chain.family, chain.table);
        return !rules || !rules->empty();
    });
}

Result<void> Forwarding::release() {
    ErrorCollector errors;
    errors.add(remove_accepts());
    const Result<std::string> former = ledger_.read(ledger_key);
    if (former) {
        // Somebody who came after us found it switched on, and never knew that it could go.
        if (*former == "0" && !is_used_by_others())
            errors.add(write_sysctl(std::string(ip_forward), "0"), "putting ip_forward back");
        if (!errors.has_errors()) errors.add(ledger_.erase(ledger_key));
    } else if (former.error().code != Errc::not_found) {
        errors.add(former.error());
    }
    return errors.result();
}

Check Forwarding::firewall_check() const {
    const std::string name = "network firewall";
    const Result<std::vector<Chain>> chains = nftables_.chains();
    if (!chains)
        return {name, CheckStatus::fail, chains.error().message,
                "Look at the kernel's nf_tables module: sudo modprobe nf_tables."};
    const std::string rules_wanted = "iifname \"" + bridge_ + "\" accept, and oifname \"" +
                                     bridge_ + "\" ct state established,related accept";
    bool drops = false;
    for (const Chain& chain : *chains) {
        if (is_ours(chain) || chain.hook != NF_INET_FORWARD || chain.type != "filter") continue;
        if (is_iptables_forward(chain)) {
            drops |= chain.drops;
            continue;
        }
        const bool is_firewalld = chain.table == "firewalld";
        if (!chain.drops && !is_firewalld) continue;
        const Result<std::vector<Rule>> rules = nftables_.rules(chain.family, chain.table);
        if (rules && mentions(*rules, bridge_)) continue;
        if (is_firewalld)
            return {name, CheckStatus::warn, "firewalld may stop machines with --nat",
                    "Trust the bridge: sudo firewall-cmd --permanent --zone=trusted "
                    "--add-interface=" +
                        bridge_ + ", then sudo firewall-cmd --reload."};
        return {name, CheckStatus::warn,
                "the chain " + name_of(chain) +
                    " drops what is forwarded: machines with --nat "
                    "do not get out",
                "Add to it: " + rules_wanted + "."};
    }
    if (has_legacy_table("filter"))
        return {name, CheckStatus::warn,
                "rules of the old iptables are in force, which banger cannot see",
                "If its FORWARD chain drops: sudo iptables-legacy -I FORWARD -i " + bridge_ +
                    " -j ACCEPT, and the same with -o."};
    if (!drops) return {name, CheckStatus::pass, "nothing drops what is forwarded", ""};
    return {name, CheckStatus::pass,
            "iptables' FORWARD drops by default; banger adds its own rules to it while a machine "
            "with --nat is there",
            ""};
}

std::vector<Check> Forwarding::checks(bool is_needed) const {
    std::vector<Check> rows;
    const std::string name = "network forwarding";
    const Result<std::string> value = read_sysctl(std::string(ip_forward));
    if (!value)
        rows.push_back({name, CheckStatus::fail, value.error().message,
                        "Look at /proc/sys/net/ipv4/ip_forward."});
    else if (*value != "1" && is_needed)
        rows.push_back({name, CheckStatus::fail,
                        "net.ipv4.ip_forward was switched off: machines with --nat do not get out",
                        "Switch it on: sudo sysctl net.ipv4.ip_forward=1."});
    else
        rows.push_back({name, CheckStatus::pass,
                        *value == "1" ? "net.ipv4.ip_forward is on"
                                      : "off; switched on while a machine with --nat is there",
                        ""});
    Check firewall = firewall_check();
    if (is_needed && firewall.status == CheckStatus::pass) {
        const Result<std::vector<Chain>> chains = nftables_.chains();
        const Result<std::vector<Rule>> rules = own_rules();
        const bool drops = chains && std::ranges::any_of(*chains, [](const Chain& chain) {
                               return is_iptables_forward(chain) && chain.drops;
                           });
        if (drops && rules && rules->empty())
            firewall = {firewall.name, CheckStatus::warn,
                        "iptables' FORWARD drops by default, and banger's rules in it are gone",
                        "Put them back: sudo banger system restart."};
    }
    rows.push_back(std::move(firewall));
    return rows;
}

}  // namespace banger

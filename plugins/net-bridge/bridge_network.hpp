#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "banger/host.hpp"
#include "banger/network.hpp"
#include "core/base/ledger.hpp"
#include "plugins/net-bridge/afterwork.hpp"
#include "plugins/net-bridge/forwarding.hpp"
#include "plugins/net-bridge/link_table.hpp"
#include "plugins/net-bridge/nftables.hpp"
#include "plugins/net-bridge/rtnetlink.hpp"
#include "plugins/net-bridge/rule_watch.hpp"
#include "plugins/net-bridge/ruleset.hpp"
#include "plugins/net-bridge/tap.hpp"

namespace banger {

/// The plugin's table of the configuration, checked.
struct BridgeSettings {
    std::string bridge;
    Ipv4Prefix address;  ///< of the host on the bridge; the guests have the rest of the prefix
    Ipv4Address guest_dns;
    bool allow_guest_to_guest = false;
    bool allow_private_networks = false;

    /// Errc::invalid_argument: a name that is not banger's, a prefix that is not private.
    static Result<BridgeSettings> parse(const Settings& settings);
};

/// A bridge of banger's own with a tap for each machine, guarded by banger's own nftables tables
/// (ruleset.hpp). Runs as root in bangerd-root.
///
/// On the host there is nothing before the first link and nothing some seconds after the last. In
/// between: the bridge; a tap a machine, which the uid of the request may open; two tables; and
/// with a `--nat` machine what forwarding.hpp says. The ledger has an entry for each of these
/// before it is made. Names are derived here: a tap is a prefix and a hash of owner and machine.
/// What is removed must be in the ledger and still be the thing that was made: name, index, kind,
/// mark and owner agree.
///
/// One lock orders what changes tables and bridge; links come and begin to leave without it
/// (link_table.hpp).
///
/// The kernel takes tens of milliseconds to let go of a device, for which nobody needs to wait:
/// detach() returns when the tap is down, off the bridge and without rules, so that nothing can
/// pass. The device is removed right after it, the bridge when no link came for a while, both by
/// the afterwork. A machine that comes back at once waits for its former device; recover() and the
/// destructor wait for all.
class BridgeNetwork final : public Network {
public:
    /// Called before each step that changes the host, with its name; an error is the step's
    /// failure. Tests fail, hang or die there. Null in the product.
    using StepHook = std::function<Result<void>(std::string_view step, std::stop_token stop)>;

    /// Reads the ledger and removes what an attach() that a crash cut short has left. Devices of
    /// finished links are not touched.
    static Result<std::unique_ptr<BridgeNetwork>> create(Host& host, StepHook hook);

    [[nodiscard]] Addressing addressing() const override { return {settings_.address}; }
    Result<NetworkLink> attach(const LinkRequest& request, std::stop_token stop) override;
    /// Returns with the link cut off; the device goes a moment later: of failures there tell
    /// settle() and the log.
    Result<void> detach(const VmId& vm) override;
    /// Returns when everything that detach() left behind is gone, the bridge too if it is unused.
    /// What failed there since the last time.
    Result<void> settle() { return afterwork_.settle(); }
    /// Repeatable at any time. Beside what Network says: rules that somebody flushed are put back,
    /// a port that somebody took off the bridge is put back, and a link that core remembers but the
    /// ledger lost is adopted when its device carries our mark.
    Result<std::vector<VmId>> recover(std::span<const NetworkLink> remembered) override;
    std::vector<Check> checks(std::stop_token stop) override;

    /// The tap's name: at most 15 bytes (IFNAMSIZ).
    static std::string device_of(std::uint32_t owner, const VmId& vm);

private:
    BridgeNetwork(Host& host, BridgeSettings settings, Ledger ledger, StepHook hook);

    Result<void> step(std::string_view name, std::stop_token stop) const;
    [[nodiscard]] Result<void> check_guest(const std::optional<Ipv4Address>& address,
                                           const MacAddress& mac) const;
    [[nodiscard]] NetworkLink link_of(const LinkRecord& record) const;
    void read_ledger();
    /// When bridge_name was changed under running machines; recover() moves them over.
    void remove_former_bridge();
    /// The device, if it is still the one that was made. No lock needed.
    [[nodiscard]] Result<std::optional<rtnetlink::Interface>> found_device(
        const LinkRecord& record) const;
    /// The rest of detach(), with nobody waiting: the device, and its entry unless something else
    /// of the link is left.
    Result<void> finish_detach(const VmId& vm, bool may_erase);
    Result<void> remove_unused_bridge();
    /// Called when a table of ours was deleted, by us or by somebody else.
    void restore_rules();
    Result<void> remove_unknown(std::span<const NetworkLink> remembered);

    // With the lock held:
    /// The tap is to be closed without the lock: the kernel takes its time for that.
    Result<Tap> make_link(const VmId& vm, std::stop_token stop);
    /// The index of the bridge, made if it is not there.
    Result<int> ensure_bridge(std::stop_token stop);
    Result<void> make_bridge(std::stop_token stop);
    [[nodiscard]] Result<void> check_subnet() const;
    Result<void> remove_bridge();
    [[nodiscard]] RulesetPlan plan(const std::vector<LinkTable::Link>& links) const;
    Result<void> apply_rules();
    /// Unless somebody's have been put in force since this link came, or began to leave.
    Result<void> ensure_rules(const VmId& vm);
    [[nodiscard]] Result<bool> has_tables();
    [[nodiscard]] bool has_nat() const;
    /// Whether the device is there; one that is off the bridge is put back.
    Result<bool> repair(const LinkRecord& record, int bridge) const;
    /// Takes on devices that carry our mark and core remembers; gives back the strays.
    Result<std::vector<rtnetlink::Interface>> adopt(std::span<const NetworkLink> remembered);
    /// After the last link: bridge, tables, the host's setting.
    Result<void> remove_common();
    [[nodiscard]] Check bridge_check() const;
    [[nodiscard]] Check rules_check();

    void warn(const std::string& what) const { host_.log(LogLevel::warning, what); }

    Host& host_;
    const BridgeSettings settings_;
    const StepHook hook_;
    Ledger ledger_;
    LinkTable links_{ledger_};
    Nftables nftables_;
    Forwarding forwarding_;
    std::mutex mutex_;
    std::unique_ptr<RuleWatch> watch_;  ///< calls us until it is destroyed
    Afterwork afterwork_;               ///< last: it needs all of the above until it is done
};

}  // namespace banger

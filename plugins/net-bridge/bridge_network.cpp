#include "plugins/net-bridge/bridge_network.hpp"

#include <algorithm>
#include <cstdio>

#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/base/rollback.hpp"
#include "plugins/net-bridge/rtnetlink.hpp"
#include "plugins/net-bridge/subnet.hpp"

namespace banger {

namespace {

using rtnetlink::Interface;

/// How long the bridge stays for the next machine.
constexpr std::chrono::seconds bridge_linger{5};
constexpr std::string_view bridge_key = "bridge";
constexpr std::string_view bridge_mark = "banger bridge";
constexpr std::string_view link_mark = "banger vm ";

std::string mark_of(const VmId& vm) { return std::string(link_mark) + vm.str(); }

/// FNV-1a, and a last mixing for the upper bits. Only spreads: nobody gains by a collision, which
/// is refused when the device is made.
std::uint64_t hash_of(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char c : text)
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccd;
    return hash ^ hash >> 33;
}

std::string hex(std::uint64_t value, int digits) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
    return {text, static_cast<std::size_t>(digits)};
}

/// Set at birth, so it tells a bridge that a crash left unmarked from anybody else's.
MacAddress mac_of_bridge(const std::string& name) {
    return MacAddress::of(VmId::parse(hex(hash_of("banger bridge " + name), 12)).value());
}

template <class T>
T setting(const Settings& settings, std::string_view name, T fallback) {
    const auto found = settings.find(name);
    if (found == settings.end() || !std::holds_alternative<T>(found->second)) return fallback;
    return std::get<T>(found->second);
}

bool is_bridge_name(const std::string& name) {
    return name.starts_with("banger") && name.size() <= 15 && std::ranges::all_of(name, [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
           });
}

bool is_our_bridge(const Interface& found, const std::string& name, bool is_in_ledger) {
    if (found.kind != "bridge") return false;
    if (found.alias == bridge_mark) return true;
    // A crash between making and marking it.
    return is_in_ledger && found.alias.empty() && found.mac == mac_of_bridge(name);
}

/// Whether this is the device that the record is about. An entry without an index has none: a tap
/// is recorded and marked before it is made to outlive us. Who may open it says nothing:
/// vmm-firecracker gives it to the machine's own user.
bool is_device_of(const Interface& found, const LinkRecord& record) {
    return record.index != 0 && found.index == record.index && found.name == record.device &&
           found.kind == "tun" && found.alias == mark_of(record.vm);
}

/// The machine on whose marked tap this is; nothing for anything else.
std::optional<VmId> machine_of(const Interface& found) {
    if (found.kind != "tun" || !found.tun_owner || !found.alias.starts_with(link_mark))
        return std::nullopt;
    const Result<VmId> vm = VmId::parse(std::string_view(found.alias).substr(link_mark.size()));
    if (!vm || found.name != BridgeNetwork::device_of(*found.tun_owner, *vm)) return std::nullopt;
    return *vm;
}

/// A name may stand in the text for nftables. The kernel allows nearly any byte in one.
bool is_plain_name(const std::string& name) {
    return !name.empty() && std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_' || c == '.';
    });
}

}  // namespace

Result<BridgeSettings> BridgeSettings::parse(const Settings& settings) {
    const std::string bridge = setting<std::string>(settings, "bridge_name", "banger0");
    if (!is_bridge_name(bridge))
        return Error(Errc::invalid_argument,
                     "bridge_name " + banger::quoted(bridge) + " is not a name of banger's",
                     "Use \"banger\" and up to nine of a-z, 0-9 and \"-\", as in \"banger0\".");
    const Error bad_address(
        Errc::invalid_argument,
        "bridge_address must be a host's address in a private network of /16 to /29",
        "Use an address such as \"172.16.0.1/24\".");
    const Result<Ipv4Prefix> address =
        Ipv4Prefix::parse(setting<std::string>(settings, "bridge_address", "172.16.0.1/24"));
    if (!address || !is_private(*address) || address->length() < 16 || address->length() > 29 ||
        address->address() == address->network() || address->address() == address->broadcast())
        return bad_address;
    const Ipv4Address dns =
        BANGER_TRY(Ipv4Address::parse(setting<std::string>(settings, "guest_dns", "1.1.1.1"))
                       .context("reading guest_dns"));
    return BridgeSettings{bridge, *address, dns,
                          setting<bool>(settings, "allow_guest_to_guest", false),
                          setting<bool>(settings, "allow_private_networks", false)};
}

std::string BridgeNetwork::device_of(std::uint32_t owner, const VmId& vm) {
    return std::string(tap_prefix) + hex(hash_of(std::to_string(owner) + ":" + vm.str()), 11);
}

BridgeNetwork::BridgeNetwork(Host& host, BridgeSettings settings, Ledger ledger, StepHook hook)
    : host_(host),
      settings_(std::move(settings)),
      hook_(std::move(hook)),
      ledger_(std::move(ledger)),
      forwarding_(ledger_, nftables_, settings_.bridge),
      afterwork_([this] { return remove_unused_bridge(); }, bridge_linger,
                 [this](const Error& error) { warn(error.text()); }) {}

Result<std::unique_ptr<BridgeNetwork>> BridgeNetwork::create(Host& host, StepHook hook) {
    BridgeSettings settings = BANGER_TRY(BridgeSettings::parse(host.settings()));
    Ledger ledger = BANGER_TRY(Ledger::open(host.run_folder() + "/ledger"));
    std::unique_ptr<BridgeNetwork> network(
        new BridgeNetwork(host, std::move(settings), std::move(ledger), std::move(hook)));
    network->read_ledger();
    network->remove_former_bridge();
    std::vector<VmId> half_made;
    for (const LinkTable::Link& link : network->links_.all())
        if (link.record.state != LinkRecord::State::made) half_made.push_back(link.record.vm);
    for (const VmId& vm : half_made) {
        const Result<void> removed = network->detach(vm);
        if (!removed) network->warn("removing a half-made link: " + removed.error().text());
    }
    (void)network->settle();
    Result<std::unique_ptr<RuleWatch>> watch =
        RuleWatch::start({.on_deleted = [self = network.get()] { self->restore_rules(); },
                          .on_quiet = [self = network.get()] { self->nftables_.rest(); }});
    if (watch)
        network->watch_ = std::move(*watch);
    else
        network->warn(watch.error().text());
    return network;
}

Result<void> BridgeNetwork::step(std::string_view name, std::stop_token stop) const {
    if (stop.stop_requested()) return Error(Errc::cancelled, "attach was cancelled");
    return hook_ ? hook_(name, std::move(stop)) : ok();
}

void BridgeNetwork::read_ledger() {
    const Result<Ledger::Contents> contents = ledger_.entries();
    if (!contents) return warn(contents.error().text());
    for (const Error& error : contents->damaged)
        warn(error.text());
    for (const Ledger::Entry& entry : contents->entries) {
        if (!entry.key.starts_with("vm-")) continue;
        const Result<LinkRecord> record = parse_link(entry.text);
        if (record && key_of(record->vm) == entry.key) {
            links_.insert_known(*record);
            continue;
        }
        warn("the entry " + entry.key + " is damaged; recovery finds its device by its mark");
        (void)ledger_.erase(entry.key);
    }
}

void BridgeNetwork::remove_former_bridge() {
    const Result<std::string> text = ledger_.read(bridge_key);
    if (!text) return;
    const std::string former = text->substr(0, text->find('\n'));
    if (former == settings_.bridge || !is_bridge_name(former)) return;
    const Result<std::optional<Interface>> bridge = rtnetlink::find_interface(former);
    Result<void> removed = ok();
    if (bridge && *bridge && (*bridge)->kind == "bridge" && (*bridge)->alias == bridge_mark)
        removed = rtnetlink::remove_interface((*bridge)->index);
    if (removed) removed = ledger_.erase(bridge_key);
    if (!removed) warn(removed.error().text());
}

// Attach.

Result<void> BridgeNetwork::check_guest(const std::optional<Ipv4Address>& address,
                                        const MacAddress& mac) const {
    const Ipv4Prefix& pool = settings_.address;
    if (!address || !pool.contains(*address) || *address == pool.network() ||
        *address == pool.broadcast() || *address == pool.address())
        return Error(Errc::invalid_argument,
                     "the machine needs an address of " + pool.text() + " that is not the host's");
    const std::uint8_t first = mac.octets()[0];
    // Locally administered and unicast: the address of no hardware, and of no group.
    if ((first & 3) != 2 || mac == mac_of_bridge(settings_.bridge))
        return Error(Errc::invalid_argument, mac.text() + " is not a hardware address for a guest");
    return ok();
}

NetworkLink BridgeNetwork::link_of(const LinkRecord& record) const {
    const Ipv4Address host = settings_.address.address();
    const Ipv4Prefix address = Ipv4Prefix::make(record.address, settings_.address.length()).value();
    // No forwards: the guest answers at its own address.
    return {record.vm,
            LinkKind::tap,
            record.device,
            record.mac,
            address,
            host,
            record.nat ? settings_.guest_dns : host,
            record.nat,
            {}};
}

Result<NetworkLink> BridgeNetwork::attach(const LinkRequest& request, std::stop_token stop) {
    BANGER_TRY(check_guest(request.address, request.mac));
    const LinkRecord record{LinkRecord::State::making,
                            request.vm,
                            device_of(request.owner_uid, request.vm),
                            0,
                            request.owner_uid,
                            request.mac,
                            *request.address,
                            request.nat};
    // Its former device has the same name.
    const auto is_gone = [&] {
        const std::optional<LinkTable::Link> former = links_.find(request.vm);
        return !former || !former->is_leaving;
    };
    if (!afterwork_.wait(is_gone, stop)) return Error(Errc::cancelled, "attach was cancelled");
    // Before it is our turn, so that whoever is at it writes our rules too.
    BANGER_TRY(step("attach.record", stop));
    BANGER_TRY(links_.reserve(record));
    Rollback rollback([this](const Error& error) { warn(error.text()); });
    rollback.add("removing the link of " + request.vm.str(), [&] {
        ErrorCollector errors;
        errors.add(detach(request.vm));
        errors.add(settle());
        return errors.result();
    });
    std::optional<Tap> tap;
    {
        const std::lock_guard lock(mutex_);
        tap = BANGER_TRY(make_link(request.vm, stop).context("attaching " + request.vm.str()));
    }
    rollback.commit();
    return link_of(record);
}

Result<Tap> BridgeNetwork::make_link(const VmId& vm, std::stop_token stop) {
    const std::optional<LinkTable::Link> found = links_.find(vm);
    if (!found || found->is_leaving)
        return Error(Errc::cancelled, "the link was removed while it was made");
    LinkRecord record = found->record;
    const int bridge = BANGER_TRY(ensure_bridge(stop));

    BANGER_TRY(step("attach.device", stop));
    Tap tap = BANGER_TRY(Tap::make(record.device, record.owner));
    const std::optional<Interface> device = BANGER_TRY(rtnetlink::find_interface(record.device));
    if (!device) return Error(Errc::internal, record.device + " vanished while it was made");
    record.index = device->index;
    BANGER_TRY(step("attach.index", stop));
    BANGER_TRY(links_.update(record));
    BANGER_TRY(step("attach.mark", stop));
    BANGER_TRY(rtnetlink::mark(record.index, mark_of(vm)));
    // First the guard, then the way in.
    BANGER_TRY(step("attach.rules", stop));
    BANGER_TRY(ensure_rules(vm));
    BANGER_TRY(step("attach.port", stop));
    BANGER_TRY(
        rtnetlink::enslave(record.index, bridge, record.mac, !settings_.allow_guest_to_guest));
    BANGER_TRY(rtnetlink::set_up(record.index));
    if (record.nat) {
        BANGER_TRY(step("attach.forwarding", stop));
        BANGER_TRY(forwarding_.ensure([this](const std::string& what) { warn(what); }));
    }
    // Until here the device goes with our descriptor.
    BANGER_TRY(step("attach.keep", stop));
    BANGER_TRY(tap.keep());
    BANGER_TRY(step("attach.done", stop));
    record.state = LinkRecord::State::made;
    BANGER_TRY(links_.update(record));
    return tap;
}

Result<int> BridgeNetwork::ensure_bridge(std::stop_token stop) {
    const std::string& name = settings_.bridge;
    std::optional<Interface> bridge = BANGER_TRY(rtnetlink::find_interface(name));
    const bool is_in_ledger = ledger_.read(bridge_key).has_value();
    if (bridge && !is_our_bridge(*bridge, name, is_in_ledger))
        return Error(
            Errc::in_use, "there is a network interface " + name + " that is not banger's",
            "Remove it (sudo ip link delete " + name + "), or choose another bridge_name.");
    if (!bridge) {
        BANGER_TRY(make_bridge(stop));
        bridge = BANGER_TRY(rtnetlink::find_interface(name));
        if (!bridge) return Error(Errc::internal, name + " vanished while it was made");
    }
    BANGER_TRY(step("bridge.mark", stop));
    BANGER_TRY(rtnetlink::mark(bridge->index, std::string(bridge_mark)));
    BANGER_TRY(step("bridge.address", stop));
    BANGER_TRY(rtnetlink::add_address(bridge->index, settings_.address));
    BANGER_TRY(rtnetlink::set_up(bridge->index));
    return bridge->index;
}

Result<void> BridgeNetwork::make_bridge(std::stop_token stop) {
    BANGER_TRY(check_subnet());
    BANGER_TRY(step("bridge.record", stop));
    BANGER_TRY(ledger_.write(bridge_key, settings_.bridge + "\n"));
    BANGER_TRY(step("bridge.make", stop));
    BANGER_TRY(rtnetlink::make_bridge(settings_.bridge, mac_of_bridge(settings_.bridge)));
    // The guests' routers and addresses are not the host's; the rules drop IPv6 as well.
    for (const auto& [key, value] : {std::pair("accept_ra", "0"), {"disable_ipv6", "1"}}) {
        const std::string setting = "net/ipv6/conf/" + settings_.bridge + "/" + key;
        const Result<void> written = write_sysctl(setting, value);
        if (!written && written.error().code != Errc::not_found) warn(written.error().text());
    }
    return ok();
}

Result<void> BridgeNetwork::check_subnet() const {
    const std::optional<Interface> bridge = BANGER_TRY(rtnetlink::find_interface(settings_.bridge));
    std::vector<Ipv4Prefix> networks;
    for (const rtnetlink::Reached& reached : BANGER_TRY(rtnetlink::reached_networks()))
        if (!bridge || reached.interface != bridge->index) networks.push_back(reached.network);
    const Ipv4Prefix& wanted = settings_.address;
    const std::optional<Ipv4Prefix> clash = clash_of(wanted, networks);
    if (!clash) return ok();
    const std::string network = Ipv4Prefix::make(clash->network(), clash->length()).value().text();
    const std::optional<Ipv4Prefix> free = free_subnet(networks);
    return Error(Errc::in_use,
                 "the guests' network " + wanted.text() + " overlaps " + network +
                     ", which this host reaches another way",
                 free ? "Set bridge_address = \"" + free->text() +
                            "\" in [plugin.net-bridge] of /etc/banger/config.toml, then: sudo "
                            "banger system restart."
                      : "Choose a bridge_address that no route covers.");
}

// Rules.

bool BridgeNetwork::has_nat() const {
    return std::ranges::any_of(links_.all(), [](const LinkTable::Link& link) {
        return link.record.nat && !link.is_leaving;
    });
}

RulesetPlan BridgeNetwork::plan(const std::vector<LinkTable::Link>& links) const {
    RulesetPlan plan{settings_.bridge,
                     settings_.address,
                     settings_.guest_dns,
                     settings_.allow_guest_to_guest,
                     settings_.allow_private_networks,
                     {},
                     {}};
    bool has_nat = false;
    for (const auto& [record, is_leaving, is_in_force] : links) {
        if (is_leaving) continue;
        plan.links.push_back({record.vm, record.device, record.mac, record.address, record.nat});
        has_nat = has_nat || record.nat;
    }
    if (!has_nat) return plan;
    const Result<std::vector<rtnetlink::Reached>> networks = rtnetlink::reached_networks();
    const Result<std::vector<Interface>> all = rtnetlink::interfaces();
    if (!networks || !all) return plan;  // without them, fewer get out
    for (const Interface& interface : *all)
        if (interface.kind == "bridge" && interface.name != settings_.bridge &&
            is_plain_name(interface.name) &&
            std::ranges::any_of(*networks, [&](const rtnetlink::Reached& reached) {
                return reached.network.length() == 0 && reached.interface == interface.index;
            }))
            plan.outside_bridges.push_back(interface.name);
    return plan;
}

Result<void> BridgeNetwork::apply_rules() {
    const std::vector<LinkTable::Link> links = links_.all();
    const RulesetPlan wanted = plan(links);
    BANGER_TRY(nftables_.run(wanted.links.empty() ? empty_ruleset() : ruleset(wanted)));
    links_.note_in_force(links);
    return ok();
}

Result<void> BridgeNetwork::ensure_rules(const VmId& vm) {
    const std::optional<LinkTable::Link> link = links_.find(vm);
    return link && link->is_in_force ? ok() : apply_rules();
}

Result<bool> BridgeNetwork::has_tables() {
    const std::vector<std::string> tables = BANGER_TRY(nftables_.tables());
    return std::ranges::count(tables, "inet banger") != 0 &&
           std::ranges::count(tables, "bridge banger") != 0;
}

void BridgeNetwork::restore_rules() {
    const std::lock_guard lock(mutex_);
    const bool is_needed = std::ranges::any_of(
        links_.all(), [](const LinkTable::Link& link) { return !link.is_leaving; });
    if (!is_needed || has_tables().value_or(false)) return;
    const Result<void> applied = apply_rules();
    warn(applied ? "another program removed banger's nftables tables: they are back"
                 : "banger's nftables tables are gone: " + applied.error().text());
}

// Detach.

Result<void> BridgeNetwork::detach(const VmId& vm) {
    ErrorCollector errors;
    const auto attempt = [&](std::string_view name, const std::function<Result<void>()>& action) {
        Result<void> done = step(name, {});
        if (done) done = action();
        errors.add(std::move(done), "detaching " + vm.str());
    };
    // Before it is our turn, as in attach().
    if (!links_.leave(vm)) return ok();
    {
        const std::lock_guard lock(mutex_);
        const std::optional<LinkTable::Link> link = links_.find(vm);
        if (!link) return ok();
        LinkRecord record = link->record;
        // The way out is closed before its guard goes.
        attempt("detach.cut", [&]() -> Result<void> {
            const std::optional<Interface> device = BANGER_TRY(found_device(record));
            if (device) BANGER_TRY(rtnetlink::cut_off(device->index));
            record.state = LinkRecord::State::leaving;
            return links_.update(record);
        });
        attempt("detach.rules", [&] { return ensure_rules(vm); });
        if (record.nat && !has_nat())
            attempt("detach.forwarding", [&] { return forwarding_.release(); });
    }
    // As long as something is left the entry stays, and so does the way to remove it.
    afterwork_.add([this, vm, may_erase = !errors.has_errors()] {
        return finish_detach(vm, may_erase).context("detaching " + vm.str());
    });
    return errors.result();
}

Result<void> BridgeNetwork::finish_detach(const VmId& vm, bool may_erase) {
    const std::optional<LinkTable::Link> link = links_.find(vm);
    if (!link) return ok();
    BANGER_TRY(step("detach.device", {}));
    const std::optional<Interface> device = BANGER_TRY(found_device(link->record));
    if (device) BANGER_TRY(rtnetlink::remove_interface(device->index));
    if (!may_erase) return ok();
    BANGER_TRY(step("detach.erase", {}));
    return links_.erase(vm);
}

Result<void> BridgeNetwork::remove_unused_bridge() {
    const std::lock_guard lock(mutex_);
    if (!links_.all().empty()) return ok();
    BANGER_TRY(step("detach.bridge", {}));
    return remove_bridge().context("removing the bridge");
}

Result<std::optional<Interface>> BridgeNetwork::found_device(const LinkRecord& record) const {
    if (record.index == 0) return std::optional<Interface>();
    std::optional<Interface> found = BANGER_TRY(rtnetlink::find_interface(record.device));
    if (!found || is_device_of(*found, record)) return found;
    warn("leaving the interface " + record.device + " alone: it is not the one that was made");
    return std::optional<Interface>();
}

Result<void> BridgeNetwork::remove_bridge() {
    const std::optional<Interface> bridge = BANGER_TRY(rtnetlink::find_interface(settings_.bridge));
    if (bridge && is_our_bridge(*bridge, settings_.bridge, ledger_.read(bridge_key).has_value()))
        BANGER_TRY(rtnetlink::remove_interface(bridge->index));
    return ledger_.erase(bridge_key);
}

Result<void> BridgeNetwork::remove_common() {
    ErrorCollector errors;
    const std::vector<std::string> tables = BANGER_TRY(nftables_.tables());
    if (std::ranges::any_of(tables, [](const auto& table) { return table.ends_with(" banger"); }))
        errors.add(nftables_.run(empty_ruleset()));
    errors.add(forwarding_.release());
    errors.add(remove_bridge());
    return errors.result();
}

// Recovery.

Result<std::vector<Interface>> BridgeNetwork::adopt(std::span<const NetworkLink> remembered) {
    std::vector<Interface> strays;
    for (const Interface& found : BANGER_TRY(rtnetlink::interfaces())) {
        const std::optional<VmId> vm = machine_of(found);
        if (!vm) continue;
        const std::optional<LinkTable::Link> known = links_.find(*vm);
        if (known && is_device_of(found, known->record)) continue;
        const auto link = std::ranges::find(remembered, *vm, &NetworkLink::vm);
        if (known || link == remembered.end() || link->device != found.name ||
            !check_guest(link->address.address(), link->mac)) {
            strays.push_back(found);
            continue;
        }
        const LinkRecord record{LinkRecord::State::made,
                                *vm,
                                found.name,
                                found.index,
                                found.tun_owner.value_or(0),
                                link->mac,
                                link->address.address(),
                                link->nat};
        if (const Result<void> reserved = links_.reserve(record); reserved) {
            warn("adopted " + found.name + ", which the ledger had lost");
        } else {
            warn(reserved.error().text());
            strays.push_back(found);
        }
    }
    return strays;
}

Result<void> BridgeNetwork::remove_unknown(std::span<const NetworkLink> remembered) {
    ErrorCollector errors;
    std::vector<VmId> unknown;
    std::vector<Interface> strays;
    {
        const std::lock_guard lock(mutex_);
        strays = BANGER_TRY(adopt(remembered));
        for (const LinkTable::Link& link : links_.all())
            if (std::ranges::find(remembered, link.record.vm, &NetworkLink::vm) == remembered.end())
                unknown.push_back(link.record.vm);
    }
    for (const Interface& stray : strays)
        errors.add(rtnetlink::remove_interface(stray.index), "removing the stray " + stray.name);
    for (const VmId& vm : unknown)
        errors.add(detach(vm));
    errors.add(settle());
    return errors.result();
}

Result<bool> BridgeNetwork::repair(const LinkRecord& record, int bridge) const {
    const std::optional<Interface> found = BANGER_TRY(rtnetlink::find_interface(record.device));
    if (!found || !is_device_of(*found, record)) return false;
    const bool is_isolated = !settings_.allow_guest_to_guest;
    if (found->master != bridge || found->is_isolated != is_isolated)
        BANGER_TRY(rtnetlink::enslave(found->index, bridge, record.mac, is_isolated));
    if (!found->is_up) BANGER_TRY(rtnetlink::set_up(found->index));
    return true;
}

Result<std::vector<VmId>> BridgeNetwork::recover(std::span<const NetworkLink> remembered) {
    (void)settle();
    BANGER_TRY(remove_unknown(remembered));
    std::vector<VmId> lost;
    {
        const std::lock_guard lock(mutex_);
        if (!links_.all().empty()) {
            // The rules come first, as in attach().
            BANGER_TRY(apply_rules());
            const int bridge = BANGER_TRY(ensure_bridge({}));
            for (const NetworkLink& link : remembered) {
                const std::optional<LinkTable::Link> found = links_.find(link.vm);
                // One that a failed detach() left half-way is on its way out.
                if (!found || found->is_leaving || !BANGER_TRY(repair(found->record, bridge)))
                    lost.push_back(link.vm);
            }
            if (has_nat())
                BANGER_TRY(forwarding_.ensure([this](const std::string& what) { warn(what); }));
        } else {
            for (const NetworkLink& link : remembered)
                lost.push_back(link.vm);
        }
    }
    for (const VmId& vm : lost)
        BANGER_TRY(detach(vm));
    BANGER_TRY(settle());
    const std::lock_guard lock(mutex_);
    if (links_.all().empty()) BANGER_TRY(remove_common());
    return lost;
}

// Checks.

Check BridgeNetwork::bridge_check() const {
    const std::string name = "network bridge";
    const std::string what = settings_.bridge + " with " + settings_.address.text();
    const Result<std::optional<Interface>> bridge = rtnetlink::find_interface(settings_.bridge);
    if (!bridge)
        return {name, CheckStatus::fail, bridge.error().message,
                "Let bangerd-root use netlink: see its unit."};
    if (*bridge && !is_our_bridge(**bridge, settings_.bridge, ledger_.read(bridge_key).has_value()))
        return {name, CheckStatus::fail,
                "there is a network interface " + settings_.bridge + " that is not banger's",
                "Remove it (sudo ip link delete " + settings_.bridge +
                    "), or choose another bridge_name."};
    const Result<void> subnet = check_subnet();
    if (!subnet) return {name, CheckStatus::fail, subnet.error().message, subnet.error().remedy};
    if (!path_exists("/dev/net/tun"))
        return {name, CheckStatus::fail, "there is no /dev/net/tun",
                "Load the kernel module: sudo modprobe tun."};
    if (!*bridge) return {name, CheckStatus::pass, what + ", made with the first machine", ""};
    const std::vector<LinkTable::Link> links = links_.all();
    const auto machines =
        std::ranges::count_if(links, [](const LinkTable::Link& link) { return !link.is_leaving; });
    return {name, CheckStatus::pass,
            what + ", " + std::to_string(machines) + (machines == 1 ? " machine" : " machines"),
            ""};
}

Check BridgeNetwork::rules_check() {
    const std::string name = "network rules";
    const Result<void> accepted = nftables_.check(ruleset(plan(links_.all())));
    if (!accepted)
        return {name, CheckStatus::fail, accepted.error().message, accepted.error().remedy};
    if (links_.all().empty())
        return {name, CheckStatus::pass, "nftables takes banger's rules; none are needed now", ""};
    if (!has_tables().value_or(false))
        return {name, CheckStatus::fail,
                "another program removed banger's nftables tables: guests are not guarded",
                "Put them back: sudo banger system restart."};
    return {name, CheckStatus::pass, "the nftables tables named banger are in force", ""};
}

std::vector<Check> BridgeNetwork::checks(std::stop_token) {
    const std::lock_guard lock(mutex_);
    std::vector<Check> rows{bridge_check(), rules_check()};
    for (Check& row : forwarding_.checks(has_nat()))
        rows.push_back(std::move(row));
    return rows;
}

}  // namespace banger

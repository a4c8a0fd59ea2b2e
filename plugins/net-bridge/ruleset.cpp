#include "plugins/net-bridge/ruleset.hpp"

#include <functional>

namespace banger {

namespace {

std::string join(const std::vector<std::string>& parts) {
    std::string text;
    for (const std::string& part : parts)
        text += (text.empty() ? "" : ", ") + part;
    return text;
}

/// The `elements` line of a set; an empty one must have none.
std::string elements(const std::vector<RulesetLink>& links,
                     const std::function<std::string(const RulesetLink&)>& element) {
    std::vector<std::string> parts;
    for (const RulesetLink& link : links) {
        const std::string part = element(link);
        if (!part.empty()) parts.push_back(part);
    }
    return parts.empty() ? "" : "        elements = { " + join(parts) + " }\n";
}

std::string in_quotes(const std::string& name) { return '"' + name + '"'; }

std::string nat_chain(const RulesetLink& link) { return "nat-" + link.vm.str(); }

std::string bridge_table(const RulesetPlan& plan) {
    const std::string senders = elements(plan.links, [](const RulesetLink& link) {
        return in_quotes(link.device) + " . " + link.mac.text() + " . " + link.address.text();
    });
    // Whom a guest may ask for a hardware address.
    const std::string asked = plan.allow_guest_to_guest ? plan.address.network().text() + "/" +
                                                              std::to_string(plan.address.length())
                                                        : plan.address.address().text();
    const std::string sender =
        "iifname . ether saddr . arp saddr ip @senders "
        "iifname . arp saddr ether . arp saddr ip @senders ";
    std::string text = "table bridge banger {\n";
    text += "    set senders {\n        type ifname . ether_addr . ipv4_addr\n" + senders +
            "    }\n"
            "    chain prerouting {\n"
            "        type filter hook prerouting priority -300; policy accept;\n"
            "        iifname \"" +
            std::string(tap_prefix) +
            "*\" jump from_guest\n"
            "    }\n"
            "    chain from_guest {\n"
            "        ether type ip iifname . ether saddr . ip saddr @senders accept\n";
    text += "        ether type arp " + sender + "arp operation request arp daddr ip " + asked +
            " accept\n";
    text += "        ether type arp " + sender + "arp operation reply accept\n";
    text += "        drop\n    }\n}\n";
    return text;
}

std::string to_host_chains(const RulesetPlan& plan) {
    const std::string bridge = in_quotes(plan.bridge);
    const std::string host = plan.address.address().text();
    return
        // Frames to the link-local group (01:80:c2:00:00:0x) pass a bridge by and enter the host
        // from the port itself.
        "    chain prerouting {\n"
        "        type filter hook prerouting priority raw; policy accept;\n"
        "        iifname \"" +
        std::string(tap_prefix) +
        "*\" drop\n"
        "        iifname " +
        bridge +
        " meta nfproto ipv6 drop\n"
        "    }\n"
        "    chain input {\n"
        "        type filter hook input priority filter - 10; policy accept;\n"
        "        iifname " +
        bridge +
        " jump guest_to_host\n"
        "    }\n"
        "    chain guest_to_host {\n"
        "        ct state established,related accept\n"
        "        ip daddr " +
        host +
        " udp dport 53 accept\n"
        "        ip daddr " +
        host +
        " tcp dport 53 accept\n"
        "        drop\n"
        "    }\n";
}

std::string forward_chains(const RulesetPlan& plan) {
    const std::string bridge = in_quotes(plan.bridge);
    std::vector<std::string> outside;
    for (const std::string& name : plan.outside_bridges)
        outside.push_back(in_quotes(name));
    std::string text =
        "    chain forward {\n"
        "        type filter hook forward priority filter - 10; policy accept;\n"
        "        iifname " +
        bridge +
        " jump guest_to_outside\n"
        "        oifname " +
        bridge +
        " jump outside_to_guest\n"
        "    }\n"
        "    chain guest_to_outside {\n";
    text += "        oifname " + bridge + (plan.allow_guest_to_guest ? " accept\n" : " drop\n");
    text +=
        "        ct state invalid drop\n"
        "        ct status dnat drop\n"
        "        ip daddr { 0.0.0.0/8, 100.100.100.200, 127.0.0.0/8, 168.63.129.16, "
        "169.254.0.0/16, 224.0.0.0/3 } drop\n";
    text += "        " + (outside.empty() ? "" : "oifname != { " + join(outside) + " } ") +
            "meta oifkind \"bridge\" drop\n";
    // Refused and not dropped: whoever meets this in a guest is to see it at once.
    if (!plan.allow_private_networks)
        text += "        ip saddr @nat_guests ip daddr " + plan.guest_dns.text() +
                " meta l4proto { tcp, udp } th dport 53 accept\n"
                "        ip saddr @nat_guests ip daddr { 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, "
                "192.168.0.0/16 } reject with icmpx admin-prohibited\n";
    text +=
        "        ip saddr @nat_guests accept\n"
        "        drop\n"
        "    }\n"
        "    chain outside_to_guest {\n"
        "        ct state established,related accept\n"
        "        drop\n"
        "    }\n";
    return text;
}

std::string nat_chains(const RulesetPlan& plan) {
    std::string text = "    map nat {\n        type ipv4_addr : verdict\n";
    std::string chains;
    for (const RulesetLink& link : plan.links)
        if (link.nat)
            chains += "    chain " + nat_chain(link) + " {\n        ip saddr " +
                      link.address.text() + " oifname != " + in_quotes(plan.bridge) +
                      " masquerade\n    }\n";
    text += elements(plan.links, [](const RulesetLink& link) {
        return link.nat ? link.address.text() + " : jump " + nat_chain(link) : "";
    });
    text += "    }\n" + chains;
    text +=
        "    chain postrouting {\n"
        "        type nat hook postrouting priority srcnat; policy accept;\n"
        "        ip saddr vmap @nat\n"
        "    }\n";
    return text;
}

}  // namespace

std::string empty_ruleset() {
    // Deleting what is not there fails, adding what is there does not.
    return "add table bridge banger\n"
           "delete table bridge banger\n"
           "add table inet banger\n"
           "delete table inet banger\n";
}

std::string ruleset(const RulesetPlan& plan) {
    std::string text = empty_ruleset() + bridge_table(plan) + "table inet banger {\n";
    text += "    set nat_guests {\n        type ipv4_addr\n" +
            elements(plan.links,
                     [](const RulesetLink& link) {
                         return link.nat ? link.address.text() : std::string();
                     }) +
            "    }\n";
    text += to_host_chains(plan) + forward_chains(plan) + nat_chains(plan) + "}\n";
    return text;
}

}  // namespace banger

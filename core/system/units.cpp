#include "core/system/units.hpp"

#include "units/texts.hpp"

namespace banger::system {

std::string_view unit_text(std::string_view unit) {
    for (const auto& [name, text] : unit_texts)
        if (name == unit) return text;
    return {};
}

std::string owner_drop_in(std::string_view unit, const Owner& owner, bool has_kvm_group) {
    const std::string uid = std::to_string(owner.uid);
    const std::string gid = std::to_string(owner.gid);
    const std::string head = "# Written by `banger system install`.\n";
    if (unit.ends_with(".socket"))
        return head + "[Socket]\nSocketUser=" + uid + "\nSocketGroup=" + gid + "\n";
    if (unit != "bangerd.service") return {};
    std::string text = head + "[Service]\nUser=" + uid + "\nGroup=" + gid + "\n";
    if (has_kvm_group) text += "# opens /dev/kvm\nSupplementaryGroups=kvm\n";
    return text;
}

std::string tmpfiles_text(const Owner& owner) {
    const std::string ids = std::to_string(owner.uid) + " " + std::to_string(owner.gid);
    return "# Written by `banger system install`.\n"
           "d /run/banger 0700 " +
           ids +
           " -\n"
           "d /run/banger-root 0711 root root -\n"
           "# mmdebstrap's unprivileged ids pass through\n"
           "d /var/cache/banger-build 0711 " +
           ids + " -\n";
}

}  // namespace banger::system

#pragma once

#include <string>
#include <string_view>

#include "core/system/layout.hpp"

/// The texts that make up the services. The units themselves are systemd/*, built in.
namespace banger::system {

/// Of one of unit_names.
std::string_view unit_text(std::string_view unit);

/// What is the owner's in a unit: UNIT.d/owner.conf. Numbers, not names: a name may hold what
/// systemd would expand. Empty for a unit that has nothing of the owner.
std::string owner_drop_in(std::string_view unit, const Owner& owner, bool has_kvm_group);

/// /etc/tmpfiles.d/banger.conf: folders that must be right before the sockets are.
std::string tmpfiles_text(const Owner& owner);
/// /etc/udev/rules.d/59-banger.rules: udev reads no file system on the loop devices of storage-dm,
/// which it would otherwise name by an UUID that a guest or an image chose. They clear themselves
/// and have a size limit; no others have both.
inline constexpr std::string_view udev_rules_text =
    "# Written by `banger system install`.\n"
    "SUBSYSTEM==\"block\", KERNEL==\"loop*\", ATTR{loop/autoclear}==\"1\", "
    "ATTR{loop/sizelimit}!=\"0\", ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}=\"1\"\n";

}  // namespace banger::system

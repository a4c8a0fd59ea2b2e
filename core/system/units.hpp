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

}  // namespace banger::system

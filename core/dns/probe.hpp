#pragma once

#include <stop_token>
#include <vector>

#include "banger/dns.hpp"
#include "core/dns/name_table.hpp"

namespace banger::dns {

/// Rows for `banger doctor`: does a name of ours resolve, asked of the responder itself, and the
/// way every program asks (getaddrinfo)? A name of this check's own is in the table meanwhile, so
/// that no machine has to run. Blocks for a few seconds at most; ends soon when stopped.
///
/// `is_routed` says whether a plugin is to lead the host's resolver here, or the owner does it by
/// hand, or not at all.
std::vector<Check> check_resolution(const DnsZone& where, NameTable& names, bool is_routed,
                                    std::stop_token stop);

}  // namespace banger::dns

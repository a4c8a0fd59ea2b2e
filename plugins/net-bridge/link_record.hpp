#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger {

/// One link as the ledger keeps it, under the key "vm-ID".
struct LinkRecord {
    enum class State {
        making,  ///< attach() is, or was, under way: whatever there is of it may be removed
        made,
        leaving,  ///< detach() has cut it off: nothing passes, the device is to be removed
    };
    State state = State::making;
    VmId vm;
    std::string device;
    int index = 0;  ///< of the interface; 0 while it is not known
    std::uint32_t owner = 0;
    MacAddress mac;
    Ipv4Address address;
    bool nat = false;
    friend bool operator==(const LinkRecord&, const LinkRecord&) = default;
};

/// The text of an entry: a line "WORD VALUE" for each field, in this order.
std::string format_link(const LinkRecord& record);
/// Errc::corrupt for anything else.
Result<LinkRecord> parse_link(std::string_view text);
std::string key_of(const VmId& vm);

}  // namespace banger

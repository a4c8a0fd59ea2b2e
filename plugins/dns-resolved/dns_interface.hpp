#pragma once

#include <optional>
#include <string>

#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger {

/// The network interface that systemd-resolved is told about, by rtnetlink(7).
///
/// Resolved ties servers and routing domains to an interface, and uses it only while it is up, has
/// a carrier and an address that is not link-local. A bridge has no carrier while no machine runs,
/// and belongs to another plugin; loopback is refused. So this plugin has a dummy interface of its
/// own, which carries no packet: resolved talks to a loopback server without regard to the
/// interface. Its address is one of loopback's, so that nothing on the host takes it for an address
/// of the host's.
class DnsInterface {
public:
    /// `kind` is "dummy" but in tests on a kernel without it.
    DnsInterface(std::string name, std::string kind)
        : name_(std::move(name)), kind_(std::move(kind)) {}

    struct Found {
        int index = 0;
        std::string kind;
        std::optional<MacAddress> mac;
        bool is_up = false;
    };
    [[nodiscard]] const std::string& name() const { return name_; }
    /// Whatever has the name.
    [[nodiscard]] Result<std::optional<Found>> find() const;
    [[nodiscard]] bool is_ours(const Found& found, const MacAddress& mac) const {
        return found.kind == kind_ && found.mac == mac;
    }
    /// Makes it, down and without address, and returns its index. Errc::already_exists.
    [[nodiscard]] Result<int> make(const MacAddress& mac) const;
    /// Gives it its address and brings it up; also when it is.
    [[nodiscard]] Result<void> bring_up(int index) const;
    /// "Already gone" is success.
    [[nodiscard]] Result<void> remove(int index) const;

private:
    std::string name_;
    std::string kind_;
};

}  // namespace banger

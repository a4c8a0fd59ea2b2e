#pragma once

#include <memory>
#include <string>

#include "banger/dns.hpp"
#include "banger/result.hpp"

struct sd_bus;

namespace banger {

/// A connection to the system bus, and what we say to org.freedesktop.resolve1 on it
/// (org.freedesktop.resolve1(5)). Used from one thread. Every call ends within a few seconds.
class ResolvedBus {
public:
    /// Errc::unavailable when there is no bus.
    static Result<ResolvedBus> connect(const std::string& address);

    /// Whether resolved is on the bus. Never starts it: who switched it off wants it off.
    Result<bool> has_resolved();
    /// Leads queries for the zone, and no others, to its server. In an order in which resolved
    /// never has a server without a domain, since that would get every query of the host.
    /// Errc::unavailable when resolved is not running.
    Result<void> lead(int interface, const DnsZone& zone);

    enum class State {
        leads,      ///< as lead() leaves it, and resolved uses the interface
        unused,     ///< configured, but resolved takes the interface for one without a network
        different,  ///< not configured, or differently
    };
    Result<State> state(int interface, const DnsZone& zone);
    /// Success when the interface, or resolved, is gone.
    Result<void> revert(int interface);

    /// From now on wait() returns when resolved comes or goes.
    Result<void> watch();
    /// Sleeps until resolved came, went, or `wake` is readable. An error: the bus is lost.
    Result<void> wait(int wake);

private:
    struct Close {
        void operator()(sd_bus* bus) const;
    };
    explicit ResolvedBus(sd_bus* bus) : bus_(bus) {}
    std::unique_ptr<sd_bus, Close> bus_;
    /// On the heap, because a callback holds its address.
    std::unique_ptr<bool> has_changed_ = std::make_unique<bool>(false);
};

}  // namespace banger

#pragma once

#include <map>
#include <mutex>
#include <set>
#include <string>

#include "banger/host.hpp"
#include "banger/network.hpp"

namespace banger {

/// Networking inside the VMM (slirp): no device on the host, no root. The VMM speaks TCP and UDP
/// for its guest, each behind a translator of its own, so every guest has the same address.
///
/// There is nothing on the host to make. What this plugin keeps is which host port is promised to
/// which machine, one record a machine in the run folder, written before the promise is given. The
/// port itself is taken by the VMM when it starts; another program may be quicker, then the VMM
/// says Errc::busy and core attaches anew.
class UserNetwork final : public Network {
public:
    explicit UserNetwork(Host& host) : host_(host) {}

    [[nodiscard]] Addressing addressing() const override { return {}; }
    Result<NetworkLink> attach(const LinkRequest& request, std::stop_token stop) override;
    Result<void> detach(const VmId& vm) override;
    Result<std::vector<VmId>> recover(std::span<const NetworkLink> remembered) override;
    std::vector<Check> checks(std::stop_token stop) override;

private:
    using Endpoint = std::pair<Ipv4Address, std::uint16_t>;

    [[nodiscard]] std::string record_path(const VmId& vm) const;
    /// Every endpoint in a record. The lock is held.
    Result<std::set<Endpoint>> promised() const;
    /// Makes sure of the host port, or picks one, outside of `taken`.
    static Result<void> choose(PortForward& forward, const std::set<Endpoint>& taken);
    Result<void> write_record(const VmId& vm, const std::string& text) const;

    Host& host_;
    std::mutex mutex_;  ///< choosing a port and recording it is one step
};

/// The record's text: a line "ADDRESS PORT" for each forward.
std::string format_reservation(const std::vector<PortForward>& forwards);
/// Errc::corrupt for anything else.
Result<std::vector<std::pair<Ipv4Address, std::uint16_t>>> parse_reservation(std::string_view text);

}  // namespace banger

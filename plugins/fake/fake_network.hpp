#pragma once

#include <mutex>
#include <set>
#include <string>

#include "banger/network.hpp"
#include "failpoints.hpp"

namespace banger {

/// Links that are files: `FOLDER/ID` is there as long as the machine is attached.
///
/// Nothing of it lives in memory but the ports that are taken, so a second instance on the same
/// folder is what a restarted daemon would have.
class FakeNetwork final : public Network {
public:
    /// `folder` exists. Without a pool, every guest has 10.99.0.15/24 behind its own translator.
    FakeNetwork(std::string folder, std::optional<Ipv4Prefix> pool, Failpoints& failpoints)
        : folder_(std::move(folder)), pool_(pool), failpoints_(failpoints) {}

    [[nodiscard]] Addressing addressing() const override { return {pool_}; }
    Result<NetworkLink> attach(const LinkRequest& request, std::stop_token stop) override;
    Result<void> detach(const VmId& vm) override;
    Result<std::vector<VmId>> recover(std::span<const NetworkLink> remembered) override;
    std::vector<Check> checks(std::stop_token stop) override;

private:
    [[nodiscard]] std::string file_of(const VmId& vm) const { return folder_ + "/" + vm.str(); }
    Result<std::uint16_t> free_port(std::set<std::uint16_t>& chosen);

    const std::string folder_;
    const std::optional<Ipv4Prefix> pool_;
    Failpoints& failpoints_;
    std::mutex mutex_;
    std::map<std::string, std::set<std::uint16_t>> ports_;  ///< by machine
};

}  // namespace banger

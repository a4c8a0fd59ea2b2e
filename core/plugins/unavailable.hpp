#pragma once

#include "banger/plugin.hpp"

namespace banger {

/// Stands for a plugin of a third party that the configuration names and that is not to be had:
/// every call fails with the reason. What the plugin made is not touched, and nothing else suffers.
class Unavailable final : public Network,
                          public Dns,
                          public Storage,
                          public ImageSource,
                          public VmBackend {
public:
    explicit Unavailable(Error reason) : reason_(std::move(reason)) {}
    [[nodiscard]] Roles roles() { return {this, this, this, this, this}; }

    // All but the last group are methods of one role each.
    [[nodiscard]] Addressing addressing() const override { return {}; }
    Result<NetworkLink> attach(const LinkRequest&, std::stop_token) override { return reason_; }
    Result<void> detach(const VmId&) override { return reason_; }
    Result<std::vector<VmId>> recover(std::span<const NetworkLink>) override { return reason_; }

    Result<void> route(const DnsZone&, std::stop_token) override { return reason_; }
    Result<void> unroute() override { return reason_; }
    Result<void> publish(const DnsRecord&, std::stop_token) override { return reason_; }
    Result<void> withdraw(const VmId&) override { return reason_; }
    Result<void> recover(std::span<const DnsRecord>) override { return reason_; }

    Result<Volume> create(const VolumeRequest&, std::stop_token) override { return reason_; }
    Result<Volume> activate(const Volume&, const UniqueFd&, std::stop_token) override {
        return reason_;
    }
    Result<void> deactivate(const VmId&) override { return reason_; }
    Result<Volume> resize(const Volume&, ByteCount, std::stop_token) override { return reason_; }
    Result<VolumeUsage> usage(const Volume&) override { return reason_; }
    Result<std::vector<VmId>> recover(std::span<const Volume>) override { return reason_; }
    StorageCloning* cloning() override { return nullptr; }

    Result<Resolution> resolve(const ResolveRequest&, Call&) override { return reason_; }
    Result<void> fetch(const ArtifactManifest&, std::size_t, std::uint64_t, const UniqueFd&,
                       Call&) override {
        return reason_;
    }
    Result<std::vector<AvailableArtifact>> available(Call&) override { return reason_; }

    Result<BackendCapabilities> capabilities() override { return reason_; }
    Result<VmProcess> start(const MachineSpec&, std::stop_token) override { return reason_; }
    Result<void> kill(const VmProcess&) override { return reason_; }
    Result<UniqueFd> console(const VmId&) override { return reason_; }
    Result<UniqueFd> connect_agent(const VmProcess&) override { return reason_; }
    Result<std::vector<VmId>> recover(std::span<const VmProcess>) override { return reason_; }
    VmPausing* pausing() override { return nullptr; }
    VmSnapshots* snapshots() override { return nullptr; }

    /// Of Storage and VmBackend.
    Result<void> remove(const VmId&) override { return reason_; }
    /// Of every role; the registry has a row for it.
    std::vector<Check> checks(std::stop_token) override { return {}; }

private:
    const Error reason_;
};

}  // namespace banger

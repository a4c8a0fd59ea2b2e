#pragma once

#include <atomic>

#include "banger/plugin.hpp"

namespace banger {

/// Every role, and each call fails after it was counted: what arrives here was let through.
class NothingPlugin final : public Network,
                            public Dns,
                            public Storage,
                            public StorageCloning,
                            public ImageSource,
                            public VmBackend,
                            public VmPausing,
                            public VmSnapshots {
public:
    Roles roles() { return {this, this, this, this, this}; }
    std::atomic<std::size_t> calls = 0;

    [[nodiscard]] Addressing addressing() const override { return {}; }
    Result<NetworkLink> attach(const LinkRequest&, std::stop_token) override { return nothing(); }
    Result<void> detach(const VmId&) override { return nothing(); }
    Result<std::vector<VmId>> recover(std::span<const NetworkLink>) override { return nothing(); }
    std::vector<Check> checks(std::stop_token) override {
        ++calls;
        return {};
    }

    Result<void> route(const DnsZone&, std::stop_token) override { return nothing(); }
    Result<void> unroute() override { return nothing(); }
    Result<void> publish(const DnsRecord&, std::stop_token) override { return nothing(); }
    Result<void> withdraw(const VmId&) override { return nothing(); }
    Result<void> recover(std::span<const DnsRecord>) override { return nothing(); }

    Result<Volume> create(const VolumeRequest&, std::stop_token) override { return nothing(); }
    Result<Volume> activate(const Volume&, const UniqueFd&, std::stop_token) override {
        return nothing();
    }
    Result<void> deactivate(const VmId&) override { return nothing(); }
    Result<Volume> resize(const Volume&, ByteCount, std::stop_token) override { return nothing(); }
    Result<VolumeUsage> usage(const Volume&) override { return nothing(); }
    Result<void> remove(const VmId&) override { return nothing(); }
    Result<std::vector<VmId>> recover(std::span<const Volume>) override { return nothing(); }
    StorageCloning* cloning() override { return this; }
    Result<Volume> clone(const Volume&, const VmId&, std::stop_token) override { return nothing(); }

    Result<Resolution> resolve(const ResolveRequest&, Call&) override { return nothing(); }
    Result<void> fetch(const ArtifactManifest&, std::size_t, std::uint64_t, const UniqueFd&,
                       Call&) override {
        return nothing();
    }
    Result<std::vector<AvailableArtifact>> available(Call&) override { return nothing(); }

    Result<BackendCapabilities> capabilities() override { return nothing(); }
    Result<VmProcess> start(const MachineSpec&, std::stop_token) override { return nothing(); }
    Result<void> kill(const VmProcess&) override { return nothing(); }
    Result<UniqueFd> console(const VmId&) override { return nothing(); }
    Result<UniqueFd> connect_agent(const VmProcess&) override { return nothing(); }
    Result<std::vector<VmId>> recover(std::span<const VmProcess>) override { return nothing(); }
    VmPausing* pausing() override { return this; }
    VmSnapshots* snapshots() override { return this; }
    Result<void> pause(const VmProcess&, std::stop_token) override { return nothing(); }
    Result<void> resume(const VmProcess&, std::stop_token) override { return nothing(); }
    Result<void> save(const VmProcess&, const UniqueFd&, std::stop_token) override {
        return nothing();
    }
    Result<VmProcess> restore(const MachineSpec&, const UniqueFd&, std::stop_token) override {
        return nothing();
    }

private:
    Error nothing() {
        ++calls;
        return {Errc::wrong_state, "nothing is done here", "Nothing."};
    }
};

}  // namespace banger

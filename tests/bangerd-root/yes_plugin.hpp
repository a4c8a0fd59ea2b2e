#pragma once

#include <sys/mman.h>

#include <atomic>
#include <thread>

#include "banger/plugin.hpp"

namespace banger::root {

/// Says yes to everything, and sees whether calls overlap that must not.
class YesPlugin : public Network,
                  public Dns,
                  public Storage,
                  public StorageCloning,
                  public VmBackend,
                  public VmPausing {
public:
    Roles roles() { return {this, this, this, nullptr, this}; }
    [[nodiscard]] Addressing addressing() const override { return {}; }
    Result<NetworkLink> attach(const LinkRequest& request, std::stop_token) override {
        const bool is_alone = inside++ == 0;
        if (!is_alone) overlapped = true;
        std::this_thread::yield();
        --inside;
        if (fails) return Error(Errc::internal, "as told", "None.");
        return NetworkLink{request.vm,
                           LinkKind::user,
                           "",
                           request.mac,
                           Ipv4Prefix::parse("10.0.0.2/24").value(),
                           {},
                           {},
                           false,
                           {}};
    }
    Result<void> detach(const VmId&) override { return ok(); }
    Result<std::vector<VmId>> recover(std::span<const NetworkLink> links) override {
        return links.empty() ? std::vector<VmId>{} : std::vector<VmId>{links.front().vm};
    }
    std::vector<Check> checks(std::stop_token) override { return {}; }
    Result<void> route(const DnsZone&, std::stop_token) override { return ok(); }
    Result<void> unroute() override { return ok(); }
    Result<void> publish(const DnsRecord&, std::stop_token) override { return ok(); }
    Result<void> withdraw(const VmId&) override { return ok(); }
    Result<void> recover(std::span<const DnsRecord>) override { return ok(); }
    Result<Volume> create(const VolumeRequest& request, std::stop_token) override {
        return Volume{request.vm, request.role, "/x", DiskFormat::raw, request.size};
    }
    Result<Volume> activate(const Volume& volume, const UniqueFd&, std::stop_token) override {
        return volume;
    }
    Result<void> deactivate(const VmId&) override { return ok(); }
    Result<Volume> resize(const Volume& volume, ByteCount, std::stop_token) override {
        return volume;
    }
    Result<VolumeUsage> usage(const Volume&) override { return VolumeUsage{}; }
    Result<void> remove(const VmId&) override { return ok(); }
    Result<std::vector<VmId>> recover(std::span<const Volume>) override {
        return std::vector<VmId>{};
    }
    StorageCloning* cloning() override { return this; }
    Result<Volume> clone(const Volume& source, const VmId& target, std::stop_token) override {
        Volume copy = source;
        copy.vm = target;
        return copy;
    }

    Result<BackendCapabilities> capabilities() override { return BackendCapabilities{}; }
    Result<VmProcess> start(const MachineSpec& spec, std::stop_token) override {
        return VmProcess{spec.vm, {2, 3}, ""};
    }
    Result<void> kill(const VmProcess&) override { return ok(); }
    Result<UniqueFd> console(const VmId&) override { return file(); }
    Result<UniqueFd> connect_agent(const VmProcess&) override { return file(); }
    Result<std::vector<VmId>> recover(std::span<const VmProcess>) override {
        return std::vector<VmId>{};
    }
    VmPausing* pausing() override { return this; }
    VmSnapshots* snapshots() override { return nullptr; }
    Result<void> pause(const VmProcess&, std::stop_token) override { return ok(); }
    Result<void> resume(const VmProcess&, std::stop_token) override { return ok(); }

    bool fails = false;
    std::atomic<int> inside = 0;
    std::atomic<bool> overlapped = false;

private:
    static UniqueFd file() { return UniqueFd(::memfd_create("yes", MFD_CLOEXEC)); }
};

}  // namespace banger::root

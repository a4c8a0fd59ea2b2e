#include "core/remote/proxies.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "core/base/names.hpp"
#include "core/remote/marshal.hpp"
#include "core/remote/peer.hpp"

namespace banger::remote {

void Argument<const MachineSpec&>::write(Outgoing& out, const MachineSpec& spec) {
    MachineSpec sent = spec;
    for (Disk& disk : sent.disks)
        if (disk.read_only) disk.path.clear();
    out.parameters.push_back({std::string(*out.next_name++), rpc::encode(sent)});
    out.descriptors.push_back(spec.kernel_fd);
    out.descriptors.push_back(spec.initramfs_fd);
    for (const Disk& disk : spec.disks) {
        if (!disk.read_only) continue;
        UniqueFd file(::open(disk.path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!file) {
            out.failure = Error::from_errno(errno, "opening the " + disk.serial + " disk");
            out.failure->remedy = "Delete the machine and create it again.";
            return;
        }
        out.descriptors.push_back(file.get());
        out.opened.push_back(std::move(file));
    }
}

namespace {

class RemoteNetwork final : public Network {
public:
    RemoteNetwork(Peer peer, Addressing addressing)
        : peer_(std::move(peer)), addressing_(addressing) {}
    [[nodiscard]] Addressing addressing() const override { return addressing_; }
    Result<NetworkLink> attach(const LinkRequest& request, std::stop_token stop) override {
        return peer_.call<&Network::attach>(request, std::move(stop));
    }
    Result<void> detach(const VmId& vm) override { return peer_.call<&Network::detach>(vm); }
    Result<std::vector<VmId>> recover(std::span<const NetworkLink> remembered) override {
        return peer_.call<&Network::recover>(remembered);
    }
    std::vector<Check> checks(std::stop_token stop) override {
        return peer_.call<&Network::checks>(std::move(stop));
    }

private:
    Peer peer_;
    Addressing addressing_;
};

class RemoteDns final : public Dns {
public:
    explicit RemoteDns(Peer peer) : peer_(std::move(peer)) {}
    Result<void> route(const DnsZone& zone, std::stop_token stop) override {
        return peer_.call<&Dns::route>(zone, std::move(stop));
    }
    Result<void> unroute() override { return peer_.call<&Dns::unroute>(); }
    Result<void> publish(const DnsRecord& record, std::stop_token stop) override {
        return peer_.call<&Dns::publish>(record, std::move(stop));
    }
    Result<void> withdraw(const VmId& vm) override { return peer_.call<&Dns::withdraw>(vm); }
    Result<void> recover(std::span<const DnsRecord> remembered) override {
        return peer_.call<&Dns::recover>(remembered);
    }
    std::vector<Check> checks(std::stop_token stop) override {
        return peer_.call<&Dns::checks>(std::move(stop));
    }

private:
    Peer peer_;
};

class RemoteStorage final : public Storage, private StorageCloning {
public:
    RemoteStorage(Peer peer, bool has_cloning)
        : peer_(std::move(peer)), has_cloning_(has_cloning) {}
    Result<Volume> create(const VolumeRequest& request, std::stop_token stop) override {
        return peer_.call<&Storage::create>(request, std::move(stop));
    }
    Result<Volume> activate(const Volume& volume, const UniqueFd& base,
                            std::stop_token stop) override {
        return peer_.call<&Storage::activate>(volume, base, std::move(stop));
    }
    Result<void> deactivate(const VmId& vm) override {
        return peer_.call<&Storage::deactivate>(vm);
    }
    Result<Volume> resize(const Volume& volume, ByteCount size, std::stop_token stop) override {
        return peer_.call<&Storage::resize>(volume, size, std::move(stop));
    }
    Result<VolumeUsage> usage(const Volume& volume) override {
        return peer_.call<&Storage::usage>(volume);
    }
    Result<void> remove(const VmId& vm) override { return peer_.call<&Storage::remove>(vm); }
    Result<std::vector<VmId>> recover(std::span<const Volume> remembered) override {
        return peer_.call<&Storage::recover>(remembered);
    }
    StorageCloning* cloning() override { return has_cloning_ ? this : nullptr; }
    std::vector<Check> checks(std::stop_token stop) override {
        return peer_.call<&Storage::checks>(std::move(stop));
    }

private:
    Result<Volume> clone(const Volume& source, const VmId& target, std::stop_token stop) override {
        return peer_.call<&StorageCloning::clone>(source, target, std::move(stop));
    }
    Peer peer_;
    bool has_cloning_;
};

class RemoteImageSource final : public ImageSource {
public:
    explicit RemoteImageSource(Peer peer) : peer_(std::move(peer)) {}
    Result<Resolution> resolve(const ResolveRequest& request, Call& call) override {
        return peer_.call<&ImageSource::resolve>(request, call);
    }
    Result<void> fetch(const ArtifactManifest& manifest, std::size_t part,
                       std::uint64_t resume_from, const UniqueFd& sink, Call& call) override {
        return peer_.call<&ImageSource::fetch>(manifest, part, resume_from, sink, call);
    }
    Result<std::vector<AvailableArtifact>> available(Call& call) override {
        return peer_.call<&ImageSource::available>(call);
    }
    std::vector<Check> checks(std::stop_token stop) override {
        return peer_.call<&ImageSource::checks>(std::move(stop));
    }

private:
    Peer peer_;
};

class RemoteVmBackend final : public VmBackend, private VmPausing, private VmSnapshots {
public:
    RemoteVmBackend(Peer peer, bool has_pausing, bool has_snapshots)
        : peer_(std::move(peer)), has_pausing_(has_pausing), has_snapshots_(has_snapshots) {}
    Result<BackendCapabilities> capabilities() override {
        return peer_.call<&VmBackend::capabilities>();
    }
    Result<VmProcess> start(const MachineSpec& spec, std::stop_token stop) override {
        return peer_.call<&VmBackend::start>(spec, std::move(stop));
    }
    Result<void> kill(const VmProcess& vm) override { return peer_.call<&VmBackend::kill>(vm); }
    Result<void> remove(const VmId& vm) override { return peer_.call<&VmBackend::remove>(vm); }
    Result<UniqueFd> console(const VmId& vm) override {
        return peer_.call<&VmBackend::console>(vm);
    }
    Result<UniqueFd> connect_agent(const VmProcess& vm) override {
        return peer_.call<&VmBackend::connect_agent>(vm);
    }
    Result<std::vector<VmId>> recover(std::span<const VmProcess> remembered) override {
        return peer_.call<&VmBackend::recover>(remembered);
    }
    VmPausing* pausing() override { return has_pausing_ ? this : nullptr; }
    VmSnapshots* snapshots() override { return has_snapshots_ ? this : nullptr; }
    std::vector<Check> checks(std::stop_token stop) override {
        return peer_.call<&VmBackend::checks>(std::move(stop));
    }

private:
    Result<void> pause(const VmProcess& vm, std::stop_token stop) override {
        return peer_.call<&VmPausing::pause>(vm, std::move(stop));
    }
    Result<void> resume(const VmProcess& vm, std::stop_token stop) override {
        return peer_.call<&VmPausing::resume>(vm, std::move(stop));
    }
    Result<void> save(const VmProcess& vm, const UniqueFd& sink, std::stop_token stop) override {
        return peer_.call<&VmSnapshots::save>(vm, sink, std::move(stop));
    }
    Result<VmProcess> restore(const MachineSpec& spec, const UniqueFd& source,
                              std::stop_token stop) override {
        return peer_.call<&VmSnapshots::restore>(spec, source, std::move(stop));
    }
    Peer peer_;
    bool has_pausing_;
    bool has_snapshots_;
};

}  // namespace

RemotePlugin::RemotePlugin(PluginDescription description) : description_(std::move(description)) {}
RemotePlugin::~RemotePlugin() = default;

Result<std::unique_ptr<RemotePlugin>> RemotePlugin::open(std::shared_ptr<Client> client,
                                                         std::string_view name) {
    const std::vector<PluginDescription>& all = client->description().plugins;
    const auto said = std::ranges::find(
        all, name, [](const PluginDescription& each) { return std::string_view(each.name.str()); });
    if (said == all.end())
        return Error(Errc::not_found,
                     client->far_end().name + " does not serve the plugin " + quoted(name),
                     "Run `banger system restart`, so that it reads the configuration again.");
    std::unique_ptr<RemotePlugin> plugin(new RemotePlugin(*said));
    const Peer peer(std::move(client), std::string(name));
    for (const Role role : plugin->description_.roles)
        switch (role) {
            case Role::network:
                plugin->network_ = std::make_unique<RemoteNetwork>(peer, said->addressing);
                break;
            case Role::dns:
                plugin->dns_ = std::make_unique<RemoteDns>(peer);
                break;
            case Role::storage:
                plugin->storage_ = std::make_unique<RemoteStorage>(peer, said->cloning);
                break;
            case Role::image_source:
                plugin->image_source_ = std::make_unique<RemoteImageSource>(peer);
                break;
            case Role::vm_backend:
                plugin->vm_backend_ =
                    std::make_unique<RemoteVmBackend>(peer, said->pausing, said->snapshots);
                break;
        }
    return plugin;
}

Roles RemotePlugin::roles() const {
    return {network_.get(), dns_.get(), storage_.get(), image_source_.get(), vm_backend_.get()};
}

}  // namespace banger::remote

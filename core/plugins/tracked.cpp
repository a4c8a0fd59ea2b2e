#include "core/plugins/tracked.hpp"

#include <algorithm>
#include <exception>
#include <span>
#include <stop_token>
#include <utility>

namespace banger {

namespace {

using Clock = std::chrono::steady_clock;

/// Calls with the ledger kept, the hooks asked and exceptions ended.
template <class Function>
auto tracked(CallTracker& tracker, Role role, std::string_view method, std::string_view vm,
             Function function) -> decltype(function()) {
    const CallTracker::Ticket ticket = tracker.begin(role, method, vm);
    decltype(function()) result = Error();
    try {
        std::optional<Error> instead;
        if (tracker.hooks().before) instead = tracker.hooks().before(*ticket);
        if (instead)
            result = *std::move(instead);
        else
            result = function();
    } catch (const std::exception& failure) {
        result = Error(Errc::internal,
                       "the plugin " + tracker.plugin() + " threw: " + std::string(failure.what()),
                       "Report it to the plugin's author.");
    } catch (...) {
        result = Error(Errc::internal, "the plugin " + tracker.plugin() + " threw",
                       "Report it to the plugin's author.");
    }
    tracker.end(ticket, result.has_value());
    return result;
}

template <class RoleInterface>
std::vector<Check> tracked_checks(CallTracker& tracker, Role role, RoleInterface& inner,
                                  std::stop_token stop) {
    Result<std::vector<Check>> checks =
        tracked(tracker, role, "checks", {},
                [&]() -> Result<std::vector<Check>> { return inner.checks(std::move(stop)); });
    if (checks) return std::move(checks).value();
    return {{tracker.plugin(), CheckStatus::fail, checks.error().message, checks.error().remedy}};
}

class TrackedNetwork final : public Network {
public:
    TrackedNetwork(Network& inner, CallTracker& tracker) : inner_(inner), tracker_(tracker) {}
    [[nodiscard]] Addressing addressing() const override { return inner_.addressing(); }
    Result<NetworkLink> attach(const LinkRequest& request, std::stop_token stop) override {
        return call("attach", request.vm.str(),
                    [&] { return inner_.attach(request, std::move(stop)); });
    }
    Result<void> detach(const VmId& vm) override {
        return call("detach", vm.str(), [&] { return inner_.detach(vm); });
    }
    Result<std::vector<VmId>> recover(std::span<const NetworkLink> remembered) override {
        return call("recover", {}, [&] { return inner_.recover(remembered); });
    }
    std::vector<Check> checks(std::stop_token stop) override {
        return tracked_checks(tracker_, Role::network, inner_, std::move(stop));
    }

private:
    template <class Function>
    auto call(std::string_view method, std::string_view vm, Function function)
        -> decltype(function()) {
        return tracked(tracker_, Role::network, method, vm, function);
    }
    Network& inner_;
    CallTracker& tracker_;
};

class TrackedDns final : public Dns {
public:
    TrackedDns(Dns& inner, CallTracker& tracker) : inner_(inner), tracker_(tracker) {}
    Result<void> route(const DnsZone& zone, std::stop_token stop) override {
        return call("route", {}, [&] { return inner_.route(zone, std::move(stop)); });
    }
    Result<void> unroute() override {
        return call("unroute", {}, [&] { return inner_.unroute(); });
    }
    Result<void> publish(const DnsRecord& record, std::stop_token stop) override {
        return call("publish", record.vm.str(),
                    [&] { return inner_.publish(record, std::move(stop)); });
    }
    Result<void> withdraw(const VmId& vm) override {
        return call("withdraw", vm.str(), [&] { return inner_.withdraw(vm); });
    }
    Result<void> recover(std::span<const DnsRecord> remembered) override {
        return call("recover", {}, [&] { return inner_.recover(remembered); });
    }
    std::vector<Check> checks(std::stop_token stop) override {
        return tracked_checks(tracker_, Role::dns, inner_, std::move(stop));
    }

private:
    template <class Function>
    auto call(std::string_view method, std::string_view vm, Function function)
        -> decltype(function()) {
        return tracked(tracker_, Role::dns, method, vm, function);
    }
    Dns& inner_;
    CallTracker& tracker_;
};

class TrackedStorage final : public Storage, private StorageCloning {
public:
    TrackedStorage(Storage& inner, CallTracker& tracker)
        : inner_(inner), cloning_(inner.cloning()), tracker_(tracker) {}
    Result<Volume> create(const VolumeRequest& request, std::stop_token stop) override {
        return call("create", request.vm.str(),
                    [&] { return inner_.create(request, std::move(stop)); });
    }
    Result<Volume> activate(const Volume& volume, const UniqueFd& base,
                            std::stop_token stop) override {
        return call("activate", volume.vm.str(),
                    [&] { return inner_.activate(volume, base, std::move(stop)); });
    }
    Result<void> deactivate(const VmId& vm) override {
        return call("deactivate", vm.str(), [&] { return inner_.deactivate(vm); });
    }
    Result<Volume> resize(const Volume& volume, ByteCount size, std::stop_token stop) override {
        return call("resize", volume.vm.str(),
                    [&] { return inner_.resize(volume, size, std::move(stop)); });
    }
    Result<VolumeUsage> usage(const Volume& volume) override {
        return call("usage", volume.vm.str(), [&] { return inner_.usage(volume); });
    }
    Result<void> remove(const VmId& vm) override {
        return call("remove", vm.str(), [&] { return inner_.remove(vm); });
    }
    Result<std::vector<VmId>> recover(std::span<const Volume> remembered) override {
        return call("recover", {}, [&] { return inner_.recover(remembered); });
    }
    StorageCloning* cloning() override { return cloning_ ? this : nullptr; }
    std::vector<Check> checks(std::stop_token stop) override {
        return tracked_checks(tracker_, Role::storage, inner_, std::move(stop));
    }

private:
    Result<Volume> clone(const Volume& source, const VmId& target, std::stop_token stop) override {
        return call("clone", target.str(),
                    [&] { return cloning_->clone(source, target, std::move(stop)); });
    }
    template <class Function>
    auto call(std::string_view method, std::string_view vm, Function function)
        -> decltype(function()) {
        return tracked(tracker_, Role::storage, method, vm, function);
    }
    Storage& inner_;
    StorageCloning* cloning_;
    CallTracker& tracker_;
};

class TrackedImageSource final : public ImageSource {
public:
    TrackedImageSource(ImageSource& inner, CallTracker& tracker)
        : inner_(inner), tracker_(tracker) {}
    Result<Resolution> resolve(const ResolveRequest& request, Call& call) override {
        return track("resolve", request.reference, [&] { return inner_.resolve(request, call); });
    }
    Result<void> fetch(const ArtifactManifest& manifest, std::size_t part,
                       std::uint64_t resume_from, const UniqueFd& sink, Call& call) override {
        return track("fetch", manifest.reference,
                     [&] { return inner_.fetch(manifest, part, resume_from, sink, call); });
    }
    Result<std::vector<AvailableArtifact>> available(Call& call) override {
        return track("available", {}, [&] { return inner_.available(call); });
    }
    std::vector<Check> checks(std::stop_token stop) override {
        return tracked_checks(tracker_, Role::image_source, inner_, std::move(stop));
    }

private:
    template <class Function>
    auto track(std::string_view method, std::string_view reference, Function function)
        -> decltype(function()) {
        // A reference is what somebody typed: bounded before it is kept.
        return tracked(tracker_, Role::image_source, method, reference.substr(0, 256), function);
    }
    ImageSource& inner_;
    CallTracker& tracker_;
};

class TrackedVmBackend final : public VmBackend, private VmPausing, private VmSnapshots {
public:
    TrackedVmBackend(VmBackend& inner, CallTracker& tracker)
        : inner_(inner),
          pausing_(inner.pausing()),
          snapshots_(inner.snapshots()),
          tracker_(tracker) {}
    Result<BackendCapabilities> capabilities() override {
        return call("capabilities", {}, [&] { return inner_.capabilities(); });
    }
    Result<VmProcess> start(const MachineSpec& spec, std::stop_token stop) override {
        return call("start", spec.vm.str(), [&] { return inner_.start(spec, std::move(stop)); });
    }
    Result<void> kill(const VmProcess& vm) override {
        return call("kill", vm.vm.str(), [&] { return inner_.kill(vm); });
    }
    Result<void> remove(const VmId& vm) override {
        return call("remove", vm.str(), [&] { return inner_.remove(vm); });
    }
    Result<UniqueFd> console(const VmId& vm) override {
        return call("console", vm.str(), [&] { return inner_.console(vm); });
    }
    Result<UniqueFd> connect_agent(const VmProcess& vm) override {
        return call("connect_agent", vm.vm.str(), [&] { return inner_.connect_agent(vm); });
    }
    Result<std::vector<VmId>> recover(std::span<const VmProcess> remembered) override {
        return call("recover", {}, [&] { return inner_.recover(remembered); });
    }
    VmPausing* pausing() override { return pausing_ ? this : nullptr; }
    VmSnapshots* snapshots() override { return snapshots_ ? this : nullptr; }
    std::vector<Check> checks(std::stop_token stop) override {
        return tracked_checks(tracker_, Role::vm_backend, inner_, std::move(stop));
    }

private:
    Result<void> pause(const VmProcess& vm, std::stop_token stop) override {
        return call("pause", vm.vm.str(), [&] { return pausing_->pause(vm, std::move(stop)); });
    }
    Result<void> resume(const VmProcess& vm, std::stop_token stop) override {
        return call("resume", vm.vm.str(), [&] { return pausing_->resume(vm, std::move(stop)); });
    }
    Result<void> save(const VmProcess& vm, const UniqueFd& sink, std::stop_token stop) override {
        return call("save", vm.vm.str(),
                    [&] { return snapshots_->save(vm, sink, std::move(stop)); });
    }
    Result<VmProcess> restore(const MachineSpec& spec, const UniqueFd& source,
                              std::stop_token stop) override {
        return call("restore", spec.vm.str(),
                    [&] { return snapshots_->restore(spec, source, std::move(stop)); });
    }
    template <class Function>
    auto call(std::string_view method, std::string_view vm, Function function)
        -> decltype(function()) {
        return tracked(tracker_, Role::vm_backend, method, vm, function);
    }
    VmBackend& inner_;
    VmPausing* pausing_;
    VmSnapshots* snapshots_;
    CallTracker& tracker_;
};

}  // namespace

std::vector<PluginCall> CallTracker::in_flight() const {
    const std::lock_guard lock(mutex_);
    return {in_flight_.begin(), in_flight_.end()};
}

std::vector<CallCount> CallTracker::counts() const {
    const std::lock_guard lock(mutex_);
    return counts_;
}

CallTracker::Ticket CallTracker::begin(Role role, std::string_view method, std::string_view vm) {
    const std::lock_guard lock(mutex_);
    return in_flight_.insert(in_flight_.end(),
                             {plugin_, role, std::string(method), std::string(vm), Clock::now()});
}

void CallTracker::end(Ticket ticket, bool succeeded) {
    std::list<PluginCall> ended;
    const std::chrono::nanoseconds took = Clock::now() - ticket->started;
    {
        const std::lock_guard lock(mutex_);
        auto count = std::ranges::find_if(counts_, [&](const CallCount& known) {
            return known.role == ticket->role && known.method == ticket->method;
        });
        if (count == counts_.end())
            count = counts_.insert(counts_.end(), {ticket->role, ticket->method});
        ++count->calls;
        if (!succeeded) ++count->failures;
        count->total += took;
        count->longest = std::max(count->longest, took);
        ended.splice(ended.begin(), in_flight_, ticket);
    }
    if (hooks_.slow_call && took >= hooks_.slow) hooks_.slow_call(ended.front(), took);
}

TrackedRoles::TrackedRoles(const Roles& inner, CallTracker& tracker) {
    if (inner.network) network_ = std::make_unique<TrackedNetwork>(*inner.network, tracker);
    if (inner.dns) dns_ = std::make_unique<TrackedDns>(*inner.dns, tracker);
    if (inner.storage) storage_ = std::make_unique<TrackedStorage>(*inner.storage, tracker);
    if (inner.image_source)
        image_source_ = std::make_unique<TrackedImageSource>(*inner.image_source, tracker);
    if (inner.vm_backend)
        vm_backend_ = std::make_unique<TrackedVmBackend>(*inner.vm_backend, tracker);
}

TrackedRoles::~TrackedRoles() = default;

Roles TrackedRoles::roles() const {
    return {network_.get(), dns_.get(), storage_.get(), image_source_.get(), vm_backend_.get()};
}

}  // namespace banger

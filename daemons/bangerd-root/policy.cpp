#include "daemons/bangerd-root/policy.hpp"

#include <algorithm>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>

#include "core/base/keyed_lock.hpp"

namespace banger::root {

namespace {

constexpr std::size_t max_device = 15;  // IFNAMSIZ without its NUL
constexpr std::size_t max_path = 1024;
constexpr std::size_t max_serial = 20;  // virtio 1.2, section 5.2.6
constexpr std::size_t max_command_line = 4096;
constexpr std::int64_t most_pid = 1 << 22;                      // PID_MAX_LIMIT of Linux
constexpr std::uint64_t latest_start = std::uint64_t{1} << 62;  // ticks since the boot
constexpr std::size_t max_zone = 253;                           // RFC 1035, section 2.3.4

Result<void> check_text(std::string_view what, std::string_view text, std::size_t most) {
    const bool is_plain = std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view("/._-:+@").find(c) != std::string_view::npos;
    });
    if (text.size() <= most && is_plain && !text.starts_with('-')) return ok();
    return Error(Errc::invalid_argument, "the " + std::string(what) +
                                             " is too long, begins with a hyphen, or has other "
                                             "than plain characters");
}

/// A kernel's command line: plain words with "=" and ",".
Result<void> check_words(std::string_view text) {
    const bool is_plain = std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view(" =,/._-:+@").find(c) != std::string_view::npos;
    });
    if (text.size() <= max_command_line && is_plain && !text.starts_with('-')) return ok();
    return Error(Errc::invalid_argument,
                 "the kernel's command line is too long or has other than plain characters");
}

Result<void> check_owner(std::uint32_t given, uid_t owner) {
    if (given == owner) return ok();
    return Error(Errc::permission_denied,
                 "uid " + std::to_string(given) + " is not the owner of this installation",
                 "Let the owner's bangerd ask.");
}

/// What exists, by name, and no more than `most`.
class Quota {
public:
    Quota(std::string what, std::size_t most) : what_(std::move(what)), most_(most) {}
    /// True when it is new; then release() follows if it was not made after all. Errc::no_space.
    Result<bool> reserve(const std::string& key) {
        const std::lock_guard lock(mutex_);
        if (held_.contains(key)) return false;
        if (held_.size() >= most_)
            return Error(Errc::no_space,
                         "there are " + std::to_string(most_) + " " + what_ +
                             " already, the limit of one owner",
                         "Delete machines that are not needed.");
        held_.insert(key);
        return true;
    }
    void release(const std::string& key) {
        const std::lock_guard lock(mutex_);
        held_.erase(key);
    }
    void reset(std::set<std::string> keys) {
        const std::lock_guard lock(mutex_);
        held_ = std::move(keys);
    }
    Result<void> check_count(std::size_t count) const {
        if (count <= most_) return ok();
        return Error(Errc::no_space, std::to_string(count) + " " + what_ +
                                         " are over the limit of " + std::to_string(most_));
    }

private:
    const std::string what_;
    const std::size_t most_;
    std::mutex mutex_;
    std::set<std::string> held_;
};

/// Runs a call that makes what `key` names.
template <class Function>
auto make_within(Quota& quota, const std::string& key, Function function) -> decltype(function()) {
    const bool is_new = BANGER_TRY(quota.reserve(key));
    decltype(function()) result = function();
    if (!result && is_new) quota.release(key);
    return result;
}

/// One call at a time for one machine, and recover() alone.
class Turns {
public:
    template <class Function>
    auto one_machine(const VmId& vm, std::stop_token stop, Function function)
        -> decltype(function()) {
        const std::shared_lock shared(all_);
        const KeyedLock::Guard turn = BANGER_TRY(each_.acquire(vm.str(), std::move(stop)));
        return function();
    }
    template <class Function>
    auto alone(Function function) -> decltype(function()) {
        const std::unique_lock exclusive(all_);
        return function();
    }

private:
    std::shared_mutex all_;
    KeyedLock each_;
};

class GuardedNetwork final : public Network {
public:
    GuardedNetwork(Network& inner, uid_t owner, const Limits& limits)
        : inner_(inner), owner_(owner), forwards_(limits.forwards), links_("links", limits.links) {}
    [[nodiscard]] Addressing addressing() const override { return inner_.addressing(); }
    Result<NetworkLink> attach(const LinkRequest& request, std::stop_token stop) override {
        BANGER_TRY(check_owner(request.owner_uid, owner_));
        if (request.forwards.size() > forwards_)
            return Error(Errc::invalid_argument,
                         "a link has at most " + std::to_string(forwards_) + " forwards");
        return turns_.one_machine(request.vm, stop, [&] {
            return make_within(links_, request.vm.str(),
                               [&] { return inner_.attach(request, stop); });
        });
    }
    Result<void> detach(const VmId& vm) override {
        return turns_.one_machine(vm, {}, [&]() -> Result<void> {
            BANGER_TRY(inner_.detach(vm));
            links_.release(vm.str());
            return ok();
        });
    }
    Result<std::vector<VmId>> recover(std::span<const NetworkLink> remembered) override {
        BANGER_TRY(links_.check_count(remembered.size()));
        std::set<std::string> kept;
        for (const NetworkLink& link : remembered) {
            BANGER_TRY(check_text("device", link.device, max_device));
            kept.insert(link.vm.str());
        }
        return turns_.alone([&]() -> Result<std::vector<VmId>> {
            std::vector<VmId> gone = BANGER_TRY(inner_.recover(remembered));
            for (const VmId& vm : gone)
                kept.erase(vm.str());
            links_.reset(std::move(kept));
            return gone;
        });
    }
    std::vector<Check> checks(std::stop_token stop) override {
        return inner_.checks(std::move(stop));
    }

private:
    Network& inner_;
    const uid_t owner_;
    const std::size_t forwards_;
    Quota links_;
    Turns turns_;
};

class GuardedDns final : public Dns {
public:
    GuardedDns(Dns& inner, const Limits& limits)
        : inner_(inner), records_("names", limits.records) {}
    Result<void> route(const DnsZone& zone, std::stop_token stop) override {
        BANGER_TRY(check_text("zone", zone.zone, max_zone));
        const std::lock_guard lock(mutex_);
        return inner_.route(zone, std::move(stop));
    }
    Result<void> unroute() override {
        const std::lock_guard lock(mutex_);
        BANGER_TRY(inner_.unroute());
        records_.reset({});
        return ok();
    }
    Result<void> publish(const DnsRecord& record, std::stop_token stop) override {
        const std::lock_guard lock(mutex_);
        return make_within(records_, record.vm.str(),
                           [&] { return inner_.publish(record, std::move(stop)); });
    }
    Result<void> withdraw(const VmId& vm) override {
        const std::lock_guard lock(mutex_);
        BANGER_TRY(inner_.withdraw(vm));
        records_.release(vm.str());
        return ok();
    }
    Result<void> recover(std::span<const DnsRecord> remembered) override {
        BANGER_TRY(records_.check_count(remembered.size()));
        const std::lock_guard lock(mutex_);
        BANGER_TRY(inner_.recover(remembered));
        std::set<std::string> kept;
        for (const DnsRecord& record : remembered)
            kept.insert(record.vm.str());
        records_.reset(std::move(kept));
        return ok();
    }
    std::vector<Check> checks(std::stop_token stop) override {
        const std::lock_guard lock(mutex_);
        return inner_.checks(std::move(stop));
    }

private:
    Dns& inner_;
    std::mutex mutex_;
    Quota records_;
};

class GuardedStorage final : public Storage, private StorageCloning {
public:
    GuardedStorage(Storage& inner, uid_t owner, const Limits& limits)
        : inner_(inner),
          cloning_(inner.cloning()),
          owner_(owner),
          largest_(limits.volume),
          volumes_("volumes", limits.volumes) {}
    Result<Volume> create(const VolumeRequest& request, std::stop_token stop) override {
        BANGER_TRY(check_owner(request.owner_uid, owner_));
        BANGER_TRY(check_size(request.size));
        return turns_.one_machine(request.vm, stop, [&] {
            return make_within(volumes_, key_of(request.vm, request.role),
                               [&] { return inner_.create(request, stop); });
        });
    }
    Result<Volume> activate(const Volume& volume, const UniqueFd& base,
                            std::stop_token stop) override {
        BANGER_TRY(check(volume));
        return turns_.one_machine(volume.vm, stop,
                                  [&] { return inner_.activate(volume, base, stop); });
    }
    Result<void> deactivate(const VmId& vm) override {
        return turns_.one_machine(vm, {}, [&] { return inner_.deactivate(vm); });
    }
    Result<Volume> resize(const Volume& volume, ByteCount size, std::stop_token stop) override {
        BANGER_TRY(check(volume));
        BANGER_TRY(check_size(size));
        return turns_.one_machine(volume.vm, stop,
                                  [&] { return inner_.resize(volume, size, stop); });
    }
    Result<VolumeUsage> usage(const Volume& volume) override {
        BANGER_TRY(check(volume));
        return turns_.one_machine(volume.vm, {}, [&] { return inner_.usage(volume); });
    }
    Result<void> remove(const VmId& vm) override {
        return turns_.one_machine(vm, {}, [&]() -> Result<void> {
            BANGER_TRY(inner_.remove(vm));
            volumes_.release(key_of(vm, VolumeRole::root));
            volumes_.release(key_of(vm, VolumeRole::work));
            return ok();
        });
    }
    Result<std::vector<VmId>> recover(std::span<const Volume> remembered) override {
        BANGER_TRY(volumes_.check_count(remembered.size()));
        std::set<std::string> kept;
        for (const Volume& volume : remembered) {
            BANGER_TRY(check(volume));
            kept.insert(key_of(volume.vm, volume.role));
        }
        // A machine that lost one volume may still have the other: both stay counted until it is
        // removed.
        return turns_.alone([&]() -> Result<std::vector<VmId>> {
            std::vector<VmId> gone = BANGER_TRY(inner_.recover(remembered));
            volumes_.reset(std::move(kept));
            return gone;
        });
    }
    StorageCloning* cloning() override { return cloning_ != nullptr ? this : nullptr; }
    std::vector<Check> checks(std::stop_token stop) override {
        return inner_.checks(std::move(stop));
    }

private:
    Result<Volume> clone(const Volume& source, const VmId& target, std::stop_token stop) override {
        BANGER_TRY(check(source));
        return turns_.one_machine(target, stop, [&] {
            return make_within(volumes_, key_of(target, source.role),
                               [&] { return cloning_->clone(source, target, stop); });
        });
    }
    static std::string key_of(const VmId& vm, VolumeRole role) {
        return vm.str() + "-" + std::string(to_string(role));
    }
    Result<void> check(const Volume& volume) const {
        BANGER_TRY(check_size(volume.size));
        return check_text("path", volume.path, max_path);
    }
    [[nodiscard]] Result<void> check_size(ByteCount size) const {
        if (size <= largest_) return ok();
        return Error(Errc::invalid_argument,
                     size.text() + " are over the limit of a volume, " + largest_.text());
    }

    Storage& inner_;
    StorageCloning* cloning_;
    const uid_t owner_;
    const ByteCount largest_;
    Quota volumes_;
    Turns turns_;
};

class GuardedVmBackend final : public VmBackend, private VmPausing, private VmSnapshots {
public:
    GuardedVmBackend(VmBackend& inner, const Limits& limits)
        : inner_(inner),
          pausing_(inner.pausing()),
          snapshots_(inner.snapshots()),
          limits_(limits),
          machines_("running machines", limits.machines) {}
    Result<BackendCapabilities> capabilities() override { return inner_.capabilities(); }
    Result<VmProcess> start(const MachineSpec& spec, std::stop_token stop) override {
        BANGER_TRY(check(spec));
        return turns_.one_machine(spec.vm, stop, [&] {
            return make_within(machines_, spec.vm.str(), [&] { return inner_.start(spec, stop); });
        });
    }
    Result<void> kill(const VmProcess& vm) override {
        BANGER_TRY(check(vm));
        return turns_.one_machine(vm.vm, {}, [&]() -> Result<void> {
            BANGER_TRY(inner_.kill(vm));
            machines_.release(vm.vm.str());
            return ok();
        });
    }
    Result<void> remove(const VmId& vm) override {
        return turns_.one_machine(vm, {}, [&]() -> Result<void> {
            BANGER_TRY(inner_.remove(vm));
            machines_.release(vm.str());
            return ok();
        });
    }
    Result<UniqueFd> console(const VmId& vm) override {
        return turns_.one_machine(vm, {}, [&] { return inner_.console(vm); });
    }
    Result<UniqueFd> connect_agent(const VmProcess& vm) override {
        BANGER_TRY(check(vm));
        return turns_.one_machine(vm.vm, {}, [&] { return inner_.connect_agent(vm); });
    }
    Result<std::vector<VmId>> recover(std::span<const VmProcess> remembered) override {
        BANGER_TRY(machines_.check_count(remembered.size()));
        std::set<std::string> kept;
        for (const VmProcess& vm : remembered) {
            BANGER_TRY(check(vm));
            kept.insert(vm.vm.str());
        }
        return turns_.alone([&]() -> Result<std::vector<VmId>> {
            std::vector<VmId> gone = BANGER_TRY(inner_.recover(remembered));
            for (const VmId& vm : gone)
                kept.erase(vm.str());
            machines_.reset(std::move(kept));
            return gone;
        });
    }
    VmPausing* pausing() override { return pausing_ != nullptr ? this : nullptr; }
    VmSnapshots* snapshots() override { return snapshots_ != nullptr ? this : nullptr; }
    std::vector<Check> checks(std::stop_token stop) override {
        return inner_.checks(std::move(stop));
    }

private:
    Result<void> pause(const VmProcess& vm, std::stop_token stop) override {
        BANGER_TRY(check(vm));
        return turns_.one_machine(vm.vm, stop, [&] { return pausing_->pause(vm, stop); });
    }
    Result<void> resume(const VmProcess& vm, std::stop_token stop) override {
        BANGER_TRY(check(vm));
        return turns_.one_machine(vm.vm, stop, [&] { return pausing_->resume(vm, stop); });
    }
    Result<void> save(const VmProcess& vm, const UniqueFd& sink, std::stop_token stop) override {
        BANGER_TRY(check(vm));
        return turns_.one_machine(vm.vm, stop, [&] { return snapshots_->save(vm, sink, stop); });
    }
    /// What a snapshot's state brings along is read by the VMM alone, in its jail: as a guest that
    /// broke out of itself it is a user that owns two disks and a tap.
    Result<VmProcess> restore(const MachineSpec& spec, const UniqueFd& source,
                              std::stop_token stop) override {
        BANGER_TRY(check(spec));
        return turns_.one_machine(spec.vm, stop, [&] {
            return make_within(machines_, spec.vm.str(),
                               [&] { return snapshots_->restore(spec, source, stop); });
        });
    }
    [[nodiscard]] static Result<void> check(const VmProcess& vm) {
        if (vm.process.pid <= 0 || vm.process.pid > most_pid ||
            vm.process.start_time > latest_start)
            return Error(Errc::invalid_argument, "no process has such an identity");
        return check_text("back end's note", vm.backend_state, max_path);
    }
    [[nodiscard]] Result<void> check(const MachineSpec& spec) const {
        if (spec.vcpus == 0 || spec.vcpus > limits_.vcpus || spec.memory > limits_.memory ||
            spec.console_limit > limits_.console || spec.disks.size() > limits_.disks)
            return Error(Errc::invalid_argument, "the machine is over what one may have",
                         "Ask for fewer vCPU, less memory or fewer disks.");
        BANGER_TRY(check_words(spec.command_line));
        BANGER_TRY(check_text("device", spec.link.device, max_device));
        for (const Disk& disk : spec.disks) {
            BANGER_TRY(check_text("path", disk.path, max_path));
            BANGER_TRY(check_text("serial", disk.serial, max_serial));
            // The server writes such paths itself, for descriptors that came with the call.
            if (!disk.read_only && disk.path.starts_with("/proc/"))
                return Error(Errc::invalid_argument, "a disk is not in /proc");
        }
        return ok();
    }

    VmBackend& inner_;
    VmPausing* pausing_;
    VmSnapshots* snapshots_;
    const Limits limits_;
    Quota machines_;
    Turns turns_;
};

class GuardedRoles final : public Policy {
public:
    GuardedRoles(const Roles& inner, uid_t owner, const Limits& limits) {
        if (inner.network != nullptr)
            network_ = std::make_unique<GuardedNetwork>(*inner.network, owner, limits);
        if (inner.dns != nullptr) dns_ = std::make_unique<GuardedDns>(*inner.dns, limits);
        if (inner.storage != nullptr)
            storage_ = std::make_unique<GuardedStorage>(*inner.storage, owner, limits);
        if (inner.vm_backend != nullptr)
            vm_backend_ = std::make_unique<GuardedVmBackend>(*inner.vm_backend, limits);
    }
    [[nodiscard]] Roles roles() override {
        return {network_.get(), dns_.get(), storage_.get(), nullptr, vm_backend_.get()};
    }

private:
    std::unique_ptr<Network> network_;
    std::unique_ptr<Dns> dns_;
    std::unique_ptr<Storage> storage_;
    std::unique_ptr<VmBackend> vm_backend_;
};

}  // namespace

Result<std::unique_ptr<Policy>> Policy::make(const Roles& inner, uid_t owner, Limits limits) {
    if (inner.image_source != nullptr)
        return Error(Errc::unsupported,
                     "it fills a role that bangerd-root has no policy for and does not serve",
                     "Choose another plugin for the role.");
    return std::unique_ptr<Policy>(std::make_unique<GuardedRoles>(inner, owner, limits));
}

}  // namespace banger::root

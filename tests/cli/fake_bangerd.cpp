#include "fake_bangerd.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <map>
#include <optional>
#include <utility>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/version.hpp"
#include "core/guest/agent_client.hpp"
#include "core/protocol/artifact_fields.hpp"
#include "core/protocol/catalog_fields.hpp"
#include "core/protocol/exec_fields.hpp"
#include "core/protocol/system_fields.hpp"
#include "core/protocol/vm_fields.hpp"
#include "core/rpc/listener.hpp"
#include "core/rpc/server.hpp"
#include "varlink/io.banger.Bundle.hpp"
#include "varlink/io.banger.Catalog.hpp"
#include "varlink/io.banger.Image.hpp"
#include "varlink/io.banger.Kernel.hpp"
#include "varlink/io.banger.System.hpp"
#include "varlink/io.banger.Vm.hpp"

namespace banger::cli {

using namespace protocol;

namespace {

/// 2026-01-02 03:04:05 UTC; tests set BANGER_NOW ten minutes later.
constexpr std::int64_t sample_time = 1767323045;

std::string encode_base64(const std::string& bytes) {
    static constexpr char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        unsigned value = 0;
        for (std::size_t j = 0; j < 3; ++j)
            value =
                value << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
        for (std::size_t j = 0; j < 4; ++j)
            out += i + j <= bytes.size() ? alphabet[value >> (18 - 6 * j) & 63] : '=';
    }
    return out;
}

Image sample_image() {
    return {"5a5a5a5a5a5a", "debian-bookworm", "debian-bookworm", "debian",
            "amd64",        "Debian 12",       "recipe debian",   "debian-cloud",
            2'147'483'648,  734'003'200,       sample_time};
}

Image sample_registered() {
    Image image = sample_image();
    image.id = "7c7c7c7c7c7c";
    image.name = "mine";
    image.reference = "file:/home/me/root.ext4";
    image.kernel = "";
    return image;
}

Details sample_details(const std::string& name) {
    if (name != sample_registered().id)
        return {"", "", {{"sha256:" + std::string(64, 'a'), 31'457'280}}, {}};
    return {"/home/me/root.ext4",
            "/home/me/root.ext4 was changed after it was registered",
            {},
            {{"PATH=/bin"}, "/srv", "1000", {"/entry"}, {"serve", "a b"}}};
}

Kernel sample_kernel() {
    return {"6b6b6b6b6b6b", "debian-cloud", "6.1.0-42-cloud-amd64", "debian-cloud", "recipe debian",
            31'457'280,     sample_time};
}

}  // namespace

protocol::Vm sample_vm(const std::string& name) {
    Vm vm;
    vm.id = "0123456789ab";
    // Ids that differ where names do, and stand still.
    for (std::size_t i = 0; i < name.size() && i < 6; ++i)
        vm.id[i] = "0123456789abcdef"[static_cast<unsigned char>(name[i]) % 16];
    vm.name = name;
    vm.state = "running";
    vm.image = "debian-bookworm";
    vm.kernel = "debian-cloud";
    vm.vcpus = 2;
    vm.memory = 2'147'483'648;
    vm.disk = 8'589'934'592;
    vm.root = 2'147'483'648;
    vm.backend = "vmm-qemu";
    vm.network = "net-user";
    vm.storage = "storage-file";
    vm.address = "10.0.2.15";
    vm.ssh = SshEndpoint{"127.0.0.1", 40022, "root", vm.id, "ssh-ed25519 AAAAC3Nza banger"};
    vm.pid = 4242;
    vm.created_at = sample_time;
    vm.started_at = sample_time + 60;
    return vm;
}

class FakeBangerd::Inside {
public:
    explicit Inside(const std::string& socket)
        : socket_(socket), server_(io_, {"banger", "fake bangerd", "1", ""}) {
        add_vm_methods();
        add_artifact_methods();
        add_catalog_methods();
        add_system_methods();
        Result<UniqueFd> listener = rpc::listen_at(socket);
        must(listener ? server_.listen(std::move(*listener)) : Result<void>(listener.error()));
        thread_ = std::thread([this] { io_.run(); });
    }
    ~Inside() {
        boost::asio::post(io_, [this] { server_.stop_jobs(); });
        work_.reset();
        io_.stop();
        thread_.join();
    }

    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    std::vector<Vm> vms_;
    std::vector<std::string> calls_;
    std::map<std::string, std::uint64_t> samples_;  ///< of Stats, by id
    std::string held_;
    int cancelled_ = 0;
    bool ignores_cancellation_ = false;
    std::map<std::pair<std::string, std::string>, Error> failures_;
    SystemInfoReply info_{std::string(version().number),
                          std::string(version().commit),
                          std::string(version().built),
                          "user",
                          ::getpid(),
                          60,
                          0};
    std::function<void(const std::string&)> on_call_;
    std::string console_ = "Linux version 6.1.0\nlogin: ";
    std::optional<Child> guest_;
    std::optional<guest::AgentClient> agent_;  ///< there: no sshd
    bool has_shell_ = true;
    ExecInVm last_exec_;

private:
    static void must(const Result<void>& result) {
        if (result) return;
        std::cerr << result.error().text() << "\n";
        std::abort();
    }

    Result<void> enter(const std::string& method, const std::string& subject, Call* call,
                       const std::string& extra = {}) {
        std::unique_lock lock(mutex_);
        calls_.push_back(method + (subject.empty() ? "" : " " + subject) + extra);
        changed_.notify_all();
        if (on_call_) on_call_(calls_.back());
        if (held_ == method && call != nullptr) {
            if (!changed_.wait(lock, call->stop(), [&] { return held_ != method; })) {
                ++cancelled_;
                changed_.notify_all();
                if (!ignores_cancellation_) return Error(Errc::cancelled, "cancelled");
            }
        }
        const auto failure = failures_.find({method, subject});
        if (failure != failures_.end()) return failure->second;
        return ok();
    }

    Result<Vm> find(const std::string& name) {
        const std::lock_guard lock(mutex_);
        for (const Vm& vm : vms_)
            if (vm.name == name || vm.id == name) return vm;
        return Error(Errc::not_found, "there is no machine \"" + name + "\"",
                     "See: banger vm list");
    }

    Result<Vm> change(const std::string& name, const std::string& state) {
        Vm vm = BANGER_TRY(find(name));
        const std::lock_guard lock(mutex_);
        for (Vm& each : vms_)
            if (each.id == vm.id) {
                each.state = state;
                each.ssh = state == "running" ? sample_vm(each.name).ssh : std::nullopt;
                vm = each;
            }
        return vm;
    }

    Result<CreateVmReply> create(const CreateVm& in, Call& call) {
        const std::string name = in.request.name.value_or("brave-otter");
        BANGER_TRY(enter("Create", name, &call, in.start ? "" : " stopped"));
        Vm vm = sample_vm(name);
        if (in.request.authorized_keys.size() != 1) return Error(Errc::invalid_argument, "no key");
        if (!in.start) {
            vm.state = "created";
            vm.ssh.reset();
            vm.pid.reset();
        }
        if (in.request.memory) vm.memory = *in.request.memory;
        if (in.request.vcpus) vm.vcpus = *in.request.vcpus;
        const std::lock_guard lock(mutex_);
        vms_.push_back(vm);
        return CreateVmReply{{}, vm, std::vector<Timing>{{"disks", 12}, {"boot", 1500}}};
    }

    static Error not_running(const Vm& vm) {
        return {Errc::wrong_state, vm.name + " is not running",
                "Start it: banger vm start " + vm.name};
    }

    Result<SetVmReply> set(const SetVm& in, Call& call) {
        std::string what;
        if (in.vcpus) what += " vcpus=" + std::to_string(*in.vcpus);
        if (in.memory) what += " memory=" + std::to_string(*in.memory);
        if (in.disk) what += " disk=" + std::to_string(*in.disk);
        if (in.nat) what += *in.nat ? " nat" : " no-nat";
        BANGER_TRY(enter("Set", in.vm, &call, what));
        const std::string id = BANGER_TRY(find(in.vm)).id;
        const std::lock_guard lock(mutex_);
        for (Vm& each : vms_) {
            if (each.id != id) continue;
            each.vcpus = in.vcpus.value_or(each.vcpus);
            each.memory = in.memory.value_or(each.memory);
            each.disk = in.disk.value_or(each.disk);
            each.nat = in.nat.value_or(each.nat);
            SetVmReply reply{each, {}};
            if (each.state == "running" && in.vcpus) reply.pending.emplace_back("vcpus");
            if (each.state == "running" && in.memory) reply.pending.emplace_back("memory");
            return reply;
        }
        return Error(Errc::not_found, "it has gone");
    }

    /// Each answer is a second after the one before it; half of that second was busy.
    Result<StatsOfVmReply> stats(const NamedVm& in, Call& call) {
        BANGER_TRY(enter("Stats", in.vm, &call));
        const Vm vm = BANGER_TRY(find(in.vm));
        const std::lock_guard lock(mutex_);
        const std::uint64_t second = ++samples_[vm.id];
        StatsOfVm stats;
        stats.id = vm.id;
        stats.name = vm.name;
        stats.state = vm.state;
        stats.sampled_at_ms = second * 1000;
        stats.disks = {{"root", 2'147'483'648, 104'857'600, 52'428'800},
                       {"work", 8'589'934'592, 1'073'741'824, {}}};
        if (vm.state != "running") {
            stats.reason = vm.name + " is not running";
            return StatsOfVmReply{stats};
        }
        stats.vmm_memory = 734'003'200;
        stats.vmm_cpu_ms = second * 250;
        stats.guest = GuestStats{2,
                                 second * 1000,
                                 second * 1000,
                                 0.5,
                                 2'000'000'000,
                                 1'500'000'000,
                                 {2'000'000'000, 500'000'000},
                                 {8'000'000'000, 1'000'000'000}};
        return StatsOfVmReply{stats};
    }

    void add_vm_methods() {
        rpc::Interface vm("io.banger.Vm", varlink::io_banger_Vm);
        vm.method<PlanVm, PlanVmReply>("Plan", [this](const PlanVm& in) -> Result<PlanVmReply> {
            BANGER_TRY(enter("Plan", "", nullptr));
            Plan plan;
            plan.image = in.request.image.value_or("debian-bookworm");
            plan.vcpus = {in.request.vcpus.value_or(2), in.request.vcpus ? "flag" : "default"};
            plan.memory = {in.request.memory.value_or(2'147'483'648),
                           in.request.memory ? "flag" : "host"};
            plan.disk = {8'589'934'592, "default"};
            plan.notes = {"no KVM here: the machine is emulated, which is slower"};
            return PlanVmReply{plan};
        });
        vm.job<CreateVm, CreateVmReply>(
            "Create", {}, [this](const CreateVm& in, rpc::Reporter<CreateVmReply>& call) {
                call.report({"making disks", 0, 0, banger::Progress::Unit::none});
                return create(in, call);
            });
        vm.method<ListVms, ListVmsReply>("List", [this](const ListVms&) -> Result<ListVmsReply> {
            BANGER_TRY(enter("List", "", nullptr));
            const std::lock_guard lock(mutex_);
            return ListVmsReply{vms_};
        });
        vm.method<NamedVm, VmReply>("Show", [this](const NamedVm& in) -> Result<VmReply> {
            BANGER_TRY(enter("Show", in.vm, nullptr));
            return VmReply{BANGER_TRY(find(in.vm))};
        });
        vm.job<NamedVm, CreateVmReply>(
            "Start", {},
            [this](const NamedVm& in, rpc::Reporter<CreateVmReply>& call) -> Result<CreateVmReply> {
                BANGER_TRY(enter("Start", in.vm, &call));
                return CreateVmReply{{}, BANGER_TRY(change(in.vm, "running")), {}};
            });
        vm.job<NamedVm, StopVmReply>(
            "Stop", {},
            [this](const NamedVm& in, rpc::Reporter<StopVmReply>& call) -> Result<StopVmReply> {
                BANGER_TRY(enter("Stop", in.vm, &call));
                return StopVmReply{{}, BANGER_TRY(change(in.vm, "stopped")), in.vm == "stubborn"};
            });
        vm.job<KillVm, VmReply>(
            "Kill", {}, [this](const KillVm& in, rpc::Reporter<VmReply>& call) -> Result<VmReply> {
                BANGER_TRY(enter("Kill", in.vm, &call, in.signal ? " " + *in.signal : ""));
                if (in.signal && *in.signal != "KILL") return VmReply{BANGER_TRY(find(in.vm))};
                return VmReply{BANGER_TRY(change(in.vm, "stopped"))};
            });
        vm.job<SetVm, SetVmReply>(
            "Set", {},
            [this](const SetVm& in, rpc::Reporter<SetVmReply>& call) { return set(in, call); });
        vm.job<NamedVm, StatsOfVmReply>(
            "Stats", {}, [this](const NamedVm& in, rpc::Reporter<StatsOfVmReply>& call) {
                return stats(in, call);
            });
        vm.job<NamedVm, PortsOfVmReply>(
            "Ports", {},
            [this](const NamedVm& in,
                   rpc::Reporter<PortsOfVmReply>& call) -> Result<PortsOfVmReply> {
                BANGER_TRY(enter("Ports", in.vm, &call));
                const Vm asked = BANGER_TRY(find(in.vm));
                if (asked.state != "running") return not_running(asked);
                return PortsOfVmReply{
                    asked.id,
                    asked.name,
                    {{"tcp", "0.0.0.0", 22, "sshd", "ssh://root@127.0.0.1:40022", ""},
                     {"tcp",
                      "0.0.0.0",
                      8080,
                      "evil\x1b[31m",
                      {},
                      "banger vm forward sandbox 8080"}}};
            });
        vm.job<DeleteVm, DeleteVmReply>(
            "Delete", {},
            [this](const DeleteVm& in,
                   rpc::Reporter<DeleteVmReply>& call) -> Result<DeleteVmReply> {
                BANGER_TRY(enter("Delete", in.vm, &call, in.force ? " force" : ""));
                const Vm gone = BANGER_TRY(find(in.vm));
                call.report(
                    {"asking " + gone.name + " to power off", 0, 0, banger::Progress::Unit::none});
                const std::lock_guard lock(mutex_);
                std::erase_if(vms_, [&](const Vm& each) { return each.id == gone.id; });
                return DeleteVmReply{{}, gone};
            });
        vm.job<SetWorkspace, VmReply>(
            "SetWorkspace", {},
            [this](const SetWorkspace& in, rpc::Reporter<VmReply>& call) -> Result<VmReply> {
                BANGER_TRY(enter("SetWorkspace", in.vm, &call));
                const std::string id = BANGER_TRY(find(in.vm)).id;
                const std::lock_guard lock(mutex_);
                for (Vm& each : vms_) {
                    if (each.id != id) continue;
                    each.workspace = in.workspace;
                    if (each.workspace) each.workspace->prepared_at = sample_time + 120;
                    return VmReply{each};
                }
                return Error(Errc::not_found, "it has gone");
            });
        vm.job<HealthOfVm, HealthOfVmReply>(
            "Health", {},
            [this](const HealthOfVm& in,
                   rpc::Reporter<HealthOfVmReply>& call) -> Result<HealthOfVmReply> {
                BANGER_TRY(enter("Health", in.vm, &call));
                BANGER_TRY(find(in.vm));
                HealthOfVmReply reply{false, {{"network", true, ""}}, "boot", ""};
                const std::lock_guard lock(mutex_);
                if (!agent_)
                    reply.probes.insert(reply.probes.begin(),
                                        {"sshd-listening", false, "not listening"});
                return reply;
            });
        vm.job<ExecInVm, ExecInVmReply>(
            "Exec", {},
            [this](const ExecInVm& in,
                   rpc::Reporter<ExecInVmReply>& call) -> Result<ExecInVmReply> {
                BANGER_TRY(enter("Exec", in.vm, &call));
                BANGER_TRY(find(in.vm));
                return begin_exec(in, call);
            });
        vm.job<LogsOfVm, LogsOfVmReply>(
            "Logs", {},
            [this](const LogsOfVm& in,
                   rpc::Reporter<LogsOfVmReply>& call) -> Result<LogsOfVmReply> {
                BANGER_TRY(enter("Logs", in.vm, &call));
                BANGER_TRY(find(in.vm));
                const std::lock_guard lock(mutex_);
                const std::size_t half = console_.size() / 2;
                BANGER_TRY(call.send({encode_base64(console_.substr(0, half))}));
                return LogsOfVmReply{encode_base64(console_.substr(half))};
            });
        must(server_.add(std::move(vm)));
    }

    Result<ExecInVmReply> begin_exec(const ExecInVm& in, rpc::Reporter<ExecInVmReply>& call) {
        const std::lock_guard lock(mutex_);
        last_exec_ = in;
        if (!agent_ || !call.wants_upgrade())
            return Error(Errc::invalid_argument, "this guest has sshd");
        if (!in.command && !has_shell_)
            return Error(Errc::not_found, "the image has no shell", "Say what to run.");
        guest::ExecRequest request;
        request.words = in.command.value_or(std::vector<std::string>{"/bin/sh"});
        request.environment = in.environment;
        request.folder = in.folder.value_or("/");
        request.user = std::to_string(::geteuid()) + ":" + std::to_string(::getegid());
        if (in.terminal)
            request.terminal = banger::TerminalSize{in.terminal->rows, in.terminal->columns};
        const guest::AgentClient::Started started = BANGER_TRY(agent_->exec(
            request, std::chrono::steady_clock::now() + std::chrono::seconds(60), call.stop()));
        call.upgrade([this, session = started.session](UniqueFd client) {
            agent_->attach(session, std::move(client));
        });
        return ExecInVmReply{started.window};
    }

    void add_artifact_methods() {
        rpc::Interface image("io.banger.Image", varlink::io_banger_Image);
        const AvailableReply images{
            {{"debian-bookworm", "debian", "amd64", "Debian 12 with docker and git", "catalog"}}};
        image.method<NoParameters, ListImagesReply>(
            "List", [](const NoParameters&) -> Result<ListImagesReply> {
                return ListImagesReply{{sample_image(), sample_registered()}};
            });
        image.job<NoParameters, AvailableReply>(
            "Available", {},
            [images](const NoParameters&,
                     rpc::Reporter<AvailableReply>&) -> Result<AvailableReply> { return images; });
        image.method<NamedArtifact, ShowImageReply>(
            "Show", [](const NamedArtifact& in) -> Result<ShowImageReply> {
                if (in.name == "mine") return ShowImageReply{sample_registered(), {}};
                return ShowImageReply{sample_image(), {"sandbox", "web"}};
            });
        image.method<NamedArtifact, DetailsReply>(
            "Details", [](const NamedArtifact& in) -> Result<DetailsReply> {
                return DetailsReply{sample_details(in.name)};
            });
        image.job<PullImage, PullImageReply>(
            "Pull", {},
            [this](const PullImage& in,
                   rpc::Reporter<PullImageReply>& call) -> Result<PullImageReply> {
                call.report({"downloading", 0, 100, banger::Progress::Unit::bytes});
                std::string extra = in.refresh ? " refresh" : "";
                if (in.size) extra += " size=" + std::to_string(*in.size);
                BANGER_TRY(enter("Pull", in.reference, &call, extra));
                return PullImageReply{{}, sample_image()};
            });
        image.job<RegisterImage, PullImageReply>(
            "Register", {},
            [this](const RegisterImage& in,
                   rpc::Reporter<PullImageReply>& call) -> Result<PullImageReply> {
                std::string extra = " rootfs=" + in.root_file_system;
                if (!in.kernel_reference.empty()) extra += " kernel_ref=" + in.kernel_reference;
                if (in.kernel)
                    extra += " kernel=" + in.kernel->kernel + " initrd=" + in.kernel->initrd +
                             " modules=" + in.kernel->modules;
                BANGER_TRY(enter("Register", in.name, &call, extra));
                return PullImageReply{{}, sample_registered()};
            });
        image.job<NamedArtifact, PullImageReply>(
            "Promote", {},
            [this](const NamedArtifact& in,
                   rpc::Reporter<PullImageReply>& call) -> Result<PullImageReply> {
                call.report({"copying", 0, 100, banger::Progress::Unit::bytes});
                BANGER_TRY(enter("Promote", in.name, &call));
                return PullImageReply{{}, sample_image()};
            });
        image.job<SetImageKernel, SetImageKernelReply>(
            "SetKernel", {},
            [this](const SetImageKernel& in,
                   rpc::Reporter<SetImageKernelReply>& call) -> Result<SetImageKernelReply> {
                BANGER_TRY(enter("SetKernel", in.name, &call, " " + in.kernel));
                Image changed = sample_image();
                changed.kernel = in.kernel;
                return SetImageKernelReply{changed};
            });
        image.job<PruneCache, PruneCacheReply>(
            "PruneCache", {},
            [this](const PruneCache& in,
                   rpc::Reporter<PruneCacheReply>& call) -> Result<PruneCacheReply> {
                BANGER_TRY(enter("PruneCache", "", &call,
                                 std::string(in.all ? " all" : "") + (in.is_dry ? " dry" : "")));
                return PruneCacheReply{{{"sha256:" + std::string(64, 'b'), 10'485'760, true},
                                        {"sha256:" + std::string(64, 'c'), 1'048'576, false}},
                                       11'534'336};
            });
        image.job<NamedArtifact, DeleteImageReply>(
            "Delete", {},
            [this](const NamedArtifact& in,
                   rpc::Reporter<DeleteImageReply>& call) -> Result<DeleteImageReply> {
                BANGER_TRY(enter("DeleteImage", in.name, &call));
                Image gone = sample_image();
                gone.name = in.name;
                return DeleteImageReply{gone};
            });
        must(server_.add(std::move(image)));

        rpc::Interface kernel("io.banger.Kernel", varlink::io_banger_Kernel);
        kernel.method<NoParameters, ListKernelsReply>(
            "List", [](const NoParameters&) -> Result<ListKernelsReply> {
                return ListKernelsReply{{sample_kernel()}};
            });
        kernel.job<NoParameters, AvailableReply>(
            "Available", {},
            [](const NoParameters&, rpc::Reporter<AvailableReply>&) -> Result<AvailableReply> {
                return AvailableReply{};
            });
        kernel.method<NamedArtifact, ShowKernelReply>(
            "Show", [](const NamedArtifact&) -> Result<ShowKernelReply> {
                return ShowKernelReply{sample_kernel(), {}};
            });
        kernel.job<PullArtifact, PullKernelReply>(
            "Pull", {},
            [](const PullArtifact&, rpc::Reporter<PullKernelReply>&) -> Result<PullKernelReply> {
                return PullKernelReply{{}, sample_kernel()};
            });
        kernel.job<ImportKernel, PullKernelReply>(
            "Import", {},
            [this](const ImportKernel& in,
                   rpc::Reporter<PullKernelReply>& call) -> Result<PullKernelReply> {
                BANGER_TRY(enter("Import", in.name, &call, " " + in.from));
                Kernel made = sample_kernel();
                made.name = in.name;
                return PullKernelReply{{}, made};
            });
        kernel.job<NamedArtifact, DeleteKernelReply>(
            "Delete", {},
            [](const NamedArtifact& in,
               rpc::Reporter<DeleteKernelReply>&) -> Result<DeleteKernelReply> {
                if (in.name != sample_kernel().name) {
                    Kernel gone = sample_kernel();
                    gone.name = in.name;
                    return DeleteKernelReply{gone};
                }
                return Error(Errc::in_use, "kernel debian-cloud is used by sandbox",
                             "Delete that machine first: banger vm delete sandbox");
            });
        must(server_.add(std::move(kernel)));
    }

    static protocol::Catalog sample_catalog(const std::string& name, const std::string& place) {
        return {.name = name,
                .place = place,
                .key = place.starts_with('/') ? "" : "ed25519:" + std::string(43, 'A') + "=",
                .serial = 7,
                .updated_at = sample_time,
                .expires = {},
                .images = 2,
                .kernels = 1,
                .problem = {}};
    }

    /// Bundles are files beside the socket, there as long as the call, as with the real one.
    void add_catalog_methods() {
        rpc::Interface bundle("io.banger.Bundle", varlink::io_banger_Bundle);
        bundle.job<PublishBundle, PublishBundleReply>(
            "Publish", {},
            [this](const PublishBundle& in,
                   rpc::Reporter<PublishBundleReply>& call) -> Result<PublishBundleReply> {
                const std::string name = in.name     ? *in.name
                                         : in.image  ? *in.image
                                         : in.kernel ? *in.kernel
                                                     : in.vm.value_or("");
                BANGER_TRY(enter("Publish", name, &call));
                const std::string path = socket_ + ".bundle";
                BANGER_TRY(write_file_atomic(path, "bundle of " + name, 0600));
                const std::string file = name + "-0123456789ab.tar.zst";
                BANGER_TRY(call.send(
                    {{},
                     Published{
                         .path = path,
                         .file_name = file,
                         .digest = "sha256:" + std::string(64, '0'),
                         .size = 10 + name.size(),
                         .entry = "  - name: " + name + "\n    bundle:\n      url: " + file + "\n",
                         .notes = in.vm ? std::vector<std::string>{"look for secrets"}
                                        : std::vector<std::string>{}}}));
                std::mutex mutex;
                std::condition_variable_any never;
                std::unique_lock lock(mutex);
                never.wait(lock, call.stop(), [] { return false; });
                BANGER_TRY(remove_file(path));
                return PublishBundleReply{};
            });
        must(server_.add(std::move(bundle)));

        rpc::Interface catalog("io.banger.Catalog", varlink::io_banger_Catalog);
        catalog.job<NoParameters, ListCatalogsReply>(
            "List", {},
            [](const NoParameters&,
               rpc::Reporter<ListCatalogsReply>&) -> Result<ListCatalogsReply> {
                return ListCatalogsReply{
                    {sample_catalog("team", "https://images.example/catalog.yaml"),
                     sample_catalog("usb", "/media/usb/banger/catalog.yaml")}};
            });
        catalog.job<AddCatalog, AddCatalogReply>(
            "Add", {},
            [this](const AddCatalog& in,
                   rpc::Reporter<AddCatalogReply>& call) -> Result<AddCatalogReply> {
                BANGER_TRY(enter("AddCatalog", in.place, &call, in.key ? " key" : ""));
                if (!in.key && !in.place.starts_with('/'))
                    return AddCatalogReply{{}, {}, "ed25519:" + std::string(43, 'A') + "="};
                return AddCatalogReply{{}, sample_catalog(in.name.value_or("team"), in.place), {}};
            });
        catalog.job<NamedCatalog, RemoveCatalogReply>(
            "Remove", {},
            [this](const NamedCatalog& in,
                   rpc::Reporter<RemoveCatalogReply>& call) -> Result<RemoveCatalogReply> {
                BANGER_TRY(enter("RemoveCatalog", in.name, &call));
                return RemoveCatalogReply{sample_catalog(in.name, "/x")};
            });
        catalog.job<NamedCatalog, UpdateCatalogReply>(
            "Update", {},
            [this](const NamedCatalog& in,
                   rpc::Reporter<UpdateCatalogReply>& call) -> Result<UpdateCatalogReply> {
                BANGER_TRY(enter("UpdateCatalog", in.name, &call));
                return UpdateCatalogReply{{}, sample_catalog(in.name, "/x"), in.name == "team"};
            });
        catalog.job<SignCatalog, SignCatalogReply>(
            "Sign", {},
            [](const SignCatalog&, rpc::Reporter<SignCatalogReply>&) -> Result<SignCatalogReply> {
                return SignCatalogReply{"signature\n", "ed25519:AAAA", 7, 2, 1};
            });
        catalog.job<NoParameters, MakeKeyReply>(
            "MakeKey", {},
            [](const NoParameters&, rpc::Reporter<MakeKeyReply>&) -> Result<MakeKeyReply> {
                return MakeKeyReply{"private\n", "public\n", "ed25519:AAAA"};
            });
        must(server_.add(std::move(catalog)));
    }

    void add_system_methods() {
        rpc::Interface system("io.banger.System", varlink::io_banger_System);
        system.method<NoParameters, SystemInfoReply>(
            "Info", [this](const NoParameters&) -> Result<SystemInfoReply> {
                const std::lock_guard lock(mutex_);
                return info_;
            });
        system.job<NoParameters, PluginsReply>(
            "Plugins", {}, [](const NoParameters&, rpc::Reporter<PluginsReply>&) {
                return Result<PluginsReply>(
                    PluginsReply{{{"vmm-qemu",
                                   "0.1.0",
                                   "runs machines in QEMU",
                                   {"vm-backend"},
                                   {"vm-backend"},
                                   "none",
                                   "bangerd",
                                   "loaded",
                                   "",
                                   "",
                                   "/p/vmm-qemu.so",
                                   "sha256:00",
                                   "own",
                                   {}},
                                  {"image-mine",
                                   "1.2.0",
                                   "images from a folder",
                                   {"image-source"},
                                   {"image-source"},
                                   "none",
                                   "banger-plugin-host",
                                   "loaded",
                                   "",
                                   "",
                                   "/home/dev/.local/lib/banger/plugins/image-mine.so",
                                   "sha256:22",
                                   "sandboxed",
                                   {"reading /srv/images", "the web"}},
                                  {"broken",
                                   "0.0.1",
                                   "does not fit",
                                   {"dns"},
                                   {},
                                   "none",
                                   "",
                                   "refused",
                                   "it was built for another version of banger",
                                   "Build it again",
                                   "/p/broken.so",
                                   "sha256:11",
                                   "own",
                                   {}}},
                                 {}});
            });
        system.job<NoParameters, DiskUsageReply>(
            "DiskUsage", {}, [](const NoParameters&, rpc::Reporter<DiskUsageReply>&) {
                return Result<DiskUsageReply>(DiskUsageReply{
                    {{"image", 1, 734'003'200, 734'003'200, 0, 0},
                     {"kernel", 1, 31'457'280, 0, 31'457'280, 31'457'280},
                     {"blob", 1, 10'485'760, 0, 10'485'760, 10'485'760},
                     {"empty disk", 1, 2'097'152, 0, 2'097'152, 0},
                     {"machine", 1, 104'857'600, 0, 104'857'600, 0}},
                    {{"image", "5a5a5a5a5a5a", "debian-bookworm", 734'003'200, {"sandbox"}, false},
                     {"kernel", "6b6b6b6b6b6b", "debian-cloud", 31'457'280, {}, true},
                     {"blob", std::string(64, 'b'), "bbbbbbbbbbbb", 10'485'760, {}, true},
                     {"empty disk", "empty-1.ext4", "empty-1.ext4", 2'097'152, {}, false},
                     {"machine", "0123456789ab", "sandbox", 104'857'600, {}, false}}});
            });
        system.job<NoParameters, DoctorReply>(
            "Doctor", {}, [](const NoParameters&, rpc::Reporter<DoctorReply>&) {
                return Result<DoctorReply>(DoctorReply{
                    {{"qemu binary", CheckStatus::pass, "/usr/bin/qemu-system-x86_64, 7.2.18", ""},
                     {"kvm", CheckStatus::warn, "the CPU shows neither vmx nor svm",
                      "Machines are emulated; use a host with hardware virtualisation"}},
                    {{"vm_defaults.vcpu", "2", "default"}}});
            });
        system.method<NoParameters, NoReply>(
            "Exit", [this](const NoParameters&) -> Result<NoReply> {
                BANGER_TRY(enter("Exit", "", nullptr));
                const std::lock_guard lock(mutex_);
                if (!on_call_) return Error(Errc::busy, "a call is in flight");
                return NoReply{};
            });
        must(server_.add(std::move(system)));
    }

    boost::asio::io_context io_;
    std::optional<boost::asio::executor_work_guard<boost::asio::io_context::executor_type>> work_{
        io_.get_executor()};
    std::string socket_;
    rpc::Server server_;
    std::thread thread_;
};

FakeBangerd::FakeBangerd(const std::string& socket) : inside_(std::make_unique<Inside>(socket)) {}
FakeBangerd::~FakeBangerd() = default;

void FakeBangerd::add(Vm vm) {
    const std::lock_guard lock(inside_->mutex_);
    inside_->vms_.push_back(std::move(vm));
}

std::vector<std::string> FakeBangerd::names() const {
    const std::lock_guard lock(inside_->mutex_);
    std::vector<std::string> names;
    for (const Vm& vm : inside_->vms_)
        names.push_back(vm.name);
    return names;
}

std::vector<std::string> FakeBangerd::calls() const {
    const std::lock_guard lock(inside_->mutex_);
    return inside_->calls_;
}

void FakeBangerd::wait_for_calls(const std::string& beginning, int count) {
    std::unique_lock lock(inside_->mutex_);
    inside_->changed_.wait(lock, [&] {
        return std::ranges::count_if(inside_->calls_, [&](const std::string& call) {
                   return call.starts_with(beginning);
               }) >= count;
    });
}

void FakeBangerd::hold(const std::string& method) {
    const std::lock_guard lock(inside_->mutex_);
    inside_->held_ = method;
}

void FakeBangerd::ignore_cancellation() {
    const std::lock_guard lock(inside_->mutex_);
    inside_->ignores_cancellation_ = true;
}

void FakeBangerd::release() {
    const std::lock_guard lock(inside_->mutex_);
    inside_->held_.clear();
    inside_->changed_.notify_all();
}

int FakeBangerd::cancelled() const {
    std::unique_lock lock(inside_->mutex_);
    return inside_->cancelled_;
}

void FakeBangerd::wait_for_cancelled(int count) {
    std::unique_lock lock(inside_->mutex_);
    inside_->changed_.wait(lock, [&] { return inside_->cancelled_ >= count; });
}

void FakeBangerd::fail(const std::string& method, const std::string& vm, Error error) {
    const std::lock_guard lock(inside_->mutex_);
    inside_->failures_[{method, vm}] = std::move(error);
}

void FakeBangerd::set_version(std::string number, std::string commit) {
    const std::lock_guard lock(inside_->mutex_);
    inside_->info_.version = std::move(number);
    inside_->info_.commit = std::move(commit);
}

void FakeBangerd::set_console(std::string bytes) {
    const std::lock_guard lock(inside_->mutex_);
    inside_->console_ = std::move(bytes);
}

void FakeBangerd::take_sshd_away(bool has_shell) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) std::abort();
    const UniqueFd guest_end(ends[1]);
    Command command;
    command.program = FAKE_GUEST;
    command.standard_input = guest_end.get();
    const std::lock_guard lock(inside_->mutex_);
    inside_->guest_.emplace(spawn(command).value());
    inside_->agent_.emplace(UniqueFd(ends[0]));
    inside_->has_shell_ = has_shell;
}

void FakeBangerd::kill_guest() {
    const std::lock_guard lock(inside_->mutex_);
    inside_->guest_.reset();
}

protocol::ExecInVm FakeBangerd::last_exec() const {
    const std::lock_guard lock(inside_->mutex_);
    return inside_->last_exec_;
}

void FakeBangerd::on_call(std::function<void(const std::string&)> hook) {
    const std::lock_guard lock(inside_->mutex_);
    inside_->on_call_ = std::move(hook);
}

}  // namespace banger::cli

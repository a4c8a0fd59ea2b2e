#include <unistd.h>

#include <algorithm>
#include <thread>

#include <sys/statvfs.h>

#include "core/base/version.hpp"
#include "core/config/default_backend.hpp"
#include "core/config/sizing.hpp"
#include "core/protocol/artifact.hpp"
#include "core/protocol/artifact_fields.hpp"
#include "core/protocol/plugin_fields.hpp"
#include "core/protocol/system.hpp"
#include "core/protocol/system_fields.hpp"
#include "daemons/bangerd/interfaces.hpp"
#include "varlink/io.banger.System.hpp"

namespace banger {

namespace {

using namespace std::chrono_literals;
using rpc::Reporter;

/// Under this a pull or a busy guest fills the disk.
constexpr ByteCount low_disk = ByteCount::gib(5);

std::vector<std::string> words_of(const std::vector<Role>& roles) {
    std::vector<std::string> words;
    words.reserve(roles.size());
    for (const Role role : roles)
        words.emplace_back(to_string(role));
    return words;
}

protocol::PluginInfo to_wire(const PluginInfo& info) {
    return {.name = info.name,
            .version = info.version,
            .summary = info.summary,
            .roles = words_of(info.roles),
            .used_for = words_of(info.fills),
            .privilege = std::string(to_string(info.privilege)),
            .runs_in = info.runs_in,
            .status = std::string(to_string(info.status)),
            .reason = info.refusal ? info.refusal->reason : "",
            .remedy = info.refusal ? info.refusal->remedy : "",
            .file = info.file,
            .digest = info.digest,
            .trust = info.trust ? std::string(to_string(*info.trust)) : "",
            .asks_for = info.sandbox ? words_of(*info.sandbox) : std::vector<std::string>{}};
}

protocol::PluginsReply list_plugins(Registry& registry) {
    protocol::PluginsReply reply;
    const std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now();
    for (const PluginInfo& info : registry.list()) {
        reply.plugins.push_back(to_wire(info));
        for (const PluginCall& call : info.in_flight)
            reply.calls_in_flight.push_back(
                {call.plugin, call.method, call.vm,
                 static_cast<std::uint64_t>(
                     std::chrono::duration_cast<std::chrono::milliseconds>(now - call.started)
                         .count())});
    }
    return reply;
}

Check disk_check(const std::string& folder) {
    struct statvfs status {};
    if (::statvfs(folder.c_str(), &status) != 0)
        return {"disk space", CheckStatus::fail, folder + " cannot be looked at",
                "Check that it exists and is yours."};
    const ByteCount free = ByteCount::bytes(status.f_bavail * status.f_frsize);
    const std::string detail = free.text() + " free in " + folder;
    if (free >= low_disk) return {"disk space", CheckStatus::pass, detail, ""};
    return {"disk space", CheckStatus::warn, detail,
            "Free some: `banger vm prune`, `banger image delete`, or a larger disk."};
}

Check artifact_check(const char* what, bool is_present, const std::string& name) {
    if (is_present) return {what, CheckStatus::pass, name + " is here", ""};
    return {what, CheckStatus::pass, name + " is not here yet; the first `banger vm run` pulls it",
            ""};
}

protocol::DoctorReply examine(const SystemParts& parts, std::stop_token stop) {
    protocol::DoctorReply reply;
#ifdef __x86_64__
    reply.checks.push_back({"architecture", CheckStatus::pass, "x86_64", ""});
#else
    reply.checks.push_back(
        {"architecture", CheckStatus::fail, "not x86_64", "banger runs on x86_64 hosts."});
#endif
    reply.checks.push_back({"state", CheckStatus::pass, parts.paths.database + " opens", ""});
    reply.checks.push_back(disk_check(parts.paths.state));
    const std::string& image = *parts.config.default_image_name;
    reply.checks.push_back(
        artifact_check("default image", parts.store.find_image(image).has_value(), image));
    const std::string kernel(default_kernel);
    reply.checks.push_back(
        artifact_check("default kernel", parts.store.find_kernel(kernel).has_value(), kernel));
    for (Check& check : parts.images.checks())
        reply.checks.push_back(std::move(check));
    if (parts.scopes) reply.checks.push_back(parts.scopes->check());
    if (std::optional<Check> backend = default_backend_check(parts.config))
        reply.checks.push_back(*std::move(backend));
    for (Check& check : parts.registry.checks(stop))
        reply.checks.push_back(std::move(check));
    for (Check& check : parts.names.checks(stop))
        reply.checks.push_back(std::move(check));
    const Result<HostSize> host = HostSize::of_this_host();
    for (const EffectiveValue& value :
         host ? effective_values(parts.config, *host) : effective_values(parts.config))
        reply.settings.push_back({value.key, value.value, value.source.text()});
    return reply;
}

std::uint64_t sum_of(const std::vector<protocol::DiskItem>& items, const std::string& kind,
                     const std::function<bool(const protocol::DiskItem&)>& counts) {
    std::uint64_t sum = 0;
    for (const protocol::DiskItem& item : items)
        if (item.kind == kind && counts(item)) sum += item.size;
    return sum;
}

Result<protocol::DiskUsageReply> disk_usage(const SystemParts& parts) {
    protocol::DiskUsageReply reply;
    for (const DiskUse& use : BANGER_TRY(parts.images.disk_use()))
        reply.items.push_back({std::string(to_string(use.kind)), use.id, use.name, use.size.count(),
                               use.users, use.is_reclaimable});
    for (const MachineDisk& disk : BANGER_TRY(parts.machines.disk_use()))
        reply.items.push_back({"machine",
                               disk.vm.str(),
                               disk.name.str(),
                               disk.allocated.count(),
                               {},
                               !disk.is_running});
    for (const char* kind : {"image", "kernel", "blob", "empty disk", "machine"}) {
        protocol::DiskKind sum{.kind = kind};
        sum.count = static_cast<std::uint64_t>(std::ranges::count(
            reply.items, kind, [](const protocol::DiskItem& item) { return item.kind; }));
        // A blob has images as users: one alone is its owner.
        const std::size_t owners = sum.kind == "blob" ? 1 : 0;
        sum.size = sum_of(reply.items, kind, [](const auto&) { return true; });
        sum.shared =
            sum_of(reply.items, kind, [&](const auto& item) { return item.users.size() > owners; });
        sum.own = sum.size - sum.shared;
        sum.reclaimable =
            sum_of(reply.items, kind, [](const auto& item) { return item.is_reclaimable; });
        reply.kinds.push_back(sum);
    }
    return reply;
}

}  // namespace

rpc::Interface system_interface(SystemParts parts) {
    rpc::Interface system("io.banger.System", varlink::io_banger_System);
    system.method<protocol::NoParameters, protocol::SystemInfoReply>(
        "Info", [parts](const protocol::NoParameters&) -> Result<protocol::SystemInfoReply> {
            const Version build = version();
            const auto uptime = std::chrono::steady_clock::now() - parts.started;
            const std::vector<VmRecord> vms = BANGER_TRY(parts.store.machines());
            return protocol::SystemInfoReply{
                std::string(build.number),
                std::string(build.commit),
                std::string(build.built),
                std::string(to_string(parts.paths.mode)),
                ::getpid(),
                static_cast<std::uint64_t>(
                    std::chrono::duration_cast<std::chrono::seconds>(uptime).count()),
                vms.size()};
        });
    system.job<protocol::NoParameters, protocol::PluginsReply>(
        "Plugins", {},
        [parts](const protocol::NoParameters&, Reporter<protocol::PluginsReply>&)
            -> Result<protocol::PluginsReply> { return list_plugins(parts.registry); });
    system.job<protocol::RetryPlugin, protocol::NoReply>(
        "RetryPlugin", {},
        [parts](const protocol::RetryPlugin& wanted,
                Reporter<protocol::NoReply>&) -> Result<protocol::NoReply> {
            BANGER_TRY(parts.registry.retry(wanted.plugin));
            return protocol::NoReply{};
        });
    system.method<protocol::NoParameters, protocol::SafeModeReply>(
        "SafeMode", [parts](const protocol::NoParameters&) -> Result<protocol::SafeModeReply> {
            return protocol::SafeModeReply{parts.is_safe_mode};
        });
    system.job<protocol::NoParameters, protocol::DiskUsageReply>(
        "DiskUsage", {.deadline = 60s},
        [parts](const protocol::NoParameters&, Reporter<protocol::DiskUsageReply>&)
            -> Result<protocol::DiskUsageReply> { return disk_usage(parts); });
    system.job<protocol::NoParameters, protocol::DoctorReply>(
        "Doctor", {.deadline = 60s},
        [parts](const protocol::NoParameters&, Reporter<protocol::DoctorReply>& call)
            -> Result<protocol::DoctorReply> { return examine(parts, call.stop()); });
    system.method<protocol::NoParameters, protocol::NoReply>(
        "Exit", [parts](const protocol::NoParameters&) -> Result<protocol::NoReply> {
            parts.leave();
            return protocol::NoReply{};
        });
    return system;
}

}  // namespace banger

#pragma once

#include "core/protocol/vm.hpp"
#include "core/rpc/fields.hpp"

/// The field maps of the structs in core/protocol/vm.hpp.
namespace banger::rpc {

template <>
struct Fields<protocol::Progress> {
    static constexpr auto list = fields(
        field("stage", &protocol::Progress::stage), field("done", &protocol::Progress::done),
        field("total", &protocol::Progress::total), field("unit", &protocol::Progress::unit));
};

template <>
struct Fields<protocol::Sized> {
    static constexpr auto list =
        fields(field("value", &protocol::Sized::value), field("source", &protocol::Sized::source));
};

template <>
struct Fields<protocol::Plan> {
    static constexpr auto list = fields(
        field("image", &protocol::Plan::image), field("kernel", &protocol::Plan::kernel),
        field("vcpus", &protocol::Plan::vcpus), field("memory", &protocol::Plan::memory),
        field("disk", &protocol::Plan::disk), field("root", &protocol::Plan::root),
        field("backend", &protocol::Plan::backend), field("network", &protocol::Plan::network),
        field("storage", &protocol::Plan::storage), field("nat", &protocol::Plan::nat),
        field("image_is_present", &protocol::Plan::image_is_present),
        field("kernel_is_present", &protocol::Plan::kernel_is_present),
        field("notes", &protocol::Plan::notes));
};

template <>
struct Fields<protocol::SshEndpoint> {
    static constexpr auto list = fields(
        field("host", &protocol::SshEndpoint::host), field("port", &protocol::SshEndpoint::port),
        field("user", &protocol::SshEndpoint::user),
        field("host_key_alias", &protocol::SshEndpoint::host_key_alias),
        field("host_key", &protocol::SshEndpoint::host_key));
};

template <>
struct Fields<protocol::Workspace> {
    static constexpr auto list = fields(
        field("guest_path", &protocol::Workspace::guest_path),
        field("source", &protocol::Workspace::source), field("head", &protocol::Workspace::head),
        field("base", &protocol::Workspace::base), field("branch", &protocol::Workspace::branch),
        field("mode", &protocol::Workspace::mode),
        field("has_untracked", &protocol::Workspace::has_untracked),
        field("is_readonly", &protocol::Workspace::is_readonly),
        field("fingerprint", &protocol::Workspace::fingerprint),
        field("prepared_at", &protocol::Workspace::prepared_at));
};

template <>
struct Fields<protocol::Vm> {
    static constexpr auto list =
        fields(field("id", &protocol::Vm::id), field("name", &protocol::Vm::name),
               field("state", &protocol::Vm::state), field("reason", &protocol::Vm::reason),
               field("image", &protocol::Vm::image), field("kernel", &protocol::Vm::kernel),
               field("vcpus", &protocol::Vm::vcpus), field("memory", &protocol::Vm::memory),
               field("disk", &protocol::Vm::disk), field("root", &protocol::Vm::root),
               field("nat", &protocol::Vm::nat), field("backend", &protocol::Vm::backend),
               field("network", &protocol::Vm::network), field("storage", &protocol::Vm::storage),
               field("address", &protocol::Vm::address), field("ssh", &protocol::Vm::ssh),
               field("pid", &protocol::Vm::pid), field("created_at", &protocol::Vm::created_at),
               field("started_at", &protocol::Vm::started_at),
               field("workspace", &protocol::Vm::workspace));
};

template <>
struct Fields<protocol::Timing> {
    static constexpr auto list = fields(field("stage", &protocol::Timing::stage),
                                        field("milliseconds", &protocol::Timing::milliseconds));
};

template <>
struct Fields<protocol::Probe> {
    static constexpr auto list =
        fields(field("name", &protocol::Probe::name), field("ok", &protocol::Probe::ok),
               field("detail", &protocol::Probe::detail));
};

template <>
struct Fields<protocol::VmRequest> {
    static constexpr auto list = fields(
        field("name", &protocol::VmRequest::name), field("image", &protocol::VmRequest::image),
        field("vcpus", &protocol::VmRequest::vcpus), field("memory", &protocol::VmRequest::memory),
        field("disk", &protocol::VmRequest::disk), field("root", &protocol::VmRequest::root),
        field("nat", &protocol::VmRequest::nat), field("backend", &protocol::VmRequest::backend),
        field("network", &protocol::VmRequest::network),
        field("storage", &protocol::VmRequest::storage),
        field("authorized_keys", &protocol::VmRequest::authorized_keys));
};

template <>
struct Fields<protocol::PlanVm> {
    static constexpr auto list = fields(field("request", &protocol::PlanVm::request));
};

template <>
struct Fields<protocol::PlanVmReply> {
    static constexpr auto list = fields(field("plan", &protocol::PlanVmReply::plan));
};

template <>
struct Fields<protocol::CreateVm> {
    static constexpr auto list = fields(field("request", &protocol::CreateVm::request),
                                        field("start", &protocol::CreateVm::start));
};

template <>
struct Fields<protocol::CreateVmReply> {
    static constexpr auto list = fields(field("progress", &protocol::CreateVmReply::progress),
                                        field("vm", &protocol::CreateVmReply::vm),
                                        field("timings", &protocol::CreateVmReply::timings));
};

template <>
struct Fields<protocol::ListVms> {
    static constexpr auto list = fields();
};

template <>
struct Fields<protocol::ListVmsReply> {
    static constexpr auto list = fields(field("vms", &protocol::ListVmsReply::vms));
};

template <>
struct Fields<protocol::NamedVm> {
    static constexpr auto list = fields(field("vm", &protocol::NamedVm::vm));
};

template <>
struct Fields<protocol::VmReply> {
    static constexpr auto list = fields(field("vm", &protocol::VmReply::vm));
};

template <>
struct Fields<protocol::StopVmReply> {
    static constexpr auto list = fields(field("progress", &protocol::StopVmReply::progress),
                                        field("vm", &protocol::StopVmReply::vm),
                                        field("was_forced", &protocol::StopVmReply::was_forced));
};

template <>
struct Fields<protocol::KillVm> {
    static constexpr auto list =
        fields(field("vm", &protocol::KillVm::vm), field("signal", &protocol::KillVm::signal));
};

template <>
struct Fields<protocol::SetVm> {
    static constexpr auto list =
        fields(field("vm", &protocol::SetVm::vm), field("vcpus", &protocol::SetVm::vcpus),
               field("memory", &protocol::SetVm::memory), field("disk", &protocol::SetVm::disk),
               field("nat", &protocol::SetVm::nat));
};

template <>
struct Fields<protocol::SetVmReply> {
    static constexpr auto list = fields(field("vm", &protocol::SetVmReply::vm),
                                        field("pending", &protocol::SetVmReply::pending));
};

template <>
struct Fields<protocol::FileSystem> {
    static constexpr auto list = fields(field("size", &protocol::FileSystem::size),
                                        field("used", &protocol::FileSystem::used));
};

template <>
struct Fields<protocol::GuestStats> {
    static constexpr auto list = fields(
        field("cpus", &protocol::GuestStats::cpus),
        field("cpu_busy_ms", &protocol::GuestStats::cpu_busy_ms),
        field("cpu_idle_ms", &protocol::GuestStats::cpu_idle_ms),
        field("load", &protocol::GuestStats::load), field("memory", &protocol::GuestStats::memory),
        field("memory_available", &protocol::GuestStats::memory_available),
        field("root", &protocol::GuestStats::root), field("work", &protocol::GuestStats::work));
};

template <>
struct Fields<protocol::DiskUsage> {
    static constexpr auto list =
        fields(field("role", &protocol::DiskUsage::role), field("size", &protocol::DiskUsage::size),
               field("allocated", &protocol::DiskUsage::allocated),
               field("headroom", &protocol::DiskUsage::headroom));
};

template <>
struct Fields<protocol::StatsOfVm> {
    static constexpr auto list = fields(
        field("id", &protocol::StatsOfVm::id), field("name", &protocol::StatsOfVm::name),
        field("state", &protocol::StatsOfVm::state), field("guest", &protocol::StatsOfVm::guest),
        field("reason", &protocol::StatsOfVm::reason),
        field("vmm_memory", &protocol::StatsOfVm::vmm_memory),
        field("vmm_cpu_ms", &protocol::StatsOfVm::vmm_cpu_ms),
        field("disks", &protocol::StatsOfVm::disks),
        field("sampled_at_ms", &protocol::StatsOfVm::sampled_at_ms));
};

template <>
struct Fields<protocol::StatsOfVmReply> {
    static constexpr auto list = fields(field("stats", &protocol::StatsOfVmReply::stats));
};

template <>
struct Fields<protocol::Port> {
    static constexpr auto list = fields(
        field("protocol", &protocol::Port::protocol), field("address", &protocol::Port::address),
        field("port", &protocol::Port::port), field("process", &protocol::Port::process),
        field("endpoint", &protocol::Port::endpoint), field("note", &protocol::Port::note));
};

template <>
struct Fields<protocol::PortsOfVmReply> {
    static constexpr auto list = fields(field("id", &protocol::PortsOfVmReply::id),
                                        field("name", &protocol::PortsOfVmReply::name),
                                        field("ports", &protocol::PortsOfVmReply::ports));
};

template <>
struct Fields<protocol::DeleteVmReply> {
    static constexpr auto list = fields(field("progress", &protocol::DeleteVmReply::progress),
                                        field("vm", &protocol::DeleteVmReply::vm));
};

template <>
struct Fields<protocol::DeleteVm> {
    static constexpr auto list =
        fields(field("vm", &protocol::DeleteVm::vm), field("force", &protocol::DeleteVm::force));
};

template <>
struct Fields<protocol::SetWorkspace> {
    static constexpr auto list = fields(field("vm", &protocol::SetWorkspace::vm),
                                        field("workspace", &protocol::SetWorkspace::workspace));
};

template <>
struct Fields<protocol::HealthOfVm> {
    static constexpr auto list =
        fields(field("vm", &protocol::HealthOfVm::vm), field("wait", &protocol::HealthOfVm::wait));
};

template <>
struct Fields<protocol::HealthOfVmReply> {
    static constexpr auto list = fields(field("is_ready", &protocol::HealthOfVmReply::is_ready),
                                        field("probes", &protocol::HealthOfVmReply::probes),
                                        field("boot_id", &protocol::HealthOfVmReply::boot_id),
                                        field("failure", &protocol::HealthOfVmReply::failure));
};

template <>
struct Fields<protocol::LogsOfVm> {
    static constexpr auto list =
        fields(field("vm", &protocol::LogsOfVm::vm), field("follow", &protocol::LogsOfVm::follow));
};

template <>
struct Fields<protocol::LogsOfVmReply> {
    static constexpr auto list = fields(field("data", &protocol::LogsOfVmReply::data));
};

}  // namespace banger::rpc

#pragma once

#include "banger/dns.hpp"
#include "banger/host.hpp"
#include "banger/image_source.hpp"
#include "banger/network.hpp"
#include "banger/plugin.hpp"
#include "banger/storage.hpp"
#include "banger/vm_backend.hpp"
#include "core/rpc/fields.hpp"

/// The field maps of every value that crosses a role interface: how core/store keeps them as text,
/// and how they will travel to bangerd-root. Descriptors are `local`: they travel beside the
/// message.
namespace banger::rpc {

BANGER_RPC_ENUM(ArtifactKind, parse_artifact_kind, kernel);
BANGER_RPC_ENUM(PartFormat, parse_part_format, kernel_tree);
BANGER_RPC_ENUM(LinkKind, parse_link_kind, user);
BANGER_RPC_ENUM(VolumeRole, parse_volume_role, work);
BANGER_RPC_ENUM(DiskFormat, parse_disk_format, qcow2);
BANGER_RPC_ENUM(CheckStatus, parse_check_status, fail);
BANGER_RPC_ENUM(Errc, parse_errc, internal);
BANGER_RPC_ENUM(Role, parse_role, vm_backend);

template <>
struct EnumText<Progress::Unit> {
    static std::string_view to_text(Progress::Unit unit);
    static std::optional<Progress::Unit> parse(std::string_view word);
    static constexpr Progress::Unit last = Progress::Unit::items;
};

template <>
struct EnumText<LogLevel> {
    static std::string_view to_text(LogLevel level);
    static std::optional<LogLevel> parse(std::string_view word);
    static constexpr LogLevel last = LogLevel::error;
};

template <>
struct Fields<Check> {
    static constexpr auto list =
        fields(field("name", &Check::name), field("status", &Check::status),
               field("detail", &Check::detail), field("remedy", &Check::remedy));
};

template <>
struct Fields<ProcessId> {
    static constexpr auto list =
        fields(field("pid", &ProcessId::pid), field("start_time", &ProcessId::start_time));
};

template <>
struct Fields<Progress> {
    static constexpr auto list =
        fields(field("stage", &Progress::stage), field("done", &Progress::done),
               field("total", &Progress::total), field("unit", &Progress::unit));
};

template <>
struct Fields<HttpHeader> {
    static constexpr auto list =
        fields(field("name", &HttpHeader::name), field("value", &HttpHeader::value));
};

template <>
struct Fields<HttpRequest> {
    static constexpr auto list = fields(
        field("url", &HttpRequest::url), field("headers", &HttpRequest::headers),
        field("max_body", &HttpRequest::max_body), field("resume_from", &HttpRequest::resume_from),
        field("deadline_seconds", &HttpRequest::deadline));
};

template <>
struct Fields<HttpResponse> {
    static constexpr auto list =
        fields(field("status", &HttpResponse::status), field("headers", &HttpResponse::headers),
               field("body", &HttpResponse::body));
};

template <>
struct Fields<DnsRecord> {
    static constexpr auto list =
        fields(field("vm", &DnsRecord::vm), field("name", &DnsRecord::name),
               field("address", &DnsRecord::address));
};

template <>
struct Fields<DnsZone> {
    static constexpr auto list =
        fields(field("zone", &DnsZone::zone), field("server", &DnsZone::server),
               field("port", &DnsZone::port));
};

template <>
struct Fields<Part> {
    static constexpr auto list =
        fields(field("format", &Part::format), field("digest", &Part::digest),
               field("size", &Part::size), field("locator", &Part::locator));
};

template <>
struct Fields<RunConfig> {
    static constexpr auto list =
        fields(field("environment", &RunConfig::environment),
               field("working_folder", &RunConfig::working_folder), field("user", &RunConfig::user),
               field("entrypoint", &RunConfig::entrypoint), field("command", &RunConfig::command));
};

template <>
struct Fields<ArtifactManifest> {
    static constexpr auto list = fields(
        field("kind", &ArtifactManifest::kind), field("reference", &ArtifactManifest::reference),
        field("suggested_name", &ArtifactManifest::suggested_name),
        field("distro", &ArtifactManifest::distro),
        field("architecture", &ArtifactManifest::architecture),
        field("description", &ArtifactManifest::description),
        field("provenance", &ArtifactManifest::provenance),
        field("kernel_reference", &ArtifactManifest::kernel_reference),
        field("parts", &ArtifactManifest::parts),
        field("run_config", &ArtifactManifest::run_config));
};

template <>
struct Fields<Redirect> {
    static constexpr auto list =
        fields(field("reference", &Redirect::reference),
               field("suggested_name", &Redirect::suggested_name),
               field("distro", &Redirect::distro), field("description", &Redirect::description),
               field("kernel_reference", &Redirect::kernel_reference));
};

template <>
struct Fields<ResolveRequest> {
    static constexpr auto list =
        fields(field("kind", &ResolveRequest::kind), field("reference", &ResolveRequest::reference),
               field("architecture", &ResolveRequest::architecture));
};

template <>
struct Fields<AvailableArtifact> {
    static constexpr auto list = fields(field("kind", &AvailableArtifact::kind),
                                        field("reference", &AvailableArtifact::reference),
                                        field("distro", &AvailableArtifact::distro),
                                        field("architecture", &AvailableArtifact::architecture),
                                        field("description", &AvailableArtifact::description));
};

template <>
struct Fields<PortForward> {
    static constexpr auto list = fields(field("host_address", &PortForward::host_address),
                                        field("host_port", &PortForward::host_port),
                                        field("guest_port", &PortForward::guest_port));
};

template <>
struct Fields<LinkRequest> {
    static constexpr auto list =
        fields(field("vm", &LinkRequest::vm), field("name", &LinkRequest::name),
               field("mac", &LinkRequest::mac), field("address", &LinkRequest::address),
               field("nat", &LinkRequest::nat), field("owner_uid", &LinkRequest::owner_uid),
               field("forwards", &LinkRequest::forwards));
};

template <>
struct Fields<NetworkLink> {
    static constexpr auto list =
        fields(field("vm", &NetworkLink::vm), field("kind", &NetworkLink::kind),
               field("device", &NetworkLink::device), field("mac", &NetworkLink::mac),
               field("address", &NetworkLink::address), field("gateway", &NetworkLink::gateway),
               field("name_server", &NetworkLink::name_server), field("nat", &NetworkLink::nat),
               field("forwards", &NetworkLink::forwards));
};

template <>
struct Fields<Addressing> {
    static constexpr auto list = fields(field("pool", &Addressing::pool));
};

template <>
struct Fields<VolumeRequest> {
    static constexpr auto list = fields(
        field("vm", &VolumeRequest::vm), field("role", &VolumeRequest::role),
        local(&VolumeRequest::base_fd, -1), field("size", &VolumeRequest::size),
        field("formats", &VolumeRequest::formats), field("owner_uid", &VolumeRequest::owner_uid));
};

template <>
struct Fields<Volume> {
    static constexpr auto list =
        fields(field("vm", &Volume::vm), field("role", &Volume::role), field("path", &Volume::path),
               field("format", &Volume::format), field("size", &Volume::size));
};

template <>
struct Fields<VolumeUsage> {
    static constexpr auto list =
        fields(field("size", &VolumeUsage::size), field("allocated", &VolumeUsage::allocated),
               field("headroom", &VolumeUsage::headroom));
};

template <>
struct Fields<BackendCapabilities> {
    static constexpr auto list = fields(
        field("links", &BackendCapabilities::links),
        field("disk_formats", &BackendCapabilities::disk_formats),
        field("vsock", &BackendCapabilities::vsock), field("pause", &BackendCapabilities::pause),
        field("snapshots", &BackendCapabilities::snapshots),
        field("hardware_accelerated", &BackendCapabilities::hardware_accelerated),
        field("acceleration_note", &BackendCapabilities::acceleration_note),
        field("max_vcpus", &BackendCapabilities::max_vcpus));
};

template <>
struct Fields<Disk> {
    static constexpr auto list =
        fields(field("path", &Disk::path), field("format", &Disk::format),
               field("read_only", &Disk::read_only), field("serial", &Disk::serial));
};

template <>
struct Fields<MachineSpec> {
    static constexpr auto list = fields(
        field("vm", &MachineSpec::vm), field("name", &MachineSpec::name),
        field("vcpus", &MachineSpec::vcpus), field("memory", &MachineSpec::memory),
        local(&MachineSpec::kernel_fd, -1), local(&MachineSpec::initramfs_fd, -1),
        field("command_line", &MachineSpec::command_line), field("disks", &MachineSpec::disks),
        field("link", &MachineSpec::link), field("console_limit", &MachineSpec::console_limit));
};

template <>
struct Fields<VmProcess> {
    static constexpr auto list =
        fields(field("vm", &VmProcess::vm), field("process", &VmProcess::process),
               field("backend_state", &VmProcess::backend_state));
};

/// {"manifest": …} or {"redirect": …}.
template <>
struct Alternatives<Resolution> {
    static constexpr std::array<std::string_view, 2> names{"manifest", "redirect"};
};

/// A setting is written as what it is: true, 5, "text", ["a", "b"].
template <>
struct Codec<SettingValue> {
    static Json encode(const SettingValue& value);
    static Result<SettingValue> decode(const Json& json, const Place& place);
    static Shape shape() { return {}; }
};

}  // namespace banger::rpc

#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <utility>

#include "banger/dns.hpp"
#include "banger/image_source.hpp"
#include "banger/network.hpp"
#include "banger/storage.hpp"
#include "banger/vm_backend.hpp"
#include "core/remote/web_role.hpp"

/// The table of every call that can cross to another process: reading it is the audit. Server and
/// proxy are both made of it, so a method of a role is one line here and one in proxies.cpp.
///
/// On the wire a call is one packet, {"method": "PLUGIN/ROLE.METHOD", "parameters": {…}}, with the
/// descriptors of its arguments beside it in the order of the arguments. A stop_token and a Call
/// are not sent: they are the connection itself (server.hpp). Roles' addressing(), cloning(),
/// pausing() and snapshots() are no calls: the answer to Describe holds them.
namespace banger::remote {

/// What to do when the server went away after it may have begun the call.
enum class Again {
    yes,  ///< asking twice does no harm: removal, what is idempotent, what changes nothing
    no,   ///< the caller is told, and undoes what may have been made
};

template <auto member, std::size_t count>
struct Method {
    std::string_view name;
    Again again;
    std::array<std::string_view, count> parameters;  ///< names of what is sent as JSON
};

template <auto member, class... Names>
constexpr Method<member, sizeof...(Names)> method(std::string_view name, Again again,
                                                  Names... parameters) {
    return {name, again, {parameters...}};
}

inline constexpr auto methods = std::tuple(
    method<&Network::attach>("network.attach", Again::no, "request"),
    method<&Network::detach>("network.detach", Again::yes, "vm"),
    method<&Network::recover>("network.recover", Again::yes, "remembered"),
    method<&Network::checks>("network.checks", Again::yes),

    method<&Dns::route>("dns.route", Again::yes, "zone"),
    method<&Dns::unroute>("dns.unroute", Again::yes),
    method<&Dns::publish>("dns.publish", Again::yes, "record"),
    method<&Dns::withdraw>("dns.withdraw", Again::yes, "vm"),
    method<&Dns::recover>("dns.recover", Again::yes, "remembered"),
    method<&Dns::checks>("dns.checks", Again::yes),

    method<&Storage::create>("storage.create", Again::no, "request"),
    method<&Storage::activate>("storage.activate", Again::yes, "volume"),
    method<&Storage::deactivate>("storage.deactivate", Again::yes, "vm"),
    method<&Storage::resize>("storage.resize", Again::yes, "volume", "size"),
    method<&Storage::usage>("storage.usage", Again::yes, "volume"),
    method<&Storage::remove>("storage.remove", Again::yes, "vm"),
    method<&Storage::recover>("storage.recover", Again::yes, "remembered"),
    method<&Storage::checks>("storage.checks", Again::yes),
    method<&StorageCloning::clone>("storage.clone", Again::no, "source", "target"),

    method<&ImageSource::resolve>("image-source.resolve", Again::yes, "request"),
    method<&ImageSource::fetch>("image-source.fetch", Again::no, "manifest", "part", "resume_from"),
    method<&ImageSource::available>("image-source.available", Again::yes),
    method<&ImageSource::checks>("image-source.checks", Again::yes),

    method<&VmBackend::capabilities>("vm-backend.capabilities", Again::yes),
    method<&VmBackend::start>("vm-backend.start", Again::no, "spec"),
    method<&VmBackend::kill>("vm-backend.kill", Again::yes, "vm"),
    method<&VmBackend::remove>("vm-backend.remove", Again::yes, "vm"),
    method<&VmBackend::console>("vm-backend.console", Again::yes, "vm"),
    method<&VmBackend::connect_agent>("vm-backend.connect_agent", Again::yes, "vm"),
    method<&VmBackend::recover>("vm-backend.recover", Again::yes, "remembered"),
    method<&VmBackend::checks>("vm-backend.checks", Again::yes),
    method<&VmPausing::pause>("vm-backend.pause", Again::yes, "vm"),
    method<&VmPausing::resume>("vm-backend.resume", Again::yes, "vm"),
    method<&VmSnapshots::save>("vm-backend.save", Again::no, "vm"),
    method<&VmSnapshots::restore>("vm-backend.restore", Again::no, "spec"));

/// Those that go the other way, from a plugin in a process of its own to core (web_role.hpp).
inline constexpr auto web_methods =
    std::tuple(method<&WebRole::get>("web.get", Again::no, "call"),
               method<&WebRole::download>("web.download", Again::no, "call"));

inline constexpr auto all_methods = std::tuple_cat(methods, web_methods);

/// What a descriptor that comes with a call must be. The server looks before the plugin is called.
enum class FdKind {
    source,           ///< a regular file, readable
    optional_source,  ///< the same, or no descriptor at all for an invalid UniqueFd
    sink,             ///< a regular file or a pipe, writable
};

/// The descriptors inside a value, in the order in which they travel. Specialised for each that has
/// any.
template <class T>
struct DescriptorsIn {
    static constexpr std::array<int T::*, 0> members{};
};
template <>
struct DescriptorsIn<VolumeRequest> {
    static constexpr std::array members{&VolumeRequest::base_fd};
};
// MachineSpec's are a list: marshal.hpp.

/// Those that are arguments by themselves.
template <auto member>
inline constexpr FdKind descriptor_kind = FdKind::source;
template <>
inline constexpr FdKind descriptor_kind<&Storage::activate> = FdKind::optional_source;
template <>
inline constexpr FdKind descriptor_kind<&ImageSource::fetch> = FdKind::sink;
template <>
inline constexpr FdKind descriptor_kind<&VmSnapshots::save> = FdKind::sink;
template <>
inline constexpr FdKind descriptor_kind<&WebRole::get> = FdKind::sink;
template <>
inline constexpr FdKind descriptor_kind<&WebRole::download> = FdKind::sink;

/// Not of a role: what is served here. No parameters; the answer is a Description.
inline constexpr std::string_view describe_method = "banger.describe";
/// Makes one more connection of the descriptor that comes with it. Between a plugin host and core
/// (core/plugin_host) alone, on a channel that has no other calls.
inline constexpr std::string_view connect_method = "banger.connect";

}  // namespace banger::remote

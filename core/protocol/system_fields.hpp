#pragma once

#include "core/protocol/system.hpp"
#include "core/rpc/fields.hpp"
#include "core/rpc/role_fields.hpp"

/// The field maps of the structs in core/protocol/system.hpp.
namespace banger::rpc {

template <>
struct Fields<protocol::PluginInfo> {
    static constexpr auto list = fields(field("name", &protocol::PluginInfo::name),
                                        field("version", &protocol::PluginInfo::version),
                                        field("summary", &protocol::PluginInfo::summary),
                                        field("roles", &protocol::PluginInfo::roles),
                                        field("used_for", &protocol::PluginInfo::used_for),
                                        field("privilege", &protocol::PluginInfo::privilege),
                                        field("runs_in", &protocol::PluginInfo::runs_in),
                                        field("status", &protocol::PluginInfo::status),
                                        field("reason", &protocol::PluginInfo::reason),
                                        field("remedy", &protocol::PluginInfo::remedy),
                                        field("file", &protocol::PluginInfo::file),
                                        field("digest", &protocol::PluginInfo::digest),
                                        field("trust", &protocol::PluginInfo::trust),
                                        field("asks_for", &protocol::PluginInfo::asks_for));
};

template <>
struct Fields<protocol::CallInFlight> {
    static constexpr auto list = fields(
        field("plugin", &protocol::CallInFlight::plugin),
        field("method", &protocol::CallInFlight::method), field("vm", &protocol::CallInFlight::vm),
        field("milliseconds", &protocol::CallInFlight::milliseconds));
};

template <>
struct Fields<protocol::Setting> {
    static constexpr auto list =
        fields(field("key", &protocol::Setting::key), field("value", &protocol::Setting::value),
               field("source", &protocol::Setting::source));
};

template <>
struct Fields<protocol::SystemInfoReply> {
    static constexpr auto list =
        fields(field("version", &protocol::SystemInfoReply::version),
               field("commit", &protocol::SystemInfoReply::commit),
               field("built", &protocol::SystemInfoReply::built),
               field("mode", &protocol::SystemInfoReply::mode),
               field("pid", &protocol::SystemInfoReply::pid),
               field("uptime_seconds", &protocol::SystemInfoReply::uptime_seconds),
               field("machines", &protocol::SystemInfoReply::machines));
};

template <>
struct Fields<protocol::PluginsReply> {
    static constexpr auto list =
        fields(field("plugins", &protocol::PluginsReply::plugins),
               field("calls_in_flight", &protocol::PluginsReply::calls_in_flight));
};

template <>
struct Fields<protocol::DoctorReply> {
    static constexpr auto list = fields(field("checks", &protocol::DoctorReply::checks),
                                        field("settings", &protocol::DoctorReply::settings));
};

template <>
struct Fields<protocol::NoReply> {
    static constexpr auto list = fields();
};

}  // namespace banger::rpc

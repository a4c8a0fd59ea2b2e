#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/host.hpp"
#include "banger/plugin.hpp"
#include "banger/values.hpp"
#include "core/rpc/role_fields.hpp"

/// What core and a new process say to each other before the first call of a role
/// (docs/PLUGIN-WIRE.md). On the channel of the process, each one packet:
///
///     core  → banger.confine  parameters: Confine; with it the file to run, open for reading
///     core  → banger.start    parameters: Start
///     child → Started, or an error: of whichever did not succeed
///
/// banger-plugin-host takes the first, gives up what the plugin is not to have, and is then the
/// library's host or becomes the executable, which takes the second.
namespace banger::plugin_host {

inline constexpr std::string_view confine_method = "banger.confine";
inline constexpr std::string_view start_method = "banger.start";
/// The name under which core serves the web to a plugin: "core/web.get".
inline constexpr std::string_view core_name = "core";

/// The descriptors of a plugin's process.
inline constexpr int calls_fd = 3;  ///< core calls
inline constexpr int core_fd = 4;   ///< core answers

/// What the process keeps of its rights.
struct Confine {
    PluginName name;
    std::string file;  ///< of the plugin, for messages
    bool is_executable = false;
    bool is_probe = false;  ///< look at the library's door, say Started without roles, and end
    std::vector<std::string> read;   ///< files and folders that may be read
    std::vector<std::string> write;  ///< folders in which everything may be done
    ByteCount memory;                ///< of address space
};

/// What the plugin is told.
struct Start {
    PluginName name;
    Settings settings;
    std::string state_folder;
    std::string cache_folder;
    std::string run_folder;
    bool has_network = false;  ///< core answers web calls
};

/// What it answers.
struct Started {
    std::vector<Role> roles;
    std::optional<Addressing> addressing;  ///< of the network role
    std::optional<bool> cloning;           ///< Storage has its optional half
};

/// Of its first packet. Errc::corrupt for what is no such answer, Errc::unavailable with the
/// plugin's own words when it refuses.
Result<Started> read_started(std::string_view text);

}  // namespace banger::plugin_host

template <>
struct banger::rpc::Fields<banger::plugin_host::Confine> {
    using T = banger::plugin_host::Confine;
    static constexpr auto list =
        fields(field("name", &T::name), field("file", &T::file),
               field("is_executable", &T::is_executable), field("is_probe", &T::is_probe),
               field("read", &T::read), field("write", &T::write), field("memory", &T::memory));
};

template <>
struct banger::rpc::Fields<banger::plugin_host::Start> {
    using T = banger::plugin_host::Start;
    static constexpr auto list =
        fields(field("name", &T::name), field("settings", &T::settings),
               field("state_folder", &T::state_folder), field("cache_folder", &T::cache_folder),
               field("run_folder", &T::run_folder), field("has_network", &T::has_network));
};

template <>
struct banger::rpc::Fields<banger::plugin_host::Started> {
    using T = banger::plugin_host::Started;
    static constexpr auto list =
        fields(field("roles", &T::roles), field("addressing", &T::addressing),
               field("cloning", &T::cloning));
};

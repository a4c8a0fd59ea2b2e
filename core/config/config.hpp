#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"
#include "core/config/paths.hpp"

namespace banger {

/// Where an effective value comes from.
struct Source {
    enum class Kind {
        builtin,      ///< banger's own default; `where` may say which ("floor")
        host,         ///< worked out from this host; `where` says from what ("16 CPUs")
        file,         ///< a configuration file
        environment,  ///< a variable, named in `where`
        flag,         ///< the command line, named in `where`
    };
    Kind kind = Kind::builtin;
    std::string where = {};  ///< file, variable or flag
    unsigned line = 0;       ///< of a file, from 1
    /// "default", "host: 16 CPUs", "/etc/banger/config.toml:12", "BANGER_LOG_LEVEL", "--vcpu".
    [[nodiscard]] std::string text() const;
    friend bool operator==(const Source&, const Source&) = default;
};

/// A value and where it comes from. Reads like the value: `*config.dns_port`.
template <class T>
struct Sourced {
    T value{};
    Source source = {};
    const T& operator*() const { return value; }
    const T* operator->() const { return &value; }
};

/// One `[[file_sync]]`: what is copied from the owner's home into a machine when it is made.
struct FileSync {
    std::string host;   ///< absolute, normalised, inside the owner's home; may not exist
    std::string guest;  ///< absolute, normalised, inside /root
    /// Permission bits (0 to 0777) for a file; nothing: 0600 for a file, a folder's entries keep
    /// theirs.
    std::optional<std::uint32_t> mode = {};
    Source source = {};
    friend bool operator==(const FileSync&, const FileSync&) = default;
};

/// A `[plugin.NAME]` table as written. Its keys are not checked here: the plugin's manifest has the
/// schema. `sources` has the same keys.
struct PluginTable {
    Settings settings;
    std::map<std::string, Source, std::less<>> sources;
    Source source;  ///< of the table's header
};

/// The effective configuration: both files, environment and flags over the defaults of the mode.
struct Config {
    RunMode mode = RunMode::user;

    Sourced<LogLevel> log_level{LogLevel::info};
    Sourced<std::string> default_image_name;
    /// The user's private key; made on first use when the file is missing *and* the path is the
    /// default.
    Sourced<std::string> ssh_key_path;
    Sourced<std::optional<std::string>> firecracker_bin;  ///< nothing: looked up on PATH
    Sourced<std::optional<std::string>> jailer_bin;
    Sourced<std::optional<std::chrono::seconds>> auto_stop_stale_after;  ///< nothing: off
    Sourced<std::chrono::seconds> stats_poll_interval;
    Sourced<std::string> bridge_name;
    Sourced<Ipv4Address> bridge_ip;
    Sourced<std::uint32_t> cidr;
    Sourced<Ipv4Address> guest_dns;
    Sourced<std::string> dns_zone;
    Sourced<std::uint16_t> dns_port;

    /// Sizes as far as somebody set them; core/config/sizing.hpp fills in the rest.
    struct VmDefaults {
        Sourced<std::optional<std::uint32_t>> vcpu;
        Sourced<std::optional<ByteCount>> memory;
        Sourced<std::optional<ByteCount>> disk_size;
        Sourced<std::optional<ByteCount>> system_overlay_size;
    } vm_defaults;

    /// Which plugin fills which role.
    struct Plugins {
        Sourced<std::string> network;             ///< valid PluginNames, all of them
        Sourced<std::optional<std::string>> dns;  ///< nothing: "none", names are not routed
        Sourced<std::string> storage;
        Sourced<std::string> vm_backend;
        Sourced<std::vector<std::string>> image_sources;  ///< asked in this order; never empty
    } plugins;

    std::map<std::string, PluginTable, std::less<>> plugin_tables;
    std::vector<FileSync> file_sync;
};

/// A configuration file that was read.
struct ConfigText {
    std::string path;  ///< for messages and sources only
    std::string text;
};

/// What a configuration depends on besides its files.
struct ConfigContext {
    RunMode mode = RunMode::user;
    std::string home;                                    ///< absolute; for `~/`
    std::string default_ssh_key;                         ///< Paths::ssh_key
    std::optional<std::string> log_level_variable = {};  ///< BANGER_LOG_LEVEL
    std::optional<std::string> log_level_flag = {};      ///< --log-level
};

/// Merges the texts over the defaults, the first one weakest. A key of a later file replaces the
/// same key of an earlier one whole: lists are not joined; `[plugin.NAME]` tables are merged key by
/// key. Pure. Every error is Errc::invalid_argument, says file and line, and names the nearest
/// valid key or the accepted values in its remedy.
Result<Config> parse_config(const std::vector<ConfigText>& texts, const ConfigContext& context);

/// Reads /etc/banger/config.toml and ~/.config/banger/config.toml, as far as they exist. A file
/// over 1 MiB, or one that others than root and its owner may write (it names programs to run), is
/// refused. The variable and the flag are taken from the context.
Result<Config> load_config(const Paths& paths, ConfigContext context);

/// One line of `banger config show` and of doctor's last rows.
struct EffectiveValue {
    std::string key;    ///< "vm_defaults.memory_mib"
    std::string value;  ///< as it could stand in a file: "4096", "\"10s\""; empty for one not set
    Source source;
};
/// Every key in the order of the documentation, then those of plugin tables and file_sync.
std::vector<EffectiveValue> effective_values(const Config& config);

std::string_view to_string(LogLevel level);
std::optional<LogLevel> parse_log_level(std::string_view word);

}  // namespace banger

#include "core/config/config.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "banger/unique_fd.hpp"
#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/config/default_backend.hpp"
#include "core/config/keys.hpp"
#include "core/config/toml_place.hpp"

namespace banger {

using config::Key;
using config::Place;

namespace {

constexpr ByteCount largest_file = ByteCount::mib(1);
constexpr std::string_view log_level_words[] = {"debug", "info", "warning", "error"};

Result<toml::table> parse_toml(const ConfigText& text) {
    try {
        return toml::parse(std::string_view(text.text), text.path);
    } catch (const toml::parse_error& failure) {
        // The parser quotes bytes of the file in its message.
        const std::string reason = quoted(failure.description());
        return Error(Errc::invalid_argument,
                     text.path + ":" + std::to_string(failure.source().begin.line) +
                         ": not TOML: " + reason.substr(1, reason.size() - 2),
                     "Correct the line. The format is TOML 1.0: text stands in quotes.");
    }
}

// ---- from tables to Config ----

std::vector<std::string> valid_names(std::string_view section) {
    std::vector<std::string> names;
    for (const Key& key : config::keys())
        if (key.section == section) names.emplace_back(key.name);
    if (section.empty())
        names.insert(names.end(), {"vm_defaults", "plugins", "plugin", "file_sync"});
    return names;
}

/// A key that stands in the wrong section gets the right one as its remedy.
Error unknown_in_section(const Place& place, std::string_view section, std::string_view name) {
    for (const Key& key : config::keys()) {
        if (key.name != name) continue;
        Error error = config::unknown_key(place, name, valid_names(section));
        error.remedy =
            key.section.empty()
                ? "Put `" + std::string(name) + "` above the first [table]."
                : "Put `" + std::string(name) + "` into [" + std::string(key.section) + "].";
        return error;
    }
    return config::unknown_key(place, name, valid_names(section));
}

Result<const toml::table*> table_of(const Place& place) {
    if (const toml::table* table = place.node.as_table()) return table;
    return place.refuse("should be a table", "Write [" + place.key + "] on a line of its own.");
}

const Key* find_key(std::string_view section, std::string_view name) {
    for (const Key& key : config::keys())
        if (key.section == section && key.name == name) return &key;
    return nullptr;
}

Result<void> read_section(Config& config, const Place& place) {
    const toml::table* const table = BANGER_TRY(table_of(place));
    for (const auto& [key, node] : *table) {
        const Place part = place.part(node, "." + std::string(key.str()));
        const Key* const known = find_key(place.key, key.str());
        if (!known) return unknown_in_section(part, place.key, key.str());
        BANGER_TRY(known->read(config, part));
    }
    return ok();
}

Result<void> read_plugin_table(PluginTable& target, const Place& place) {
    const toml::table* const table = BANGER_TRY(table_of(place));
    target.source = place.source();
    for (const auto& [key, node] : *table) {
        const Place part = place.part(node, "." + std::string(key.str()));
        const std::string name(key.str());
        target.settings[name] = BANGER_TRY(config::setting_of(part));
        target.sources[name] = part.source();
    }
    return ok();
}

Result<void> read_plugin_tables(Config& config, const Place& place) {
    const toml::table* const table = BANGER_TRY(table_of(place));
    for (const auto& [key, node] : *table) {
        const Place part = place.part(node, "." + std::string(key.str()));
        const Result<PluginName> name = PluginName::parse(key.str());
        if (!name) return part.refuse(name.error());
        BANGER_TRY(read_plugin_table(config.plugin_tables[name->str()], part));
    }
    return ok();
}

Result<void> read_key(Config& config, const Place& place) {
    if (const Key* key = find_key("", place.key)) return key->read(config, place);
    if (place.key == "vm_defaults" || place.key == "plugins") return read_section(config, place);
    if (place.key == "plugin") return read_plugin_tables(config, place);
    if (place.key != "file_sync") return unknown_in_section(place, "", place.key);
    config.file_sync = BANGER_TRY(config::file_sync_of(place));
    return ok();
}

Result<void> merge(Config& config, const ConfigText& text, const ConfigContext& context) {
    const toml::table table = BANGER_TRY(parse_toml(text));
    for (const auto& [key, node] : table)
        BANGER_TRY(read_key(config, Place{node, std::string(key.str()), text.path, context}));
    return ok();
}

Result<void> apply_log_level(Config& config, const std::optional<std::string>& word,
                             Source source) {
    // A variable that is set to nothing counts as unset.
    if (!word || word->empty()) return ok();
    const std::optional<LogLevel> level = parse_log_level(*word);
    if (!level)
        return Error(Errc::invalid_argument,
                     source.text() + ": " + quoted(*word) + " is not a log level",
                     "Use one of debug, info, warning, error.");
    config.log_level = {*level, std::move(source)};
    return ok();
}

/// The host's address must be one of a host in its own network.
Result<void> check_bridge(const Config& config) {
    const Ipv4Prefix prefix = BANGER_TRY(Ipv4Prefix::make(*config.bridge_ip, *config.cidr));
    if (prefix.address() != prefix.network() && prefix.address() != prefix.broadcast()) return ok();
    const Source& source = config.bridge_ip.source.kind == Source::Kind::file
                               ? config.bridge_ip.source
                               : config.cidr.source;
    return Error(Errc::invalid_argument,
                 source.text() + ": `bridge_ip` is the first or last address of " + prefix.text() +
                     ", which no host can have",
                 "Use another address, as in 172.16.0.1, or another `cidr`.");
}

// ---- files ----

/// Follows links, because people keep their configuration elsewhere; what is checked is what is
/// read.
Result<std::optional<ConfigText>> read_config_file(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!fd) {
        if (errno == ENOENT || errno == ENOTDIR) return std::optional<ConfigText>();
        return Error::from_errno(errno, "open " + path);
    }
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return Error::from_errno(errno, "stat " + path);
    if (!S_ISREG(status.st_mode))
        return Error(Errc::invalid_argument, path + " is not a file", "Move it away.");
    const bool is_ours = status.st_uid == 0 || status.st_uid == ::geteuid();
    if (!is_ours || (status.st_mode & S_IWOTH) != 0)
        return Error(Errc::permission_denied,
                     path + " can be changed by others, and it names programs to run",
                     "Make it yours and run `chmod go-w` on it.");
    std::string text = BANGER_TRY(read_all(fd.get(), largest_file).context("reading " + path));
    return std::optional(ConfigText{path, std::move(text)});
}

}  // namespace

std::string_view to_string(LogLevel level) {
    return log_level_words[static_cast<std::size_t>(level)];
}

std::optional<LogLevel> parse_log_level(std::string_view word) {
    const auto* const found = std::ranges::find(log_level_words, word);
    if (found == std::end(log_level_words)) return std::nullopt;
    return static_cast<LogLevel>(found - std::begin(log_level_words));
}

std::string Source::text() const {
    switch (kind) {
        case Kind::builtin:
            return where.empty() ? "default" : where;
        case Kind::host:
            return where.empty() ? "host" : "host: " + where;
        case Kind::file:
            return where + ":" + std::to_string(line);
        case Kind::environment:
        case Kind::flag:
            break;
    }
    return where;
}

Result<Config> parse_config(const std::vector<ConfigText>& texts, const ConfigContext& context) {
    Config config = config::default_config(context);
    for (const ConfigText& text : texts)
        BANGER_TRY(merge(config, text, context));
    BANGER_TRY(check_bridge(config));
    BANGER_TRY(apply_log_level(config, context.log_level_variable,
                               {Source::Kind::environment, "BANGER_LOG_LEVEL"}));
    BANGER_TRY(
        apply_log_level(config, context.log_level_flag, {Source::Kind::flag, "--log-level"}));
    return config;
}

Result<Config> load_config(const Paths& paths, ConfigContext context) {
    std::vector<ConfigText> texts;
    for (const std::string& path : {paths.system_config_file, paths.user_config_file}) {
        std::optional<ConfigText> text = BANGER_TRY(read_config_file(path));
        if (text) texts.push_back(std::move(*text));
    }
    context.mode = paths.mode;
    context.home = paths.home;
    context.default_ssh_key = paths.ssh_key;
    Config config = BANGER_TRY(parse_config(texts, context));
    if (config.mode == RunMode::system) choose_default_backend(config, BackendFacts::of_host());
    return config;
}

std::vector<EffectiveValue> effective_values(const Config& config) {
    std::vector<EffectiveValue> values;
    for (const Key& key : config::keys()) {
        EffectiveValue value = key.show(config);
        value.key = key.full_name();
        values.push_back(std::move(value));
    }
    for (const auto& [plugin, table] : config.plugin_tables)
        for (const auto& [name, setting] : table.settings)
            values.push_back({"plugin." + plugin + "." + name, config::setting_text(setting),
                              table.sources.at(name)});
    for (std::size_t i = 0; i < config.file_sync.size(); ++i) {
        const FileSync& entry = config.file_sync[i];
        values.push_back({"file_sync[" + std::to_string(i) + "]",
                          config::toml_text(entry.host + " -> " + entry.guest), entry.source});
    }
    return values;
}

}  // namespace banger

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>

#include "cli/commands.hpp"
#include "cli/config.hpp"
#include "cli/plugin_files.hpp"
#include "cli/render/table.hpp"
#include "cli/session.hpp"
#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/config/sizing.hpp"
#include "core/plugins/manifest.hpp"

namespace banger::cli {

namespace {

using Colour = Style::Colour;

struct ConfigFile {
    std::string kind;  ///< "user", "system"
    std::string path;
    bool exists = false;
};

}  // namespace

}  // namespace banger::cli

template <>
struct banger::rpc::Fields<banger::cli::ConfigFile> {
    using Self = banger::cli::ConfigFile;
    static constexpr auto list = fields(field("kind", &Self::kind), field("path", &Self::path),
                                        field("exists", &Self::exists));
};

namespace banger::cli {

Result<Config> effective_config(const client::DaemonPlace& place) {
    const PathEnvironment environment = BANGER_TRY(PathEnvironment::from_process());
    // In both modes ssh, and with it the key, is the user's.
    const Paths user = BANGER_TRY(find_paths(RunMode::user, environment));
    const char* const level = std::getenv("BANGER_LOG_LEVEL");
    return load_config(place.paths, {.mode = place.paths.mode,
                                     .home = user.home,
                                     .default_ssh_key = user.ssh_key,
                                     .log_level_variable =
                                         level ? std::optional<std::string>(level) : std::nullopt});
}

namespace {

/// `[plugin.NAME]` against the schema in the plugin's manifest, as the daemon does it.
Result<void> check_plugin_table(const std::string& name, const PluginTable& table,
                                const std::map<std::string, std::string>& files) {
    const auto file = files.find(name);
    if (file == files.end()) {
        std::vector<std::string> names;
        for (const auto& [known, path] : files)
            names.push_back(known);
        const std::optional<std::string> near = nearest_word(name, names);
        return Error(Errc::invalid_argument,
                     table.source.text() + ": there is no plugin " + banger::quoted(name),
                     near ? "Did you mean [plugin." + *near + "]?"
                          : "Remove the table, or install the plugin.");
    }
    const std::string text = BANGER_TRY(read_file(file->second, ByteCount::mib(1)));
    const Manifest manifest = BANGER_TRY(parse_manifest(text, file->second));
    for (const auto& [key, value] : table.settings) {
        const Result<Settings> checked = check_settings(manifest, {{key, value}});
        if (checked) continue;
        Error error = checked.error();
        error.message = table.sources.at(key).text() + ": " + error.message;
        return error;
    }
    return ok();
}

Result<void> check_plugin_tables(const Config& config, const Paths& paths,
                                 const std::string& program) {
    const std::map<std::string, std::string> files = manifest_files(paths, program);
    if (files.empty()) return ok();  // the daemon has them, and will say
    for (const auto& [name, table] : config.plugin_tables)
        BANGER_TRY(check_plugin_table(name, table, files));
    return ok();
}

Result<int> show(const Arguments& arguments, Context& context) {
    const client::DaemonPlace place = BANGER_TRY(daemon_place(context));
    const Config config = BANGER_TRY(effective_config(place));
    BANGER_TRY(check_plugin_tables(config, place.paths, context.program));
    std::vector<protocol::Setting> settings;
    const HostSize host = BANGER_TRY(HostSize::of_this_host());
    for (const EffectiveValue& value : effective_values(config, host))
        settings.push_back({value.key, value.value, value.source.text()});
    Terminal& terminal = context.terminal;
    if (wants_json(arguments))
        terminal.out(json_text(settings));
    else
        terminal.out(settings_table(settings, terminal));
    return 0;
}

Result<int> path(const Arguments& arguments, Context& context) {
    const client::DaemonPlace place = BANGER_TRY(daemon_place(context));
    std::vector<ConfigFile> files = {{"user", place.paths.user_config_file, false},
                                     {"system", place.paths.system_config_file, false}};
    for (ConfigFile& file : files)
        file.exists = path_exists(file.path);
    Terminal& terminal = context.terminal;
    if (wants_json(arguments)) {
        terminal.out(json_text(files));
    } else if (arguments.has("quiet")) {
        terminal.out(files.front().path + "\n");
    } else {
        Table table({"FILE", "READ", "PATH"});
        for (const ConfigFile& file : files)
            table.add({{file.kind, Colour::bold}, file.exists ? "yes" : "not there", file.path});
        terminal.out(table.text(terminal.out_style(), terminal.out_width()));
    }
    return 0;
}

}  // namespace

std::string own_plugins(const std::string& program) {
    return parent_path(parent_path(program)) + "/lib/banger/plugins";
}

std::map<std::string, std::string> manifest_files(const Paths& paths, const std::string& program) {
    std::map<std::string, std::string> files;
    for (const std::string& folder : {own_plugins(program), paths.user_plugins()})
        for (const std::string& file : list_folder(folder).value_or({}))
            if (file.ends_with(".toml"))
                files.emplace(file.substr(0, file.size() - 5), folder + "/" + file);
    return files;
}

std::string settings_table(const std::vector<protocol::Setting>& settings,
                           const Terminal& terminal) {
    Table table({"SETTING", "VALUE", "FROM"});
    for (const protocol::Setting& setting : settings)
        table.add({setting.key, setting.value, {setting.source, Colour::dim}});
    return table.text(terminal.out_style(), terminal.out_width());
}

void add_config_commands(CommandTable& table) {
    table.groups.push_back(
        {"config",
         "the settings that hold, and where each comes from",
         "Two files, both optional: ~/.config/banger/config.toml is yours, "
         "/etc/banger/config.toml\n"
         "the host's. Yours wins. A mistake in one is an error with file and line. Every key is\n"
         "in docs/config.md.",
         {{"banger config show", "every setting, its value and its source"},
          {"banger config path", "where the files are"},
          {"banger config show --format json | jq -r '.[] | select(.source != \"default\") | .key'",
           "what is not as it comes"}}});
    table.commands.push_back(
        {"config",
         "show",
         {"list"},
         "show every setting, its value and its source",
         "Reads the files anew: a daemon that runs may have older values until it starts again.\n"
         "The exit status is 1 when a file has a mistake.",
         {},
         false,
         {format_option()},
         {{"banger config show", "what holds, and why"}},
         show,
         nullptr});
    table.commands.push_back(
        {"config",
         "path",
         {},
         "show where the configuration files are",
         "",
         {},
         false,
         {format_option(), quiet_option("print the path of your own file alone")},
         {{"banger config path", "which files, and are they there?"},
          {"${EDITOR:-vi} \"$(banger config path -q)\"", "edit your own"}},
         path,
         nullptr});
}

}  // namespace banger::cli
